"""Messages of SRM v1.1 in SOAP encoding, rpc style (SOAP 1.1, section 5).

spyne does not know encoded arrays, whose items may have any name; hence this. Every element that goes out
says its type, as the encoding has it, for clients that read nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from lxml import etree

from srm_dicom.errors import InvalidRequest
from srm_dicom.soap.envelope import SOAP_ENVELOPE
from srm_dicom.soap.rpc import Operation
from srm_dicom.srm.v1.contract import MESSAGES, SIGNATURES, STRUCTURE, STRUCTURES

ENCODING = "http://schemas.xmlsoap.org/soap/encoding/"
XSD = "http://www.w3.org/2001/XMLSchema"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_NSMAP = {
    "soapenv": SOAP_ENVELOPE,
    "soapenc": ENCODING,
    "xsd": XSD,
    "xsi": XSI,
    "m": MESSAGES,
    "t": STRUCTURES,
}
_MAX_DIGITS = 20
"""Of an xsd:long, and its sign."""

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Codec:
    """Reads requests and writes responses by the tables of the contract."""

    def decode(self, operation: Operation, entry: etree._Element) -> SimpleNamespace:
        """Return the arguments of a body entry; what was left out is None, or an empty list.

        Raises:
            InvalidRequest: a value is not of its type.
        """
        given = {etree.QName(child).localname: child for child in entry}
        parts = SIGNATURES[operation.name].parts
        return SimpleNamespace(**{name: _read(name, kind, given.get(name)) for name, kind in parts.items()})

    def encode(self, operation: Operation, result: Any) -> bytes:
        """Return the response envelope around the result of an operation."""
        root = etree.Element(f"{{{SOAP_ENVELOPE}}}Envelope", nsmap=_NSMAP)
        body = etree.SubElement(root, f"{{{SOAP_ENVELOPE}}}Body")
        body.set(f"{{{SOAP_ENVELOPE}}}encodingStyle", ENCODING)
        response = etree.SubElement(body, f"{{{MESSAGES}}}{operation.name}Response")
        kind = SIGNATURES[operation.name].result
        if kind is not None:
            _write(etree.SubElement(response, "Result"), kind, result)
        return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def _read(name: str, kind: str, element: etree._Element | None) -> Any:
    if kind.endswith("[]"):
        items = () if element is None else element
        return [_value(name, kind.removesuffix("[]"), item.text) for item in items]
    if element is None or element.get(f"{{{XSI}}}nil") in ("true", "1"):
        return None
    # ARC wraps even one number into an array.
    return _value(name, kind, element[0].text if len(element) else element.text)


def _value(name: str, kind: str, text: str | None) -> Any:
    try:
        return _FROM_TEXT[kind]((text or "").strip())
    except (ValueError, KeyError) as error:
        raise InvalidRequest(f"{name} is not an xsd:{kind}") from error


def _bounded(bits: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if len(text) <= _MAX_DIGITS else 1 << bits
        if not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise ValueError(text)
        return number

    return read


_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "int": _bounded(32),
    "long": _bounded(64),
    "boolean": _TRUTH.__getitem__,
}


def _write(element: etree._Element, kind: str, value: Any) -> None:
    """Fill an element with a value of the contract: a mapping for a structure, a list for an array."""
    if value is None:
        element.set(f"{{{XSI}}}nil", "true")
    elif kind.endswith("[]"):
        item = kind.removesuffix("[]")
        element.set(f"{{{XSI}}}type", "soapenc:Array")
        element.set(f"{{{ENCODING}}}arrayType", f"{_qualified(item)}[{len(value)}]")
        for one in value:
            _write(etree.SubElement(element, "item"), item, one)
    elif kind in STRUCTURE:
        element.set(f"{{{XSI}}}type", _qualified(kind))
        for name, inner in STRUCTURE[kind].elements.items():
            _write(etree.SubElement(element, name), inner, value[name])
    else:
        element.set(f"{{{XSI}}}type", _qualified(kind))
        element.text = _text(value)


def _qualified(kind: str) -> str:
    return f"t:{kind}" if kind in STRUCTURE else f"xsd:{kind}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)
