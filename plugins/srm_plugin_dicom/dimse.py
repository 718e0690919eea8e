"""Command sets of DIMSE (PS3.7, sections 6.3, 9.3 and annex E) as bytes in, values out; no I/O.

A command set is always implicit VR little endian, group 0000 only. What a storage SCP needs is read
and the rest is stepped over.
"""

from __future__ import annotations

import re
import struct
from enum import IntEnum

import msgspec

from srm_plugin_dicom.pdu import PduError

MAX_COMMAND_BYTES = 16_384

_ELEMENT = struct.Struct("<HHL")
_LENGTH = struct.Struct("<HHLL")
_ANSWER = struct.Struct("<" + 4 * "HHLH")
"""The four elements of a response that are numbers: written for every image."""

_NO_DATASET = 0x0101
_DATASET = 0x0001
_MEDIUM = 0x0000
_ZERO = b"\0\0"
_UID = re.compile(r"[0-9.]{1,64}\Z")


class CommandField(IntEnum):
    """Requests that are known by name here (PS3.7, table E.1-1)."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    C_CANCEL = 0x0FFF


RESPONSE = 0x8000


class Status(IntEnum):
    """Status codes that a storage SCP answers (PS3.7 annex C, PS3.4 table B.2-1)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    ANOTHER_OBJECT = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class Command(msgspec.Struct, frozen=True):
    """A request or response: what it is, of which object, and whether a data set follows.

    `move_id` is the message id of the C-MOVE behind a C-STORE, 0 if it is not told;
    `status` and the numbers of sub-operations are a response's.
    """

    field: int
    message_id: int
    has_dataset: bool
    sop_class: str = ""
    sop_instance: str = ""
    move_id: int = 0
    status: int = 0
    completed: int = 0
    failed: int = 0


def parse_command(data: bytes | bytearray) -> Command:
    """Read a whole command set.

    Raises:
        PduError: an element does not fit, lacks or is of another group.
    """
    elements = _elements(bytes(data))
    told = elements.get
    try:
        return Command(
            _short(elements[0x0100]),
            _short(told(0x0120, told(0x0110, b""))),
            _short(elements[0x0800]) != _NO_DATASET,
            _uid(told(0x0002, b"")),
            _uid(told(0x1000, b"")),
            _short(told(0x1031) or _ZERO),
            _short(told(0x0900, _ZERO)),
            _short(told(0x1021) or _ZERO),
            _short(told(0x1022) or _ZERO),
        )
    except KeyError:
        raise PduError("a command set lacks a mandatory element") from None


def encode_response(request: Command, status: int) -> bytes:
    """Return the command set that answers `request` (PS3.7, tables 9.3-2 and 9.3-13)."""
    sop_class = _element(0x0002, _padded(request.sop_class)) if request.sop_class else b""
    numbers = _ANSWER.pack(
        *(0, 0x0100, 2, request.field | RESPONSE),
        *(0, 0x0120, 2, request.message_id),
        *(0, 0x0800, 2, _NO_DATASET),
        *(0, 0x0900, 2, status),
    )
    instance = _element(0x1000, _padded(request.sop_instance)) if request.sop_instance else b""
    length = len(sop_class) + len(numbers) + len(instance)
    return _LENGTH.pack(0, 0x0000, 4, length) + sop_class + numbers + instance


def encode_find_request(sop_class: str, message_id: int) -> bytes:
    """Return the command set of a C-FIND-RQ, whose identifier follows (PS3.7, table 9.3-3)."""
    return _encode_request(CommandField.C_FIND, sop_class, message_id)


def encode_get_request(sop_class: str, message_id: int) -> bytes:
    """Return the command set of a C-GET-RQ, whose identifier follows (PS3.7, table 9.3-6)."""
    return _encode_request(CommandField.C_GET, sop_class, message_id)


def encode_store_request(sop_class: str, sop_instance: str, message_id: int) -> bytes:
    """Return the command set of a C-STORE-RQ, whose object follows (PS3.7, table 9.3-1)."""
    instance = _element(0x1000, _padded(sop_instance))
    return _encode_request(CommandField.C_STORE, sop_class, message_id, last=instance)


def encode_cancel_request(message_id: int) -> bytes:
    """Return the command set of a C-CANCEL-RQ for the request of that id (PS3.7, table 9.3-12)."""
    body = b"".join(
        (
            _element(0x0100, struct.pack("<H", CommandField.C_CANCEL)),
            _element(0x0120, struct.pack("<H", message_id)),
            _element(0x0800, struct.pack("<H", _NO_DATASET)),
        )
    )
    return _element(0x0000, struct.pack("<L", len(body))) + body


def encode_move_request(sop_class: str, message_id: int, destination: str) -> bytes:
    """Return the command set of a C-MOVE-RQ to an AE, whose identifier follows (PS3.7, table 9.3-9)."""
    title = destination.encode("ascii")
    return _encode_request(
        CommandField.C_MOVE, sop_class, message_id, _element(0x0600, title + b" " * (len(title) & 1))
    )


def _encode_request(
    field: CommandField, sop_class: str, message_id: int, more: bytes = b"", last: bytes = b""
) -> bytes:
    body = b"".join(
        (
            _element(0x0002, _padded(sop_class)),
            _element(0x0100, struct.pack("<H", field)),
            _element(0x0110, struct.pack("<H", message_id)),
            more,
            _element(0x0700, struct.pack("<H", _MEDIUM)),
            _element(0x0800, struct.pack("<H", _DATASET)),
            last,
        )
    )
    return _element(0x0000, struct.pack("<L", len(body))) + body


def _elements(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _ELEMENT.size:
            raise PduError("a command element is cut short")
        group, number, length = _ELEMENT.unpack_from(data, at)
        at += _ELEMENT.size
        if group or length > len(data) - at:
            raise PduError("a command element does not fit its set")
        found[number] = data[at : at + length]
        at += length
    return found


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _padded(uid: str) -> bytes:
    return uid.encode("ascii") + b"\0" * (len(uid) & 1)


def _short(value: bytes) -> int:
    if len(value) != 2:
        raise PduError("a number of a command set has not two bytes")
    return int.from_bytes(value, "little")


def _uid(value: bytes) -> str:
    text = value.decode("ascii", "replace").rstrip("\0 ")
    if text and not _UID.match(text):
        raise PduError("a UID of a command set is not one")
    return text
