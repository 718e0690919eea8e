"""What is read without a parser means what a parser reads; whatever does not fit is left to one."""

from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest, MdmError, NotFound, TooLarge
from srm_dicom.soap.envelope import body_entry
from srm_dicom.wire.hydra import messages, plain
from srm_dicom.wire.hydra.contract import OPERATIONS, KeyStatus, SharedKey

TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="&<>"), max_size=9)
ANY_TEXTS = st.one_of(TEXTS, st.text(max_size=9), st.just("]]>"), st.just("a\rb"))


def values(kind, texts):
    """Values of a type of the wire."""
    item = messages.item_of(kind)
    if item is not None:
        return st.lists(values(item, texts), max_size=3).map(tuple)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{one.name: values(hints[one.name], texts) for one in fields(kind)})
    return {str: texts, int: st.integers(-(10**9), 10**9), bool: st.booleans()}[kind]


@st.composite
def calls(draw, texts=TEXTS):
    """An operation with arguments for it, and an answer."""
    operation = OPERATIONS[draw(st.sampled_from(sorted(OPERATIONS)))]
    arguments = [draw(values(kind, texts)) for kind in operation.parameters.values()]
    return operation, arguments, draw(values(operation.returns, texts)) if operation.returns else None


def parsed(name, message):
    """What a parser makes of a message, or that it makes nothing of it."""
    try:
        entry = body_entry(message)
        return messages.read_response(name, entry) if name else messages.read_request(entry)
    except (InvalidRequest, TooLarge) as error:
        return type(error)


@given(calls())
def test_every_message_of_plain_values_is_read_as_it_was_meant(call):
    operation, arguments, answer = call
    assert plain.read_request(messages.request(operation.name, *arguments)) == (operation, arguments)
    if operation.returns:
        assert plain.read_response(operation.name, messages.response(operation.name, answer)) == [answer]


@given(calls(ANY_TEXTS))
def test_of_any_values_it_is_what_a_parser_reads_or_nothing(call):
    operation, arguments, answer = call
    request = messages.request(operation.name, *arguments)
    read = plain.read_request(request)
    assert read is None or read == parsed("", request)
    if operation.returns:
        response = messages.response(operation.name, answer)
        told = plain.read_response(operation.name, response)
        assert told is None or told == [parsed(operation.name, response)]


WHOLE = messages.response("getKeys", (KeyStatus("a", keys=(SharedKey("a", 1, "0f", "{}"),)), KeyStatus("b")))


@settings(max_examples=150)
@given(st.binary(min_size=1, max_size=4), st.integers(0, len(WHOLE)), st.integers(0, 6))
def test_a_damaged_message_is_never_read_as_something_else(damage, at, instead):
    message = WHOLE[:at] + damage + WHOLE[at + instead :]
    told = plain.read_response("getKeys", message)
    assert told is None or told == [parsed("getKeys", message)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<item>a</item>", b"<item >a</item>"),
        (b"<item>a</item>", b"<item><!-- no -->a</item>"),
        (b"<item>a</item>", b"<item>&#97;</item>"),
        (b"<item>a</item>", b"<item><![CDATA[a]]></item>"),
        (b"<item>a</item>", b"<item>\xc3\xa4</item>"),
        (b"<item>a</item>", b"<item>]]></item>"),
        (b"<index>1</index>", b"<index>one</index>"),
        (b"<index>1</index>", b""),
        (b"<isNew>false</isNew>", b"<isNew>0</isNew>"),
        (b"<getKeysReturn>", b"<getKeysReturn> "),
        (b"</m:getKeysResponse>", b"</m:getKeysResponse><x/>"),
        (b"m:getKeysResponse", b"m:putKeysResponse"),
        (b"xmlns:m", b"xmlns:n"),
        (b"<?xml version='1.0' encoding='utf-8'?>", b""),
        (b"</soapenv:Envelope>", b"</soapenv:Envelope>\n"),
    ],
)
def test_what_is_written_in_another_way_is_left_to_a_parser(old, new):
    assert old in WHOLE
    assert plain.read_response("getKeys", WHOLE.replace(old, new)) is None


def test_faults_and_answers_of_nothing_are_left_to_a_parser():
    fault = messages.fault(NotFound("no such key"))
    assert plain.read_response("getKeys", fault) is None
    with pytest.raises(MdmError):
        messages.read_response("getKeys", body_entry(fault))
    assert plain.read_response("removeEntry", messages.response("removeEntry", None)) is None
    assert plain.read_request(WHOLE) is None
    assert plain.read_request(b"") is None
