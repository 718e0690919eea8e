"""The WSDL of the contract, written from `wire.hydra.contract`; rpc style, literal use, as published.

``python -m mdm_keys.wsdl PATH`` writes the file that lies in ``wsdl/``; a test holds the two together.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lxml import etree

from srm_dicom.wire.hydra.contract import (
    EXCEPTIONS,
    OPERATIONS,
    SERVICE,
    STRUCTURES,
    TYPES,
    BasicPermission,
    Operation,
    Permission,
    Wire,
)
from srm_dicom.wire.hydra.messages import item_of, members

WSDL = "http://schemas.xmlsoap.org/wsdl/"
WSDL_SOAP = "http://schemas.xmlsoap.org/wsdl/soap/"
XSD = "http://www.w3.org/2001/XMLSchema"
HTTP = "http://schemas.xmlsoap.org/soap/http"
DEFAULT_LOCATION = "https://localhost:8450/glite-data-hydra-service/services/Hydra"

_PREFIXES = {"wsdl": WSDL, "soap": WSDL_SOAP, "xsd": XSD, "m": SERVICE, "t": TYPES}
_SIMPLE = {str: "string", int: "int", bool: "boolean"}
_BASES: dict[type, type] = {Permission: BasicPermission}


def document(location: str = DEFAULT_LOCATION) -> bytes:
    """Return the WSDL as UTF-8 XML.

    Args:
        location: address of the service; the only part that depends on the deployment.
    """
    root = etree.Element(
        f"{{{WSDL}}}definitions", nsmap=_PREFIXES, name="MetadataCatalog", targetNamespace=SERVICE
    )
    types = _sub(root, WSDL, "types")
    _structures(_schema(types, TYPES, SERVICE))
    _lists(_schema(types, SERVICE, TYPES))
    for operation in OPERATIONS.values():
        _messages(root, operation)
    for exception in EXCEPTIONS:
        _sub(_sub(root, WSDL, "message", name=exception), WSDL, "part", name="fault", type=f"t:{exception}")
    _port_type(root)
    _binding(root)
    service = _sub(root, WSDL, "service", name="MetadataCatalogService")
    port = _sub(service, WSDL, "port", name="MetadataCatalog", binding="m:MetadataCatalogSoapBinding")
    _sub(port, WSDL_SOAP, "address", location=location)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _sub(parent: etree._Element, vocabulary: str, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{vocabulary}}}{tag}", attrib=attributes)


def _schema(types: etree._Element, namespace: str, other: str) -> etree._Element:
    schema = _sub(types, XSD, "schema", targetNamespace=namespace)
    _sub(schema, XSD, "import", namespace=other)
    return schema


def _structures(schema: etree._Element) -> None:
    for structure in STRUCTURES:
        inherited = members(_BASES[structure]) if structure in _BASES else {}
        parent = _sub(schema, XSD, "complexType", name=structure.__name__)
        if structure in _BASES:
            parent = _extension(parent, _BASES[structure].__name__)
        sequence = _sub(parent, XSD, "sequence")
        for name, (_, kind) in members(structure).items():
            if name not in inherited:
                _element(sequence, name, kind)
    exception = _sub(schema, XSD, "complexType", name="CatalogException")
    _element(_sub(exception, XSD, "sequence"), "message", str)
    for name in EXCEPTIONS:
        parent = _extension(_sub(schema, XSD, "complexType", name=name), "CatalogException")
        _sub(parent, XSD, "sequence")


def _extension(parent: etree._Element, base: str) -> etree._Element:
    return _sub(_sub(parent, XSD, "complexContent"), XSD, "extension", base=f"t:{base}")


def _element(sequence: etree._Element, name: str, kind: Wire) -> None:
    item = item_of(kind)
    if item is not None:
        many = {"minOccurs": "0", "maxOccurs": "unbounded"}
        _sub(sequence, XSD, "element", name=name, type=_type(item), nillable="true", **many)
    else:
        _sub(sequence, XSD, "element", name=name, type=_type(kind), nillable="true")


def _lists(schema: etree._Element) -> None:
    kinds = [
        kind
        for operation in OPERATIONS.values()
        for kind in (*operation.parameters.values(), operation.returns)
    ]
    items = {_list_name(item): item for item in map(item_of, kinds) if item is not None}
    for name, item in sorted(items.items()):
        sequence = _sub(_sub(schema, XSD, "complexType", name=name), XSD, "sequence")
        _sub(sequence, XSD, "element", name="item", type=_type(item), minOccurs="0", maxOccurs="unbounded")


def _list_name(item: type) -> str:
    return "ArrayOf_soapenc_string" if item is str else f"ArrayOf_tns1_{item.__name__}"


def _type(kind: Wire) -> str:
    item = item_of(kind)
    if item is not None:
        return f"m:{_list_name(item)}"
    return f"xsd:{_SIMPLE[kind]}" if kind in _SIMPLE else f"t:{kind.__name__}"


def _messages(root: etree._Element, operation: Operation) -> None:
    request = _sub(root, WSDL, "message", name=f"{operation.name}Request")
    for name, kind in operation.parameters.items():
        _sub(request, WSDL, "part", name=name, type=_type(kind))
    response = _sub(root, WSDL, "message", name=f"{operation.name}Response")
    if operation.returns:
        _sub(response, WSDL, "part", name=f"{operation.name}Return", type=_type(operation.returns))


def _port_type(root: etree._Element) -> None:
    port_type = _sub(root, WSDL, "portType", name="MetadataCatalog")
    for operation in OPERATIONS.values():
        element = _sub(
            port_type, WSDL, "operation", name=operation.name, parameterOrder=" ".join(operation.parameters)
        )
        _sub(element, WSDL, "input", name=f"{operation.name}Request", message=f"m:{operation.name}Request")
        _sub(element, WSDL, "output", name=f"{operation.name}Response", message=f"m:{operation.name}Response")
        for exception in EXCEPTIONS:
            _sub(element, WSDL, "fault", name=exception, message=f"m:{exception}")


def _binding(root: etree._Element) -> None:
    binding = _sub(root, WSDL, "binding", name="MetadataCatalogSoapBinding", type="m:MetadataCatalog")
    _sub(binding, WSDL_SOAP, "binding", style="rpc", transport=HTTP)
    for operation in OPERATIONS.values():
        element = _sub(binding, WSDL, "operation", name=operation.name)
        _sub(element, WSDL_SOAP, "operation", soapAction="")
        for tag, suffix in (("input", "Request"), ("output", "Response")):
            side = _sub(element, WSDL, tag, name=operation.name + suffix)
            _sub(side, WSDL_SOAP, "body", use="literal", namespace=SERVICE)
        for exception in EXCEPTIONS:
            _sub(
                _sub(element, WSDL, "fault", name=exception),
                WSDL_SOAP,
                "fault",
                name=exception,
                use="literal",
            )


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(document())
