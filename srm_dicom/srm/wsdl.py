"""The WSDL of SRM v2.2, written from the contract; rpc style, encoded use, as published.

``python -m srm_dicom.srm.wsdl PATH`` writes the file that lies in ``wsdl/``; a test holds the two
together, and another proves the model equal to the published contract.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lxml import etree

from srm_dicom.srm.contract import NAMESPACE, PRIMITIVES, Contract, Field, contract

WSDL = "http://schemas.xmlsoap.org/wsdl/"
SOAP = "http://schemas.xmlsoap.org/wsdl/soap/"
XSD = "http://www.w3.org/2001/XMLSchema"
ENCODING = "http://schemas.xmlsoap.org/soap/encoding/"
HTTP = "http://schemas.xmlsoap.org/soap/http"
DEFAULT_LOCATION = "httpg://localhost:8446/srm/managerv2"
_NSMAP = {"wsdl": WSDL, "soap": SOAP, "xsd": XSD, "srm": NAMESPACE}


def document(location: str = DEFAULT_LOCATION) -> bytes:
    """Return the WSDL as UTF-8 XML.

    Args:
        location: address of the service; the only part that depends on the deployment.
    """
    model = contract()
    root = etree.Element(
        f"{{{WSDL}}}definitions", nsmap=_NSMAP, name="StorageResourceManager", targetNamespace=NAMESPACE
    )
    _schema(etree.SubElement(root, f"{{{WSDL}}}types"), model)
    for operation in model.operations:
        for message in (f"{operation}Request", f"{operation}Response"):
            part = _sub(root, "message", name=message)
            _sub(part, "part", name=message, type=f"srm:{message}")
    _port_type(root, model)
    _binding(root, model)
    _service(root, location)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _sub(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{WSDL}}}{tag}", attrib=attributes)


def _schema(parent: etree._Element, model: Contract) -> None:
    schema = etree.SubElement(parent, f"{{{XSD}}}schema", targetNamespace=NAMESPACE)
    etree.SubElement(schema, f"{{{XSD}}}import", namespace=ENCODING)
    for name, values in model.enums.items():
        simple = etree.SubElement(schema, f"{{{XSD}}}simpleType", name=name)
        restriction = etree.SubElement(simple, f"{{{XSD}}}restriction", base="xsd:string")
        for value in values:
            etree.SubElement(restriction, f"{{{XSD}}}enumeration", value=value)
    for name, fields in model.types.items():
        complex_type = etree.SubElement(schema, f"{{{XSD}}}complexType", name=name)
        sequence = etree.SubElement(complex_type, f"{{{XSD}}}sequence")
        for field in fields:
            etree.SubElement(sequence, f"{{{XSD}}}element", attrib=_element(field))


def _element(field: Field) -> dict[str, str]:
    prefix = "xsd" if field.type in PRIMITIVES else "srm"
    attributes = {"name": field.name, "type": f"{prefix}:{field.type}"}
    if field.optional:
        attributes |= {"minOccurs": "0", "maxOccurs": "1"}
    if field.many:
        attributes["maxOccurs"] = "unbounded"
    if field.nillable:
        attributes["nillable"] = "true"
    return attributes


def _port_type(root: etree._Element, model: Contract) -> None:
    port_type = _sub(root, "portType", name="ISRM")
    for name in model.operations:
        operation = _sub(port_type, "operation", name=name)
        _sub(operation, "input", name=f"{name}Request", message=f"srm:{name}Request")
        _sub(operation, "output", name=f"{name}Response", message=f"srm:{name}Response")


def _binding(root: etree._Element, model: Contract) -> None:
    binding = _sub(root, "binding", name="srmSoapBinding", type="srm:ISRM")
    etree.SubElement(binding, f"{{{SOAP}}}binding", style="rpc", transport=HTTP)
    body = {"use": "encoded", "namespace": NAMESPACE, "encodingStyle": ENCODING}
    for name in model.operations:
        operation = _sub(binding, "operation", name=name)
        etree.SubElement(operation, f"{{{SOAP}}}operation", soapAction="")
        for tag, message in (("input", f"{name}Request"), ("output", f"{name}Response")):
            etree.SubElement(_sub(operation, tag, name=message), f"{{{SOAP}}}body", attrib=body)


def _service(root: etree._Element, location: str) -> None:
    port = _sub(_sub(root, "service", name="SRMService"), "port", name="srm", binding="srm:srmSoapBinding")
    etree.SubElement(port, f"{{{SOAP}}}address", location=location)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(document())
