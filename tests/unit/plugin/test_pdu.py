"""The upper layer: what is well-formed is understood, and nothing else raises anything but `PduError`."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_RELEASE_RP, P_DATA_TF

from srm_dicom import errors
from srm_plugin_dicom import dimse, negotiation, pdu
from srm_plugin_dicom.dimse import Command, CommandField, Status
from srm_plugin_dicom.pdu import AbortReason, ContextAnswer, PduError, ProposedContext, Rejection
from srm_plugin_dicom.status import STORE_STATUS

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.70"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(number: int, abstract: str, *transfer: str) -> bytes:
    syntaxes = b"".join(item(0x40, syntax.encode()) for syntax in transfer)
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, abstract.encode()) + syntaxes)


def request(*contexts: bytes, version: int = 1) -> bytes:
    head = struct.pack(">HH16s16s32x", version, 0, b"MDM1".ljust(16), b"PACS".ljust(16))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    return head + item(0x10, b"1.2.840.10008.3.1.1.1") + b"".join(contexts) + user


def test_an_association_request() -> None:
    parsed = pdu.parse_associate_request(request(context(1, CT, EXPLICIT, JPEG)))
    assert (parsed.called, parsed.calling, parsed.protocol_version) == ("MDM1", "PACS", 1)
    assert parsed.contexts == (ProposedContext(1, CT, (EXPLICIT, JPEG)),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        request(),
        request(context(2, CT, EXPLICIT)),
        request(context(1, CT)),
        request(context(1, "not a uid", EXPLICIT)),
        request(context(1, CT, EXPLICIT), context(1, CT, EXPLICIT)),
        request(context(1, CT, *[EXPLICIT] * 129)),
        request(context(1, CT, EXPLICIT))[:-3],
        request(context(1, CT, EXPLICIT)) + b"\x20",
    ],
)
def test_a_malformed_association_request(body: bytes) -> None:
    with pytest.raises(PduError):
        pdu.parse_associate_request(body)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_request_parser(data: bytes) -> None:
    for body in (data, request()[:68] + data):
        try:
            pdu.parse_associate_request(body)
        except PduError:
            continue


@given(st.data())
def test_no_damage_breaks_the_request_parser(data: st.DataObject) -> None:
    body = bytearray(request(context(1, CT, EXPLICIT, JPEG), context(3, CT, JPEG)))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        pdu.parse_associate_request(body)
    except PduError:
        return


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 3), st.binary(max_size=50)), min_size=1))
def test_pdvs_are_found_again(values: list[tuple[int, int, bytes]]) -> None:
    body = b"".join(struct.pack(">LBB", len(v) + 2, number, flags) + v for number, flags, v in values)
    assert [(n, f, bytes(v)) for n, f, v in pdu.pdvs(memoryview(body))] == values


@given(st.binary(max_size=100))
def test_no_bytes_break_the_pdv_parser(data: bytes) -> None:
    try:
        total = sum(6 + len(fragment) for _, _, fragment in pdu.pdvs(memoryview(data)))
    except PduError:
        return
    assert total == len(data)


def test_pynetdicom_understands_what_we_send() -> None:
    parsed = pdu.parse_associate_request(
        request(context(1, CT, EXPLICIT), context(3, "1.2.840.10008.5.1.4.1.2.2.1", EXPLICIT))
    )
    accept = A_ASSOCIATE_AC()
    accept.decode(
        pdu.encode_associate_accept(parsed, [negotiation.answer(c) for c in parsed.contexts], 262144)
    )
    assert [(c.presentation_context_id, c.result) for c in accept.presentation_context] == [(1, 0), (3, 3)]
    assert accept.user_information.maximum_length == 262144
    reject = A_ASSOCIATE_RJ()
    reject.decode(pdu.encode_associate_reject(Rejection.CALLED_TITLE))
    assert (reject.result, reject.source, reject.reason_diagnostic) == (1, 1, 7)
    abort = A_ABORT_RQ()
    abort.decode(pdu.encode_abort(AbortReason.UNEXPECTED_PDU))
    assert (abort.source, abort.reason_diagnostic) == (2, 2)
    A_RELEASE_RP().decode(pdu.encode_release_reply())
    data = P_DATA_TF()
    data.decode(pdu.encode_command(1, b"abcd"))
    assert data.presentation_data_value_items[0].presentation_data_value == b"\x03abcd"


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


def store_request(uid: bytes = b"1.2.3\0") -> bytes:
    return (
        element(0x0000, b"\0\0\0\0")
        + element(0x0002, CT.encode() + b"\0")
        + element(0x0100, b"\x01\0")
        + element(0x0110, b"\x07\0")
        + element(0x0700, b"\0\0")
        + element(0x0800, b"\0\0")
        + element(0x1000, uid)
        + element(0x1030, b"MDM1")
        + element(0x1031, b"\x09\0")
    )


def test_a_store_request() -> None:
    assert dimse.parse_command(store_request()) == Command(1, 7, True, CT, "1.2.3", 9)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        store_request()[:-1],
        element(0x0100, b"\x01\0"),
        store_request(b"../../x\0"),
        store_request() + element(0x10, b"", group=8),
    ],
)
def test_a_malformed_command(data: bytes) -> None:
    with pytest.raises(PduError):
        dimse.parse_command(data)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_command_parser(data: bytes) -> None:
    for body in (data, store_request() + data):
        try:
            dimse.parse_command(body)
        except PduError:
            continue


def test_a_response_names_its_request() -> None:
    encoded = dimse.encode_response(dimse.parse_command(store_request()), Status.OUT_OF_RESOURCES)
    answer = dimse.parse_command(encoded)
    assert answer.field == CommandField.C_STORE | dimse.RESPONSE
    assert (answer.message_id, answer.sop_class, answer.sop_instance) == (7, CT, "1.2.3")
    assert not answer.has_dataset
    assert element(0x0900, b"\0\xa7") in encoded
    own = dimse.parse_command(encoded + element(0x0110, b"\x63\0"))
    assert own.message_id == 7, "whatever id of its own some archives send beside it"
    assert struct.unpack_from("<L", encoded, 8)[0] == len(encoded) - 12


@pytest.mark.parametrize(
    ("abstract", "offered", "expected"),
    [
        (CT, (EXPLICIT,), (ContextAnswer.ACCEPTED, EXPLICIT)),
        (CT, (EXPLICIT, JPEG), (ContextAnswer.ACCEPTED, JPEG)),
        (CT, ("1.2.840.10008.1.2",), (ContextAnswer.ACCEPTED, "1.2.840.10008.1.2")),
        (CT, ("1.2.840.10008.1.2.4.999",), (ContextAnswer.ACCEPTED, "1.2.840.10008.1.2.4.999")),
        ("1.3.12.2.1107.5.9.1", (EXPLICIT,), (ContextAnswer.ACCEPTED, EXPLICIT)),
        (negotiation.VERIFICATION, (EXPLICIT,), (ContextAnswer.ACCEPTED, EXPLICIT)),
    ],
)
def test_contexts_that_are_taken(
    abstract: str, offered: tuple[str, ...], expected: tuple[ContextAnswer, str]
) -> None:
    answered = negotiation.answer(ProposedContext(1, abstract, offered))
    assert (answered.answer, answered.transfer_syntax) == expected


@pytest.mark.parametrize(
    ("abstract", "offered", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.2.2.1", (EXPLICIT,), ContextAnswer.ABSTRACT_SYNTAX),
        ("1.2.840.10008.1.20.1", (EXPLICIT,), ContextAnswer.ABSTRACT_SYNTAX),
        (CT, ("1.2.840.113619.5.2",), ContextAnswer.TRANSFER_SYNTAXES),
        (CT, ("1.2.840.10008.1.20",), ContextAnswer.TRANSFER_SYNTAXES),
    ],
)
def test_contexts_that_are_not(abstract: str, offered: tuple[str, ...], expected: ContextAnswer) -> None:
    assert negotiation.answer(ProposedContext(1, abstract, offered)).answer == expected


def test_every_error_has_a_status() -> None:
    assert set(errors.leaves()) == set(STORE_STATUS)
