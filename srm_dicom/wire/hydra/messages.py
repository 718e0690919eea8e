"""Hydra's messages: rpc/literal SOAP 1.1, written and read by the contract, for both sides.

A call is ``<m:operation>`` with one unqualified child a parameter, its answer ``<m:operationResponse>``
with ``<operationReturn>``; lists are ``<item>`` elements; a fault's detail is
``<fault xsi:type="t:...Exception">``. Finding the body entry in bytes that a stranger sent is the work of
`soap.envelope`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from lxml import etree

from srm_dicom.errors import CallerError, InvalidRequest, MdmError
from srm_dicom.wire.hydra.contract import EXCEPTION_OF, OPERATIONS, SERVICE, TYPES, Operation, Wire, error_of

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
CONTENT_TYPE = "text/xml; charset=utf-8"


_OPERATION_OF = {f"{{{SERVICE}}}{name}": operation for name, operation in OPERATIONS.items()}


def request(name: str, *arguments: object) -> bytes:
    """Return the envelope of a call."""
    operation = OPERATIONS[name]
    parts = zip(operation.parameters.items(), arguments, strict=True)
    return _envelope(name, [(part, kind, value) for (part, kind), value in parts])


def response(name: str, result: object) -> bytes:
    """Return the envelope of an answer."""
    returns = OPERATIONS[name].returns
    return _envelope(f"{name}Response", [(f"{name}Return", returns, result)] if returns else [])


def fault(error: MdmError) -> bytes:
    """Return the envelope of a fault."""
    code = "soapenv:Client" if isinstance(error, CallerError) else "soapenv:Server"
    exception, message = EXCEPTION_OF[type(error)], _write_text(error.message)
    detail = f'<detail><fault xsi:type="t:{exception}"><message>{message}</message></fault></detail>'
    told = f"<faultcode>{code}</faultcode><faultstring>{message}</faultstring>{detail}"
    return _enveloped(f"<soapenv:Fault>{told}</soapenv:Fault>")


def read_request(entry: etree._Element) -> tuple[Operation, list[Any]]:
    """Return the operation that a body entry calls, and its arguments.

    Raises:
        InvalidRequest: no such operation, or an argument that is not of its type.
    """
    operation = _OPERATION_OF.get(entry.tag)
    if operation is None:
        raise InvalidRequest("this service has no such operation")
    return operation, [_child(entry, part, kind) for part, kind in operation.parameters.items()]


def read_response(name: str, entry: etree._Element) -> Any:
    """Return what an operation answered.

    Raises:
        MdmError: what the service's fault stands for.
        InvalidRequest: not an answer to this operation.
    """
    if entry.tag == f"{{{SOAP}}}Fault":
        detail = entry.find("detail/fault")
        exception = "" if detail is None else (detail.get(f"{{{XSI}}}type") or "").rpartition(":")[2]
        raise error_of(exception, entry.findtext("faultstring") or "the key server refused")
    if entry.tag.rpartition("}")[2] != f"{name}Response":
        raise InvalidRequest("the answer is to another question")
    returns = OPERATIONS[name].returns
    return _child(entry, f"{name}Return", returns) if returns else None


def _envelope(name: str, parts: list[tuple[str, Wire, object]]) -> bytes:
    content = "".join(f"<{part}>{_writer(kind)(value)}</{part}>" for part, kind, value in parts)
    return _enveloped(f"<m:{name}>{content}</m:{name}>")


def _enveloped(entry: str) -> bytes:
    return f"{HEAD}{entry}{TAIL}".encode()


HEAD = (
    "<?xml version='1.0' encoding='utf-8'?>\n"
    f'<soapenv:Envelope xmlns:soapenv="{SOAP}" xmlns:m="{SERVICE}" xmlns:t="{TYPES}" xmlns:xsi="{XSI}">'
    "<soapenv:Body>"
)
TAIL = "</soapenv:Body></soapenv:Envelope>"


# --- values --------------------------------------------------------------------------------------


@cache
def members(structure: type) -> dict[str, tuple[str, Wire]]:
    """Return the elements of a structure: element name to field name and type."""
    hints = get_type_hints(structure)
    names = (field.name for field in dataclasses.fields(structure))
    return {_camel(name): (name, hints[name]) for name in names}


@cache
def item_of(kind: Wire) -> Wire | None:
    """Return the type of a list's items, None for what is no list."""
    origin: Any = get_origin(kind)
    return get_args(kind)[0] if origin is tuple else None


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


