"""The upper layer protocol of DICOM (PS3.8, section 9.3) as bytes in, values out; no I/O.

Both halves are here: what a requestor sends and what an acceptor answers. Everything that a length
field claims is checked against what is there before it is used, and each kind of thing has a bound. What
breaks a rule raises `PduError`, whose reason goes into the A-ABORT.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

HEADER_BYTES = 6
MAX_CONTEXTS = 128
MAX_TRANSFER_SYNTAXES = 128
COMMAND = 0x01
LAST = 0x02

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS = "2.25.139213547829746205930563411294731905417"
IMPLEMENTATION_NAME = "SRM_DICOM"

_HEADER = struct.Struct(">BxL")
_ITEM = struct.Struct(">BxH")
_FIXED = struct.Struct(">HH16s16s32x")
_PDV = struct.Struct(">LBB")
_UID = re.compile(rb"[0-9.]{1,64}\Z")


class PduType(IntEnum):
    """The seven PDUs (PS3.8, 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Reasons of a provider's A-ABORT (PS3.8, table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8, table 9-21)."""

    CALLING_TITLE = (1, 1, 3)
    CALLED_TITLE = (1, 1, 7)
    PROTOCOL_VERSION = (1, 2, 2)
    LIMIT = (2, 3, 2)


class ContextAnswer(IntEnum):
    """Result of a presentation context in the A-ASSOCIATE-AC (PS3.8, table 9-18)."""

    ACCEPTED = 0
    ABSTRACT_SYNTAX = 3
    TRANSFER_SYNTAXES = 4


class PduError(Exception):
    """The peer broke the protocol; the message never has anything that the peer sent."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as proposed: an odd id, one abstract and some transfer syntaxes."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """What the acceptor says to it; `transfer_syntax` means something only when accepted."""

    id: int
    answer: ContextAnswer
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8, 9.3.2); `raw_titles` are echoed to the letter in the answer."""

    protocol_version: int
    called: str
    calling: str
    raw_titles: bytes
    contexts: tuple[ProposedContext, ...]


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """An A-ASSOCIATE-AC (PS3.8, 9.3.3): the contexts that were accepted, the longest PDU (0: any)."""

    contexts: tuple[AnsweredContext, ...]
    max_pdu_bytes: int


def parse_header(data: memoryview | bytes) -> tuple[int, int]:
    """Return type and length of a PDU from its first six bytes."""
    kind, length = _HEADER.unpack_from(data)
    return kind, length


def parse_associate_request(body: memoryview | bytes) -> AssociateRequest:
    """Read the part of an A-ASSOCIATE-RQ that follows its header.

    Raises:
        PduError: it is not one, or has more contexts or syntaxes than an association may have.
    """
    data = bytes(body)
    if len(data) < _FIXED.size:
        raise PduError("the association request is cut short")
    version, _, called, calling = _FIXED.unpack_from(data)
    contexts: dict[int, ProposedContext] = {}
    for kind, value in _items(data[_FIXED.size :]):
        if kind == 0x20:
            context = _parse_context(value)
            if context.id in contexts:
                raise PduError("a presentation context id is used twice")
            contexts[context.id] = context
    if not contexts or len(contexts) > MAX_CONTEXTS:
        raise PduError("no presentation context, or too many")
    return AssociateRequest(version, _title(called), _title(calling), data[4:36], tuple(contexts.values()))


def parse_associate_accept(body: memoryview | bytes) -> AssociateAccept:
    """Read the part of an A-ASSOCIATE-AC that follows its header.

    Raises:
        PduError: it is not one.
    """
    data = bytes(body)
    if len(data) < _FIXED.size:
        raise PduError("the association's acceptance is cut short")
    contexts: list[AnsweredContext] = []
    max_pdu_bytes = 0
    for kind, value in _items(data[_FIXED.size :]):
        if kind == 0x21:
            contexts += _parse_answer(value)
        elif kind == 0x50:
            lengths = [item for name, item in _items(value) if name == 0x51 and len(item) == 4]
            max_pdu_bytes = int.from_bytes(lengths[0], "big") if lengths else 0
    return AssociateAccept(tuple(contexts), max_pdu_bytes)


def pdvs(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield context id, message control header and fragment of each PDV of a P-DATA-TF.

    The fragments are views of `body`, not copies.

    Raises:
        PduError: a length does not fit.
    """
    at, end = 0, len(body)
    if not end:
        raise PduError("a P-DATA-TF without a value")
    while at < end:
        if end - at < _PDV.size:
            raise PduError("a PDV is cut short")
        length, context_id, control = _PDV.unpack_from(body, at)
        if length < 2 or length > end - at - 4:
            raise PduError("the length of a PDV does not fit its PDU")
        yield context_id, control, body[at + _PDV.size : at + 4 + length]
        at += 4 + length


def encode_associate_request(
    called: str,
    calling: str,
    contexts: Sequence[ProposedContext],
    stored_to_us: Iterable[str],
    max_pdu_bytes: int,
) -> bytes:
    """Return an A-ASSOCIATE-RQ (PS3.8, 9.3.2).

    Args:
        called: AE title of the acceptor.
        calling: our own.
        contexts: at most 128.
        stored_to_us: SOP classes in which we are the SCP (PS3.7, D.3.3.4), as a C-GET needs it.
        max_pdu_bytes: longest PDU that we take.
    """
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for context in contexts:
        syntaxes = b"".join(_item(0x40, uid.encode()) for uid in context.transfer_syntaxes)
        abstract = _item(0x30, context.abstract_syntax.encode())
        items.append(_item(0x20, bytes((context.id, 0, 0, 0)) + abstract + syntaxes))
    roles = (struct.pack(">H", len(uid)) + uid.encode() + bytes((0, 1)) for uid in stored_to_us)
    user = _user_information(max_pdu_bytes, b"".join(_item(0x54, role) for role in roles))
    titles = b"".join(title.encode("ascii").ljust(16) for title in (called, calling))
    body = struct.pack(">HH", 1, 0) + titles + bytes(32) + b"".join(items) + user
    return _HEADER.pack(PduType.ASSOCIATE_RQ, len(body)) + body


def encode_associate_accept(
    request: AssociateRequest, answers: Sequence[AnsweredContext], max_pdu_bytes: int
) -> bytes:
    """Return an A-ASSOCIATE-AC (PS3.8, 9.3.3)."""
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    items += [
        _item(0x21, bytes((each.id, 0, each.answer, 0)) + _item(0x40, each.transfer_syntax.encode()))
        for each in answers
    ]
    body = struct.pack(">HH", 1, 0) + request.raw_titles + bytes(32) + b"".join(items)
    body += _user_information(max_pdu_bytes)
    return _HEADER.pack(PduType.ASSOCIATE_AC, len(body)) + body


def encode_associate_reject(rejection: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ (PS3.8, 9.3.4)."""
    return _HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, *rejection.value))


