"""What an SRM client writes, and how it finds the one part of what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree

from srm_dicom.client.exchange import Response
from srm_dicom.errors import InternalError
from srm_dicom.soap.envelope import SOAP_ENVELOPE
from srm_dicom.soap.faults import error_of

NAMESPACE = "http://srm.lbl.gov/StorageResourceManager"

Fields = Mapping[str, Any]
"""Element name to text, number, truth value, nested fields, or a list of these; None is left out."""


def envelope(operation: str, fields: Fields) -> bytes:
    """Return the message that calls an operation."""
    root = etree.Element(f"{{{SOAP_ENVELOPE}}}Envelope", nsmap={"soapenv": SOAP_ENVELOPE, "srm": NAMESPACE})
    body = etree.SubElement(root, f"{{{SOAP_ENVELOPE}}}Body")
    wrapper = etree.SubElement(body, f"{{{NAMESPACE}}}{operation}")
    _fill(etree.SubElement(wrapper, f"{operation}Request"), fields)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _fill(element: etree._Element, fields: Fields) -> None:
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            child = etree.SubElement(element, name)
            if isinstance(item, Mapping):
                _fill(child, item)
            else:
                child.text = str(item).lower() if isinstance(item, bool) else str(item)


def response(operation: str, answer: Response) -> etree._Element:
    """Return the one part of the response message.

    Raises:
        MdmError: there is none, for the reason that the fault or the HTTP status tells.
    """
    try:
        root = etree.fromstring(answer.body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        answer.raise_for_problem()
        raise InternalError(f"{operation} was answered by something that is not XML") from error
    part = root.find(f"{{*}}Body/{{*}}{operation}Response/{{*}}{operation}Response")
    if part is not None:
        return part
    fault = root.find("{*}Body/{*}Fault")
    if fault is None:
        raise InternalError(f"{operation} was answered by something that is no SOAP response")
    raise error_of(fault) or InternalError(f"{operation}: {fault.findtext('{*}faultstring', '')}")
