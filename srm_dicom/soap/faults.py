"""The SOAP edge of the error tree: every leaf as a SOAP 1.1 fault.

A fault says what the error says and nothing of what was sent. Its detail names the leaf, so
that our own clients can raise it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from lxml import etree

from srm_dicom.errors import CallerError, MdmError, leaves
from srm_dicom.soap.envelope import SOAP_ENVELOPE

DETAIL_NAMESPACE = "urn:srm-dicom:error"

FAULT_CODES: Mapping[type[MdmError], str] = {
    leaf: "Client" if issubclass(leaf, CallerError) else "Server" for leaf in leaves()
}
"""``faultcode`` of each leaf: whose fault it is is all that SOAP 1.1 section 4.4.1 can tell."""

_BY_NAME = {leaf.__name__: leaf for leaf in leaves()}


def fault(error: MdmError) -> bytes:
    """Return the envelope that reports an error."""
    root = etree.Element(f"{{{SOAP_ENVELOPE}}}Envelope", nsmap={"soapenv": SOAP_ENVELOPE})
    body = etree.SubElement(root, f"{{{SOAP_ENVELOPE}}}Body")
    element = etree.SubElement(body, f"{{{SOAP_ENVELOPE}}}Fault")
    etree.SubElement(element, "faultcode").text = f"soapenv:{FAULT_CODES[type(error)]}"
    etree.SubElement(element, "faultstring").text = error.message
    detail = etree.SubElement(element, "detail")
    leaf = etree.SubElement(
        detail, f"{{{DETAIL_NAMESPACE}}}error", {"name": type(error).__name__}, nsmap={"e": DETAIL_NAMESPACE}
    )
    leaf.text = error.advice
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def error_of(element: etree._Element) -> MdmError | None:
    """Read our own fault again; None for a body entry that is not one."""
    leaf = element.find(f"detail/{{{DETAIL_NAMESPACE}}}error")
    if element.tag != f"{{{SOAP_ENVELOPE}}}Fault" or leaf is None:
        return None
    found = _BY_NAME.get(leaf.get("name", ""))
    return found(element.findtext("faultstring") or "", advice=leaf.text) if found else None
