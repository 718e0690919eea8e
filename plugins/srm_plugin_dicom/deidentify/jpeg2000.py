"""Walks JPEG 2000 codestreams and removes what decoding does not need (ISO 15444-1 annex A).

Comments, component registration and the optional length tables go from main and tile-part headers;
tile-part lengths are corrected. What follows the end of the codestream goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from srm_plugin_dicom.deidentify import coded
from srm_plugin_dicom.deidentify.reasons import Reason, refused

SOC, SIZ, SOT, SOD, EOC = 0xFF4F, 0xFF51, 0xFF90, 0xFF93, 0xFFD9
COD, COC, QCD = 0xFF52, 0xFF53, 0xFF5C
_QUANTISED = frozenset((0xFF51, 0xFF52, 0xFF53, 0xFF5C, 0xFF5D))
_OTHERS = frozenset((0xFF50, 0xFF59, 0xFF5E, 0xFF5F, 0xFF60, 0xFF61))
_EXTENSIONS = frozenset((0xFF72, 0xFF74, 0xFF75, 0xFF76, 0xFF77, 0xFF78, 0xFF79))
_REMOVED = frozenset((0xFF55, 0xFF57, 0xFF58, 0xFF63, 0xFF64))
_SOT_BYTES = 12
_SHORTEST = {COD: 14, QCD: 6}
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"


def clean(stream: memoryview, *, extended: bool = False) -> list[bytes | memoryview]:
    """Return the parts of a codestream that decoding needs, in order and without copying coded data.

    Args:
        stream: one frame.
        extended: whether it may have the segments of part 2 of the standard.

    Raises:
        ObjectRefused: not a codestream, or a marker that is not known.
    """
    stream = _codestream(stream)
    if _u16(stream, 0) != SOC:
        raise refused(Reason.STREAM, "SOC")
    known = _QUANTISED | _OTHERS | (_EXTENSIONS if extended else frozenset())
    header, at, marker = _header(stream, 2, known)
    parts: list[bytes | memoryview] = [b"\xff\x4f", *_cut(header)]
    while marker == SOT:
        tile, at = _tile_part(stream, at, known)
        parts += tile
        misplaced, at, marker = _header(stream, at, known)
        if misplaced:
            raise refused(Reason.STREAM, "marker after the tiles")
    if marker != EOC:
        raise refused(Reason.STREAM, f"marker {marker:04X}")
    return [*parts, b"\xff\xd9"]


def _codestream(stream: memoryview) -> memoryview:
    """Return the codestream of a JP2 file, which some writers put where the bare stream belongs."""
    if bytes(stream[:12]) != _JP2:
        return stream
    at = 0
    while at + 8 <= len(stream):
        length = int.from_bytes(stream[at : at + 4], "big")
        if bytes(stream[at + 4 : at + 8]) == b"jp2c":
            return stream[at + 8 : at + length if length else len(stream)]
        at += max(length, 8)
    raise refused(Reason.STREAM, "JP2")


def _header(stream: memoryview, at: int, known: AbstractSet[int]) -> tuple[list[memoryview], int, int]:
    """Return the segments to keep, and the place and code of the marker that ends a header."""
    kept: list[memoryview] = []
    while True:
        marker = _u16(stream, at)
        if marker in (SOT, SOD, EOC):
            return kept, at, marker
        stop = at + 2 + _u16(stream, at + 2)
        if stop > len(stream) or stop < at + 4:
            raise refused(Reason.STREAM, "cut")
        if marker in known:
            if marker not in _QUANTISED:
                coded.check_segment(stream[at:stop])
            kept.append(stream[at:stop])
        elif marker not in _REMOVED:
            raise refused(Reason.STREAM, f"marker {marker:04X}")
        at = stop


def _cut(segments: list[memoryview]) -> Iterator[bytes | memoryview]:
    """Yield size, coding and quantisation segments no longer than what they hold (A.5, A.6), and the others.

    Raises:
        ObjectRefused: one of them is shorter than that.
    """
    if any(len(segment) < _SHORTEST.get(_u16(segment, 0), 4) for segment in segments):
        raise refused(Reason.STREAM, "cut")
    levels = max((segment[9] for segment in segments if _u16(segment, 0) == COD), default=0)
    own_levels = any(_u16(segment, 0) == COC for segment in segments)
    for segment in segments:
        length = _content_bytes(segment, levels)
        if length > len(segment) - 2:
            raise refused(Reason.STREAM, f"segment {_u16(segment, 0):04X}")
        if length == len(segment) - 2 or own_levels:
            yield segment
        else:
            yield bytes(segment[:2]) + length.to_bytes(2, "big") + bytes(segment[4 : 2 + length])


def _content_bytes(segment: memoryview, levels: int) -> int:
    """Return how long the content of a main header's segment is, with the length itself."""
    marker, length = _u16(segment, 0), len(segment) - 2
    if marker == SIZ:
        return 38 + 3 * _u16(segment, 38)
    if marker == COD:
        return 12 + (levels + 1 if segment[4] & 1 else 0)
    if marker == QCD:
        style = segment[4] & 31
        return 3 + (1 if style == 1 else 3 * levels + 1) * (2 if style else 1)
    return length


def _tile_part(
    stream: memoryview, start: int, known: AbstractSet[int]
) -> tuple[list[bytes | memoryview], int]:
    if _u16(stream, start + 2) != _SOT_BYTES - 2:
        raise refused(Reason.STREAM, "SOT")
    length = int.from_bytes(stream[start + 6 : start + 10], "big")
    stop = start + length if length else _last_end(stream)
    kept, at, marker = _header(stream, start + _SOT_BYTES, known)
    if marker != SOD or not at < stop <= len(stream):
        raise refused(Reason.STREAM, "tile-part")
    coded.check_end(stream[at:stop])
    removed = at - (start + _SOT_BYTES) - sum(map(len, kept))
    written = (length - removed).to_bytes(4, "big") if length else bytes(4)
    head: list[bytes | memoryview] = [
        stream[start : start + 6],
        written,
        stream[start + 10 : start + _SOT_BYTES],
    ]
    return [*head, *kept, stream[at:stop]], stop


def _last_end(stream: memoryview) -> int:
    """Return where the last tile-part ends when its length is not given: at the end of codestream."""
    end = bytes(stream).rfind(b"\xff\xd9")
    if end < 0:
        raise refused(Reason.STREAM, "no EOC")
    return end


def _u16(stream: memoryview, at: int) -> int:
    if at + 2 > len(stream):
        raise refused(Reason.STREAM, "cut")
    return stream[at] << 8 | stream[at + 1]
