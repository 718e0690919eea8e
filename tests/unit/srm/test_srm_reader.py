"""What came in reads the same as spyne itself reads it: the captured requests, and messages made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from srm_dicom.errors import InvalidRequest
from srm_dicom.soap.compat import Application, Boolean, ComplexModel, Fault, MethodContext, ServerBase, Soap11
from srm_dicom.soap.envelope import body_entry
from srm_dicom.soap.reader import boolean, message_reader
from srm_dicom.soap.rpc import rpc_operation, rpc_service
from srm_dicom.srm.contract import NAMESPACE, contract
from srm_dicom.srm.types import T

XSI = "http://www.w3.org/2001/XMLSchema-instance"
DETAILS = "lookAtDetails"
TYPES = {f"{name}Request": (name, f"{name}Request") for name in contract().operations}
TYPES |= {f"{DETAILS}Request": (DETAILS, "srmLsResponse")}  # the one type that contains itself
TEXTS = ["", "1", " 7 ", "-3", "true", "False", "0", "é<&", "RWX", "2026-01-02T03:04:05Z", "9" * 30, "1_0"]


class Spyne(ServerBase):
    """spyne's own reading, as its WSGI server does it."""

    transport = "none"

    def __init__(self) -> None:
        operations = [
            rpc_operation(name, T[model], T.TReturnStatus, lambda *_: None) for name, model in TYPES.values()
        ]
        protocol = Soap11(validator=None, parse_xsi_type=False)
        protocol._from_unicode_handlers[Boolean] = boolean
        super().__init__(Application([rpc_service(operations)], NAMESPACE, "Spyne", protocol, Soap11()))

    def read(self, entry: etree._Element) -> Any:
        context = MethodContext(self, MethodContext.SERVER)
        context.method_request_string = entry.tag
        (context,) = self.app.in_protocol.generate_method_contexts(context)
        message = self.app.in_protocol.from_element(context, context.descriptor.in_message, entry)
        return getattr(message, f"{etree.QName(entry).localname}Request")


SPYNE = Spyne()
READERS = {name: message_reader({f"{name}Request": T[model]}) for name, model in TYPES.values()}


def shape(value: Any) -> Any:
    """Values as plain ones, without the elements that were not sent."""
    if isinstance(value, ComplexModel):
        return {
            type(value).__name__: {
                name: shape(held) for name, held in vars(value).items() if held is not None
            }
        }
    return [shape(one) for one in value] if isinstance(value, list) else value


def by_spyne(entry: etree._Element) -> Any:
    try:
        return shape(SPYNE.read(entry))
    except (Fault, ValueError, TypeError, AttributeError, KeyError):
        return InvalidRequest


def by_us(entry: etree._Element) -> Any:
    name = etree.QName(entry).localname
    try:
        return shape(getattr(READERS[name](entry), f"{name}Request"))
    except InvalidRequest:
        return InvalidRequest


def test_captured_requests_read_as_by_spyne(samples: dict[str, bytes]) -> None:
    if not samples:
        pytest.skip("the captured requests are not at hand")
    for name, body in samples.items():
        entry = body_entry(body)
        assert by_us(entry) == by_spyne(entry) != InvalidRequest, name


@st.composite
def elements(draw: st.DrawFn, name: str, type_: str, depth: int = 0) -> etree._Element:
    """An element of a type, more or less: any order, any number, any text, and what nobody knows."""
    tag = draw(st.sampled_from([name, f"{{{NAMESPACE}}}{name}"]))
    element = etree.Element(tag)
    if draw(st.integers(0, 9)) == 0:
        element.set(f"{{{XSI}}}nil", draw(st.sampled_from(["true", "1"])))
    if draw(st.integers(0, 9)) == 0:
        element.set(f"{{{XSI}}}type", "srm:somethingElse")
    element.text = draw(st.sampled_from(TEXTS))
    fields = contract().types.get(type_, ())
    if depth < 5 and fields:
        for field in draw(st.lists(st.sampled_from(fields), max_size=4)):
            element.append(draw(elements(field.name, field.type, depth + 1)))
    if draw(st.integers(0, 9)) == 0:
        etree.SubElement(element, "unheardOf").text = "1"
    return element


@pytest.mark.parametrize("part", sorted(TYPES))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_whatever_comes_reads_as_by_spyne(part: str, data: st.DataObject) -> None:
    name, model = TYPES[part]
    entry = etree.Element(f"{{{NAMESPACE}}}{name}")
    entry.extend(data.draw(st.lists(elements(part, model), max_size=2)))
    assert by_us(entry) == by_spyne(entry)


def test_nil_is_what_says_so() -> None:
    """spyne takes any value of xsi:nil for a yes, also ``false``."""
    entry = etree.Element(f"{{{NAMESPACE}}}srmLs")
    request = etree.SubElement(entry, "srmLsRequest")
    etree.SubElement(request, "count", {f"{{{XSI}}}nil": "false"}).text = "3"
    assert by_us(entry) == {"srmLsRequest": {"count": 3}}


@pytest.mark.parametrize(
    ("text", "meant"),
    [("true", True), (" True\n", True), ("1", True), ("false", False), ("\t0 ", False), ("maybe", None)],
)
def test_what_is_neither_true_nor_false_is_refused(text: str, meant: bool | None) -> None:
    """spyne takes for false whatever is not true to the letter, also `` true ``."""
    entry = etree.Element(f"{{{NAMESPACE}}}srmLs")
    request = etree.SubElement(entry, "srmLsRequest")
    etree.SubElement(request, "fullDetailedList").text = text
    read = InvalidRequest if meant is None else {"srmLsRequest": {"fullDetailedList": meant}}
    assert by_us(entry) == read
