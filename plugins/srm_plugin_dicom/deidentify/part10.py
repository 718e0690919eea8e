"""The file format around a data set (PS3.10 7.1): read with suspicion, written from scratch."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

from srm_plugin_dicom.deidentify.elements import Buffer, Limits
from srm_plugin_dicom.deidentify.profile import IMPLEMENTATION_UID, Profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LITTLE,
    LONG_VRS,
    SHORT_VRS,
    SYNTAXES,
    Syntax,
)
from srm_plugin_dicom.deidentify.values import pad

PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_META_GROUP = 0x0002
_TRANSFER_SYNTAX = 0x00020010
_STORED_BYTES = 0xFFFF
_FIRST_GROUPS = (b"\x08\0", b"\x0a\0", b"\x10\0", b"\0\x08")


@dataclass(frozen=True, slots=True)
class Opened:
    """A data set in a buffer: where it starts and how it is encoded.

    Attributes:
        syntax: what it is said to be, and what leaves; `source` how its elements are really encoded.
    """

    data: Buffer
    start: int
    syntax: Syntax
    source: Syntax


def open_object(data: Buffer, transfer_syntax: str, limits: Limits) -> Opened:
    """Find the data set in a file, or take the bytes as one; inflate it if it is deflated.

    Args:
        data: a Part 10 file, or a bare data set as it came over the network.
        transfer_syntax: of a bare data set; a file says it itself.
        limits: bounds what a deflated data set may become.

    Raises:
        ObjectRefused: a transfer syntax that cannot be walked, a broken file meta or deflate stream.
    """
    start, at = 0, meta_start(data)
    if at is not None:
        start, transfer_syntax = _read_meta(data, at)
    syntax = SYNTAXES.get(transfer_syntax) if transfer_syntax else _encoding(data, start)
    if syntax is None:
        raise refused(Reason.TRANSFER_SYNTAX)
    if syntax.deflated:
        data, start = inflated(data, start, limits.inflated_bytes), 0
    found = _encoding(data, start)
    # Writers exist that say explicit and mean implicit, or the reverse; what leaves is as it says.
    differs = found is not None and syntax.codec is LITTLE and found.explicit is not syntax.explicit
    return Opened(data, start, syntax, found if found and differs else syntax)


def meta_start(data: Buffer) -> int | None:
    """Return where file meta information starts; None in a bare data set."""
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == _MAGIC:
        return PREAMBLE_BYTES + 4
    return 0 if data[:2] == _META_GROUP.to_bytes(2, "little") else None


def looks_like_an_object(data: Buffer) -> bool:
    """Tell whether a file may be DICOM: it has the prefix, or begins with an element of a low group."""
    if bytes(data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4]) == _MAGIC:
        return True
    return bytes(data[:2]) == _META_GROUP.to_bytes(2, "little") or _encoding(data, 0) is not None


def _encoding(data: Buffer, at: int) -> Syntax | None:
    """Return how the elements of a data set are encoded, by the first of them; None if it is none."""
    head = bytes(data[at : at + 8])
    if head[:2] not in _FIRST_GROUPS or len(head) < 8:
        return None
    if head[4:6] in SHORT_VRS or head[4:6] in LONG_VRS:
        return EXPLICIT_LITTLE if head[0] else EXPLICIT_BIG
    length = int.from_bytes(head[4:8], "little")
    return IMPLICIT_LITTLE if head[0] and at + 8 + length <= len(data) else None


def _read_meta(data: Buffer, at: int) -> tuple[int, str]:
    """Return where the data set starts, and its transfer syntax."""
    transfer_syntax = ""
    try:
        while at < len(data):
            group, element, vr, length = LITTLE.explicit.unpack_from(data, at)
            if group != _META_GROUP:
                break
            value = at + 8
            if vr in LONG_VRS:
                (length,) = LITTLE.u32.unpack_from(data, value)
                value += 4
            at = value + length
            if group << 16 | element == _TRANSFER_SYNTAX:
                transfer_syntax = bytes(data[value:at]).rstrip(b" \0").decode("ascii", "replace")
    except struct.error:
        raise refused(Reason.TRUNCATED) from None
    return at, transfer_syntax


def inflated(data: Buffer, start: int, most: int) -> bytes:
    """Return what a deflate stream (RFC 1951) stands for.

    Raises:
        ObjectRefused: broken, cut, or more than `most` bytes.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(memoryview(data)[start:], most)
    except zlib.error:
        raise refused(Reason.MALFORMED) from None
    if inflater.unconsumed_tail:
        raise refused(Reason.TOO_LARGE)
    if not inflater.eof:
        raise refused(Reason.TRUNCATED)
    return plain


def file_meta(sop_class: bytes, instance: bytes, syntax: Syntax, profile: Profile) -> bytes:
    """Return preamble, prefix and file meta information of an object that leaves.

    The implementation version name is the profile's, so that the bytes never depend on the program's.
    """
    instance = pad(instance, b"\0")
    before, behind = _meta_around(sop_class, len(instance), syntax.uid, profile)
    return before + instance + behind


@lru_cache(maxsize=256)
def _meta_around(sop_class: bytes, instance_bytes: int, syntax: str, profile: Profile) -> tuple[bytes, bytes]:
    """Return preamble, prefix and file meta information before and behind the instance's UID."""
    name = str(profile)[:16]
    before = (
        _meta(0x0001, b"OB", b"\0\1")
        + _meta(0x0002, b"UI", pad(sop_class, b"\0"))
        + EXPLICIT_LITTLE.header(_META_GROUP << 16 | 0x0003, b"UI", instance_bytes)
    )
    behind = (
        _meta(0x0010, b"UI", pad(syntax.encode("ascii"), b"\0"))
        + _meta(0x0012, b"UI", pad(IMPLEMENTATION_UID, b"\0"))
        + _meta(0x0013, b"SH", pad(name.encode("ascii")))
    )
    length = _meta(0x0000, b"UL", LITTLE.u32.pack(len(before) + instance_bytes + len(behind)))
    return b"".join((bytes(PREAMBLE_BYTES), _MAGIC, length, before)), behind


def _meta(element: int, vr: bytes, value: bytes) -> bytes:
    return EXPLICIT_LITTLE.header(_META_GROUP << 16 | element, vr, len(value)) + value


def stored(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return a deflate stream of stored blocks (RFC 1951 3.2.4): its bytes depend on no compressor."""
    size = sum(map(len, parts))
    out: list[bytes | memoryview] = []
    room = 0
    for part in parts:
        view, at = memoryview(part), 0
        while at < len(view):
            if not room:
                room = min(size, _STORED_BYTES)
                size -= room
                out.append(_block_header(room, last=not size))
            taken = min(room, len(view) - at)
            out.append(view[at : at + taken])
            at += taken
            room -= taken
    return out


def _block_header(length: int, *, last: bool) -> bytes:
    return bytes((int(last),)) + LITTLE.tag.pack(length, length ^ _STORED_BYTES)