@cache
def _writer(kind: Wire) -> Callable[[Any], str]:
    """Return what writes the content of an element of a type; found once, for calls have thousands of them.

    As text, not as a tree: a tree took three times as long, and a key server hardly does anything else.
    """
    item = item_of(kind)
    if item is not None:
        return _repeated("item", _writer(item))
    if kind is bool:
        return lambda value: "true" if value else "false"
    if kind is int:
        return str
    if dataclasses.is_dataclass(kind):
        return _structure_writer(kind)  # type: ignore[arg-type]
    return _write_text


def _repeated(name: str, write: Callable[[Any], str]) -> Callable[[Any], str]:
    start, end = f"<{name}>", f"</{name}>"
    return lambda values: "".join([f"{start}{write(one)}{end}" for one in values])


def _structure_writer(structure: type) -> Callable[[Any], str]:
    """A list inside a structure is its elements one after the other, under the member's name."""
    template, plan = "", []
    for name, (field, kind) in members(structure).items():
        item = item_of(kind)
        template += "%s" if item else f"<{name}>%s</{name}>"
        plan.append((field, _repeated(name, _writer(item)) if item else _writer(kind)))
    return lambda value: template % tuple([write(getattr(value, field)) for field, write in plan])


def _write_text(value: Any) -> str:
    text = str(value)
    if text.isascii() and not text.encode().translate(None, _PLAIN):
        return text
    text = _NOT_XML.sub("?", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")


_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b"&<>"))
"""Bytes that stand for themselves."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _child(parent: etree._Element, name: str, kind: Wire) -> Any:
    element = next((child for child in parent if child.tag == name), None)
    item = item_of(kind)
    if item is not None:
        read = _reader(item)
        return tuple(read(one) for one in (() if element is None else element.iterchildren("item")))
    if element is None:
        return kind() if dataclasses.is_dataclass(kind) else _simple(kind, "")  # type: ignore[operator]
    return _reader(kind)(element)


@cache
def _reader(kind: Wire) -> Callable[[etree._Element], Any]:
    """Return what reads an element of a type; found once, as `_writer`."""
    if dataclasses.is_dataclass(kind):
        return _structure_reader(kind)  # type: ignore[arg-type]
    if kind is str:
        return lambda element: element.text or ""
    return lambda element: _simple(kind, element.text or "")


def _simple(kind: Wire, text: str) -> Any:
    try:
        return _SIMPLE[kind](text)
    except (KeyError, ValueError) as error:
        raise InvalidRequest("an element of the message does not have the declared type") from error


def _structure_reader(structure: type) -> Callable[[etree._Element], Any]:
    plan = {
        name: (field, _reader(item_of(kind) or kind), item_of(kind) is not None)
        for name, (field, kind) in members(structure).items()
    }

    def read(element: etree._Element) -> Any:
        values: dict[str, Any] = {}
        for child in element:
            field, read_one, is_list = plan.get(child.tag, _UNKNOWN)
            if read_one is not None:
                one = read_one(child)
                values[field] = (*values.get(field, ()), one) if is_list else one
        return structure(**values)

    return read


_UNKNOWN: tuple[str, None, bool] = ("", None, False)

_SIMPLE: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: lambda text: int(text or "0"),
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False, "": False}[text.strip()],
}
