"""The WSDL of SRM v1.1, written from the contract; rpc style, encoded use, arrays as SOAP has them.

``python -m srm_dicom.srm.v1.wsdl PATH`` writes the file that lies in ``wsdl/``; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from lxml import etree

from srm_dicom.srm.v1.contract import ARRAYS, MESSAGES, SERVICE, SIGNATURES, STRUCTURE, STRUCTURES
from srm_dicom.srm.wsdl import ENCODING, HTTP, SOAP, WSDL, XSD

DEFAULT_LOCATION = "httpg://localhost:8446/srm/managerv1"
_PREFIXES: Mapping[str, str] = {
    STRUCTURES: "structures",
    ARRAYS["string"]: "strings",
    ARRAYS["long"]: "arrays",
}
_NEVER_NIL = frozenset(("int", "long", "boolean"))
_NSMAP = {
    "wsdl": WSDL,
    "soap": SOAP,
    "soapenc": ENCODING,
    "xsd": XSD,
    "srm": SERVICE,
    **{prefix: namespace for namespace, prefix in _PREFIXES.items()},
}


def document(location: str = DEFAULT_LOCATION) -> bytes:
    """Return the WSDL as UTF-8 XML.

    Args:
        location: address of the service; the only part that depends on the deployment.
    """
    root = etree.Element(f"{{{WSDL}}}definitions", nsmap=_NSMAP, name="SRMServerV1", targetNamespace=SERVICE)
    _schemas(_sub(root, "types"))
    for name, signature in SIGNATURES.items():
        request = _sub(root, "message", name=f"{name}Request")
        for part, kind in signature.parts.items():
            _sub(request, "part", name=part, type=_type(kind))
        response = _sub(root, "message", name=f"{name}Response")
        if signature.result is not None:
            _sub(response, "part", name="Result", type=_type(signature.result))
    _port_type(root)
    _binding(root)
    port = _sub(_sub(root, "service", name="SRMServerV1"), "port", name="ISRM", binding="srm:ISRM")
    etree.SubElement(port, f"{{{SOAP}}}address", location=location)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _sub(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{WSDL}}}{tag}", attrib=attributes)


def _xsd(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{XSD}}}{tag}", attrib=attributes)


def _type(kind: str) -> str:
    item = kind.removesuffix("[]")
    if item != kind:
        return f"{_PREFIXES[ARRAYS[item]]}:ArrayOf{item}"
    return f"structures:{kind}" if kind in STRUCTURE else f"xsd:{kind}"


def _schemas(types: etree._Element) -> None:
    for namespace in _PREFIXES:
        schema = _xsd(types, "schema", targetNamespace=namespace)
        for other in (ENCODING, *_PREFIXES):
            if other != namespace:
                _xsd(schema, "import", namespace=other)
        if namespace == STRUCTURES:
            _structures(schema)
        for item in (item for item, there in ARRAYS.items() if there == namespace):
            _array(schema, item)


def _structures(schema: etree._Element) -> None:
    for name, structure in STRUCTURE.items():
        holder = _xsd(schema, "complexType", name=name)
        if structure.base:
            holder = _xsd(_xsd(holder, "complexContent"), "extension", base=_type(structure.base))
        sequence = _xsd(holder, "sequence")
        for element, kind in structure.own.items():
            nillable = {} if kind in _NEVER_NIL else {"nillable": "true"}
            _xsd(sequence, "element", name=element, type=_type(kind), **nillable)


def _array(schema: etree._Element, item: str) -> None:
    array = _xsd(schema, "complexType", name=f"ArrayOf{item}")
    restriction = _xsd(_xsd(array, "complexContent"), "restriction", base="soapenc:Array")
    # In SOAP encoding the items' name means nothing; readers of schemas need one.
    items = {"minOccurs": "0", "maxOccurs": "unbounded", "nillable": "true"}
    _xsd(_xsd(restriction, "sequence"), "element", name="item", type=_type(item), **items)
    attribute = _xsd(restriction, "attribute", ref="soapenc:arrayType")
    attribute.set(f"{{{WSDL}}}arrayType", f"{_type(item)}[]")


def _port_type(root: etree._Element) -> None:
    port_type = _sub(root, "portType", name="ISRM")
    for name, signature in SIGNATURES.items():
        operation = _sub(port_type, "operation", name=name)
        if signature.parts:
            operation.set("parameterOrder", " ".join(signature.parts))
        for tag in ("input", "output"):
            message = f"{name}{'Request' if tag == 'input' else 'Response'}"
            _sub(operation, tag, name=message, message=f"srm:{message}")


def _binding(root: etree._Element) -> None:
    binding = _sub(root, "binding", name="ISRM", type="srm:ISRM")
    etree.SubElement(binding, f"{{{SOAP}}}binding", style="rpc", transport=HTTP)
    body = {"use": "encoded", "namespace": MESSAGES, "encodingStyle": ENCODING}
    for name in SIGNATURES:
        operation = _sub(binding, "operation", name=name)
        etree.SubElement(operation, f"{{{SOAP}}}operation", soapAction=name, style="rpc")
        for tag, message in (("input", f"{name}Request"), ("output", f"{name}Response")):
            etree.SubElement(_sub(operation, tag, name=message), f"{{{SOAP}}}body", attrib=body)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(document())
