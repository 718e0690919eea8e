"""The WSDL that we write is, as a model, the published one: nothing more, nothing less, same order."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from srm_dicom.srm.contract import contract
from srm_dicom.srm.wsdl import ENCODING, SOAP, WSDL, XSD, document

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "reference" / "srm.v2.2.wsdl"
PUBLISHED_MODEL = "b8cb7ddbdeeb2f00e93f85cecb586f861eb90356757895c881e35cc26f11bf6b"
"""SHA-256 of the model of the published file, so that the proof also holds where the file is not at hand."""

W, S, X = f"{{{WSDL}}}", f"{{{SOAP}}}", f"{{{XSD}}}"


def qname(element: etree._Element, attribute: str) -> str:
    """Resolve a prefixed name to {namespace}local."""
    prefix, _, local = element.get(attribute, "").rpartition(":")
    return f"{{{element.nsmap[prefix]}}}{local}"


def model(text: bytes) -> dict[str, Any]:
    """Everything that a program can tell from a WSDL, but documentation and the service's address."""
    root = etree.fromstring(text)
    schema = root.find(f".//{X}schema")
    assert schema is not None
    return {
        "namespaces": [root.get("targetNamespace"), schema.get("targetNamespace"), root.get("name")],
        "form": [schema.get("elementFormDefault"), schema.get("attributeFormDefault")],
        "schema": [declaration(child) for child in schema if isinstance(child.tag, str)],
        "messages": {
            m.get("name"): [[p.get("name"), qname(p, "type")] for p in m.iter(f"{W}part")]
            for m in root.iter(f"{W}message")
        },
        "port types": [
            [t.get("name"), [[o.get("name"), [end(e) for e in o]] for o in t.iter(f"{W}operation")]]
            for t in root.iter(f"{W}portType")
        ],
        "bindings": [binding(b) for b in root.findall(f"{W}binding")],
        "services": [
            [s.get("name"), [[p.get("name"), qname(p, "binding")] for p in s.iter(f"{W}port")]]
            for s in root.iter(f"{W}service")
        ],
    }


def declaration(node: etree._Element) -> list[Any]:
    kind = etree.QName(node).localname
    if kind == "import":
        return [kind, node.get("namespace")]
    if kind == "simpleType":
        restriction = node.find(f"{X}restriction")
        assert restriction is not None
        return [kind, node.get("name"), qname(restriction, "base"), [v.get("value") for v in restriction]]
    assert [etree.QName(child).localname for child in node] == ["sequence"]
    return [kind, node.get("name"), [field(e) for e in node[0]]]


def field(element: etree._Element) -> list[Any]:
    return [
        element.get("name"),
        qname(element, "type"),
        element.get("nillable", "false"),
        element.get("minOccurs", "1"),
        element.get("maxOccurs", "1"),
        element.get("form"),
    ]


def end(element: etree._Element) -> list[str | None]:
    return [etree.QName(element).localname, element.get("name"), qname(element, "message")]


def binding(node: etree._Element) -> list[Any]:
    soap = node.find(f"{S}binding")
    assert soap is not None
    operations = [
        [
            operation.get("name"),
            [soap_operation.get("soapAction") for soap_operation in operation.iter(f"{S}operation")],
            [
                [etree.QName(e).localname, e.get("name"), sorted(e[0].attrib.items())]
                for e in operation
                if e.tag in (f"{W}input", f"{W}output")
            ],
        ]
        for operation in node.iter(f"{W}operation")
    ]
    return [node.get("name"), qname(node, "type"), soap.get("style"), soap.get("transport"), operations]


def digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def test_model_is_the_published_one() -> None:
    if PUBLISHED.exists():
        ours, theirs = model(document()), model(PUBLISHED.read_bytes())
        for part in theirs:
            assert ours[part] == theirs[part], part
        assert digest(theirs) == PUBLISHED_MODEL
    assert digest(model(document())) == PUBLISHED_MODEL


def test_numbers_of_the_standard() -> None:
    ours = model(document())
    kinds = [d[0] for d in ours["schema"]]
    assert (kinds.count("simpleType"), kinds.count("complexType")) == (12, 123)
    assert len(ours["port types"][0][1]) == len(contract().operations) == 39
    assert all(ENCODING in str(b) and "'encoded'" in str(b) for b in ours["bindings"])


def test_committed_file_is_what_the_code_writes() -> None:
    assert (ROOT / "wsdl" / "srm.v2.2.wsdl").read_bytes() == document()


@pytest.mark.parametrize(
    "damage",
    [
        (b'<xsd:enumeration value="SRM_DONE"/>', b""),
        (b'name="explanation" type="xsd:string" minOccurs="0"', b'name="explanation" type="xsd:string"'),
        (b'style="rpc"', b'style="document"'),
        (b'soapAction=""', b'soapAction="Ls"'),
    ],
)
def test_the_comparison_sees_a_difference(damage: tuple[bytes, bytes]) -> None:
    before, after = damage
    text = document()
    assert before in text
    assert digest(model(text.replace(before, after, 1))) != PUBLISHED_MODEL
