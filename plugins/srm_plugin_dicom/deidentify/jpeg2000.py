"""Walks JPEG 2000 codestreams and removes what decoding does not need (ISO 15444-1 annex A).

Comments, component registration and the optional length tables go from main and tile-part headers;
tile-part lengths are corrected. What follows the end of the codestream goes.
"""

from __future__ import annotations

from srm_plugin_dicom.deidentify.reasons import Reason, refused

SOC, SIZ, SOT, SOD, EOC = 0xFF4F, 0xFF51, 0xFF90, 0xFF93, 0xFFD9
_NEEDED = frozenset(
    (0xFF50, 0xFF51, 0xFF52, 0xFF53, 0xFF59, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF60, 0xFF61, 0xFF72,
     0xFF74, 0xFF75, 0xFF76, 0xFF77, 0xFF78, 0xFF79)
)  # fmt: skip
_REMOVED = frozenset((0xFF55, 0xFF57, 0xFF58, 0xFF63, 0xFF64))
_SOT_BYTES = 12


def clean(stream: memoryview) -> list[bytes | memoryview]:
    """Return the parts of a codestream that decoding needs, in order and without copying coded data.

    Raises:
        ObjectRefused: not a codestream (a JP2 file, for one), or a marker that is not known.
    """
    if _u16(stream, 0) != SOC:
        raise refused(Reason.STREAM, "SOC")
    header, at, marker = _header(stream, 2)
    parts: list[bytes | memoryview] = [b"\xff\x4f", *header]
    while marker == SOT:
        tile, at = _tile_part(stream, at)
        parts += tile
        marker = _u16(stream, at)
    if marker != EOC:
        raise refused(Reason.STREAM, f"marker {marker:04X}")
    return [*parts, b"\xff\xd9"]


def _header(stream: memoryview, at: int) -> tuple[list[memoryview], int, int]:
    """Return the segments to keep, and the place and code of the marker that ends a header."""
    kept: list[memoryview] = []
    while True:
        marker = _u16(stream, at)
        if marker in (SOT, SOD, EOC):
            return kept, at, marker
        stop = at + 2 + _u16(stream, at + 2)
        if stop > len(stream) or stop < at + 4:
            raise refused(Reason.STREAM, "cut")
        if marker in _NEEDED:
            kept.append(stream[at:stop])
        elif marker not in _REMOVED:
            raise refused(Reason.STREAM, f"marker {marker:04X}")
        at = stop


def _tile_part(stream: memoryview, start: int) -> tuple[list[bytes | memoryview], int]:
    if _u16(stream, start + 2) != _SOT_BYTES - 2:
        raise refused(Reason.STREAM, "SOT")
    length = int.from_bytes(stream[start + 6 : start + 10], "big")
    stop = start + length if length else _last_end(stream)
    kept, at, marker = _header(stream, start + _SOT_BYTES)
    if marker != SOD or not at < stop <= len(stream):
        raise refused(Reason.STREAM, "tile-part")
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
