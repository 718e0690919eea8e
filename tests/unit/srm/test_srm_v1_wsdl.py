"""The WSDL of SRM v1.1 that we write says of the wire what the published one says.

Names of messages and the address are not on the wire. The published file is the one that dCache served
(``managerv1.wsdl``, generated in 2002); at hand or not, its model has this digest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from srm_dicom.srm.v1.wsdl import document
from srm_dicom.srm.wsdl import ENCODING, SOAP, WSDL, XSD

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "reference" / "managerv1.wsdl"
PUBLISHED_MODEL = "9bb6988bc20a870399576add667ac41dc86effffb012149627efa74c010433d8"

W, S, X = f"{{{WSDL}}}", f"{{{SOAP}}}", f"{{{XSD}}}"


def qname(element: etree._Element, text: str) -> str:
    """Resolve a prefixed name to {namespace}local."""
    prefix, _, local = text.rpartition(":")
    return f"{{{element.nsmap[prefix or None]}}}{local}"


def model(text: bytes) -> dict[str, Any]:
    """Return what a program that speaks to the service has to know."""
    root = etree.fromstring(text)
    messages = {one.get("name"): parts(one) for one in root.iter(f"{W}message")}
    operations = [
        [
            one.get("name"),
            *(
                messages[one.find(f"{W}{end}").get("message").partition(":")[2]]
                for end in ("input", "output")
            ),
        ]
        for one in root.iterfind(f"{W}portType/{W}operation")
    ]
    return {
        "service": [root.get("targetNamespace"), root.get("name")],
        "operations": operations,
        "bindings": [binding(one) for one in root.iterfind(f"{W}binding/{W}operation")],
        "structures": dict(structure(one) for one in root.iter(f"{X}complexType") if not arrays(one)),
        "arrays": dict(array(one) for one in root.iter(f"{X}complexType") if arrays(one)),
    }


def parts(message: etree._Element) -> list[list[str]]:
    return [[one.get("name", ""), qname(one, one.get("type", ""))] for one in message.iter(f"{W}part")]


def binding(operation: etree._Element) -> list[Any]:
    (soap,) = operation.iter(f"{S}operation")
    bodies = [sorted(body.attrib.items()) for body in operation.iter(f"{S}body")]
    return [operation.get("name"), soap.get("soapAction"), soap.get("style"), bodies]


def named(node: etree._Element) -> str:
    schema = next(node.iterancestors(f"{X}schema"))
    return f"{{{schema.get('targetNamespace')}}}{node.get('name')}"


def structure(node: etree._Element) -> tuple[str, Any]:
    extension = node.find(f".//{X}extension")
    base = qname(extension, extension.get("base", "")) if extension is not None else None
    elements = [
        [one.get("name"), qname(one, one.get("type", "")), one.get("nillable", "false")]
        for one in node.iter(f"{X}element")
    ]
    return named(node), [base, elements]


def arrays(node: etree._Element) -> list[etree._Element]:
    return [one for one in node.iter(f"{X}attribute") if one.get(f"{W}arrayType")]


def array(node: etree._Element) -> tuple[str, str]:
    (attribute,) = arrays(node)
    assert qname(attribute, attribute.get("ref", "")) == f"{{{ENCODING}}}arrayType"
    return named(node), qname(attribute, attribute.get(f"{W}arrayType", ""))


def digest(text: bytes) -> str:
    return hashlib.sha256(json.dumps(model(text), sort_keys=True).encode()).hexdigest()


def test_model_is_the_published_one() -> None:
    if PUBLISHED.exists():
        ours, theirs = model(document()), model(PUBLISHED.read_bytes())
        for part in theirs:
            assert ours[part] == theirs[part], part
    assert digest(document()) == PUBLISHED_MODEL


@pytest.mark.parametrize(
    "damage",
    [
        (b'name="size" type="xsd:long"', b'name="size" nillable="true" type="xsd:long"'),
        (b'soapAction="unPin"', b'soapAction=""'),
        (b'name="arg1" type="xsd:int"', b'name="arg1" type="xsd:long"'),
        (b'wsdl:arrayType="xsd:string[]"', b'wsdl:arrayType="xsd:anyURI[]"'),
    ],
)
def test_the_comparison_sees_a_difference(damage: tuple[bytes, bytes]) -> None:
    before, after = damage
    text = document()
    assert before in text
    assert digest(text.replace(before, after, 1)) != PUBLISHED_MODEL
