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
    exception = EXCEPTION_OF[type(error)]
    root, body = _frame()
    element = etree.SubElement(body, f"{{{SOAP}}}Fault")
    etree.SubElement(element, "faultcode").text = (
        "soapenv:Client" if isinstance(error, CallerError) else "soapenv:Server"
    )
    etree.SubElement(element, "faultstring").text = error.message
    detail = etree.SubElement(
        etree.SubElement(element, "detail"), "fault", {f"{{{XSI}}}type": f"t:{exception}"}
    )
    etree.SubElement(detail, "message").text = error.message
    return _bytes(root)


def read_request(entry: etree._Element) -> tuple[Operation, list[Any]]:
    """Return the operation that a body entry calls, and its arguments.

    Raises:
        InvalidRequest: no such operation, or an argument that is not of its type.
    """
    name = etree.QName(entry)
    operation = OPERATIONS.get(name.localname)
    if operation is None or name.namespace != SERVICE:
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
    if etree.QName(entry).localname != f"{name}Response":
        raise InvalidRequest("the answer is to another question")
    returns = OPERATIONS[name].returns
    return _child(entry, f"{name}Return", returns) if returns else None


def _frame() -> tuple[etree._Element, etree._Element]:
    root = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soapenv": SOAP, "m": SERVICE, "t": TYPES, "xsi": XSI})
    return root, etree.SubElement(root, f"{{{SOAP}}}Body")


def _envelope(name: str, parts: list[tuple[str, Wire, object]]) -> bytes:
    root, body = _frame()
    entry = etree.SubElement(body, f"{{{SERVICE}}}{name}")
    for part, kind, value in parts:
        _write(entry, part, kind, value)
    return _bytes(root)


def _bytes(root: etree._Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


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


def _write(parent: etree._Element, name: str, kind: Wire, value: Any) -> None:
    element = etree.SubElement(parent, name)
    item = item_of(kind)
    if item is not None:
        for one in value:
            _write(element, "item", item, one)
    elif kind is bool:
        element.text = "true" if value else "false"
    elif dataclasses.is_dataclass(kind):
        _write_members(element, members(kind), value)  # type: ignore[arg-type]
    else:
        element.text = _xml_text(str(value))


def _write_members(element: etree._Element, of: Mapping[str, tuple[str, Wire]], value: object) -> None:
    for name, (field, kind) in of.items():
        content = getattr(value, field)
        item = item_of(kind)
        for one in content if item is not None else (content,):
            _write(element, name, item or kind, one)


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _child(parent: etree._Element, name: str, kind: Wire) -> Any:
    element = parent.find(name)
    item = item_of(kind)
    if item is not None:
        return tuple(_read(one, item) for one in (() if element is None else element.iterchildren("item")))
    return _read(element, kind)


def _read(element: etree._Element | None, kind: Wire) -> Any:
    if dataclasses.is_dataclass(kind):
        return kind() if element is None else _structure(element, kind)  # type: ignore[arg-type, operator]
    text = "" if element is None else (element.text or "")
    try:
        return _SIMPLE[kind](text)
    except (KeyError, ValueError) as error:
        raise InvalidRequest("an element of the message does not have the declared type") from error


def _structure(element: etree._Element, structure: type) -> Any:
    values: dict[str, Any] = {}
    of = members(structure)
    for child in element.iterchildren("*"):
        name, kind = of.get(str(child.tag), ("", None))
        item = item_of(kind)
        if item is not None:
            values[name] = (*values.get(name, ()), _read(child, item))
        elif name:
            values[name] = _read(child, kind)
    return structure(**values)


_SIMPLE: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: lambda text: int(text or "0"),
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False, "": False}[text.strip()],
}