def encode_release_request() -> bytes:
    """Return an A-RELEASE-RQ (PS3.8, 9.3.6)."""
    return _HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4)


def encode_release_reply() -> bytes:
    """Return an A-RELEASE-RP (PS3.8, 9.3.7)."""
    return _HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)


def encode_abort(reason: AbortReason) -> bytes:
    """Return a provider's A-ABORT (PS3.8, 9.3.8)."""
    return _HEADER.pack(PduType.ABORT, 4) + bytes((0, 0, 2, reason))


def encode_command(context_id: int, command: bytes) -> bytes:
    """Return a P-DATA-TF with one whole command set."""
    pdv = _PDV.pack(len(command) + 2, context_id, COMMAND | LAST) + command
    return _HEADER.pack(PduType.DATA, len(pdv)) + pdv


def encode_dataset(context_id: int, dataset: bytes | memoryview, max_pdu_bytes: int) -> Iterator[bytes]:
    """Yield the P-DATA-TFs of a data set, none longer than the peer takes (0: any)."""
    room = (max_pdu_bytes or len(dataset) + _PDV.size) - _PDV.size
    if room <= 0:
        raise PduError("the peer takes no PDU that is long enough")
    for start in range(0, len(dataset), room):
        fragment = dataset[start : start + room]
        last = LAST if start + room >= len(dataset) else 0
        pdv = _PDV.pack(len(fragment) + 2, context_id, last) + fragment
        yield _HEADER.pack(PduType.DATA, len(pdv)) + pdv


def _user_information(max_pdu_bytes: int, roles: bytes = b"") -> bytes:
    items = (
        _item(0x51, struct.pack(">L", max_pdu_bytes)),
        _item(0x52, IMPLEMENTATION_CLASS.encode()),
        roles,
        _item(0x55, IMPLEMENTATION_NAME.encode()),
    )
    return _item(0x50, b"".join(items))


def _parse_answer(value: bytes) -> Iterator[AnsweredContext]:
    """Yield an accepted context, or nothing."""
    if len(value) < 4:
        raise PduError("the answer to a presentation context is malformed")
    if value[2] == ContextAnswer.ACCEPTED:
        syntaxes = [_uid(item) for kind, item in _items(value[4:]) if kind == 0x40]
        if len(syntaxes) != 1:
            raise PduError("an accepted context has not one transfer syntax")
        yield AnsweredContext(value[0], ContextAnswer.ACCEPTED, syntaxes[0])


def _parse_context(value: bytes) -> ProposedContext:
    if len(value) < 4 or not value[0] & 1:
        raise PduError("a presentation context is malformed")
    abstract, transfer = "", []
    for kind, item in _items(value[4:]):
        if kind == 0x30:
            abstract = _uid(item)
        elif kind == 0x40:
            transfer.append(_uid(item))
    if not abstract or not transfer or len(transfer) > MAX_TRANSFER_SYNTAXES:
        raise PduError("a presentation context lacks a syntax, or has too many")
    return ProposedContext(value[0], abstract, tuple(transfer))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size:
            raise PduError("an item is cut short")
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if length > len(data) - at:
            raise PduError("the length of an item does not fit its PDU")
        yield kind, data[at : at + length]
        at += length


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _uid(value: bytes) -> str:
    bare = value.rstrip(b"\0 ")
    if not _UID.match(bare):
        raise PduError("a syntax is not a UID")
    return bare.decode("ascii")


def _title(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")
