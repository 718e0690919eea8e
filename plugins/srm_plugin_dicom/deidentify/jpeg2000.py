"""Walks JPEG 2000 codestreams and removes what decoding does not need (ISO 15444-1 annex A).

Comments, component registration and the optional length tables go from main and tile-part headers;
tile-part lengths are corrected. What follows the end of the codestream goes.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import lru_cache

from srm_plugin_dicom.deidentify import coded
from srm_plugin_dicom.deidentify.reasons import Reason, refused

SOC, SIZ, SOT, SOD, EOC = 0xFF4F, 0xFF51, 0xFF90, 0xFF93, 0xFFD9
COD, COC, QCD, QCC = 0xFF52, 0xFF53, 0xFF5C, 0xFF5D
_CUT = frozenset((SIZ, COD, COC, QCD, QCC))
_SIZES = frozenset((SIZ, COD, COC))  # the steps in the others look like letters
_OTHERS = frozenset((0xFF50, 0xFF59, 0xFF5E, 0xFF5F, 0xFF60, 0xFF61))
_EXTENSIONS = frozenset((0xFF72, 0xFF74, 0xFF75, 0xFF76, 0xFF77, 0xFF78, 0xFF79))
_REMOVED = frozenset((0xFF55, 0xFF57, 0xFF58, 0xFF63, 0xFF64))
_SOT_BYTES = 12
_SHORTEST = {SIZ: 43, COD: 14, COC: 11, QCD: 6, QCC: 7}
_MOST_REMEMBERED = 16 * 1024
_FEW_COMPONENTS = 257  # fewer are numbered by one byte each
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"


def clean(
    stream: memoryview, *, extended: bool = False, described: tuple[int, int, int] | None = None
) -> list[bytes | memoryview]:
    """Return the parts of a codestream that decoding needs, in order and without copying coded data.

    Args:
        stream: one frame.
        extended: whether it may have the segments of part 2 of the standard.
        described: rows, columns and samples of a pixel that it must have; none where nobody knows.

    Raises:
        ObjectRefused: not a codestream, or a marker that is not known.
    """
    stream = _codestream(stream)
    if _u16(stream, 0) != SOC:
        raise refused(Reason.STREAM, "SOC")
    known = _CUT | _OTHERS | (_EXTENSIONS if extended else frozenset())
    header, at, marker = _header(stream, 2, known)
    if not header or _u16(header[0], 0) != SIZ:
        raise refused(Reason.STREAM, "SIZ")
    remembered = sum(map(len, header)) <= _MOST_REMEMBERED
    cut = _main(*map(bytes, header)) if remembered else _Cut(header)
    if described is not None and cut.size != described:
        raise refused(Reason.PIXELS, "another size")
    parts: list[bytes | memoryview] = [b"\xff\x4f", *cut.segments]
    while marker == SOT:
        tile, at = _tile_part(stream, at, known, cut)
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
            if marker not in _CUT:
                coded.check_segment(stream[at:stop])
            kept.append(stream[at:stop])
        elif marker not in _REMOVED:
            raise refused(Reason.STREAM, f"marker {marker:04X}")
        at = stop


class _Cut:
    """Segments of a header, those of sizes, coding and quantisation no longer than what they hold (A.5, A.6).

    Attributes:
        segments: all of them, in order.
        size: rows, columns and components of the image; those of the main header for a tile-part's.
        levels: of decomposition, the most that a component has.
    """

    def __init__(self, header: list[memoryview], main: _Cut | None = None) -> None:
        """Cut the segments of a main header, or of a tile-part's.

        Raises:
            ObjectRefused: one of them is shorter than what it holds, or has text behind that.
        """
        if any(len(segment) < _SHORTEST.get(_u16(segment, 0), 4) for segment in header):
            raise refused(Reason.STREAM, "cut")
        if main is None:
            self.size = _size(header[0])
        elif any(_u16(segment, 0) == SIZ for segment in header):
            raise refused(Reason.STREAM, "SIZ")
        else:
            self.size = main.size
        self._wide = self.size[2] >= _FEW_COMPONENTS
        levels = [self._levels(segment) for segment in header if _u16(segment, 0) in (COD, COC)]
        own = main is not None or any(_u16(segment, 0) == COC for segment in header)
        self.levels: int = max((main.levels if main else 0, *levels))
        self.segments = [self._cut(segment, own=own) for segment in header]

    def _cut(self, segment: memoryview, *, own: bool) -> bytes | memoryview:
        """Cut one; where components have levels of their own quantisation may be of fewer."""
        marker, there = _u16(segment, 0), len(segment) - 2
        length = self._content_bytes(segment, marker)
        if length > there:
            if not (own and marker in (QCD, QCC)):
                raise refused(Reason.STREAM, f"segment {marker:04X}")
            length = there
        if own and marker in (QCD, QCC):
            coded.check_segment(segment)
        if marker in _SIZES:
            coded.check_segment(segment[: 2 + length])
        if length == there:
            return segment
        return bytes(segment[:2]) + length.to_bytes(2, "big") + bytes(segment[4 : 2 + length])

    def _levels(self, segment: memoryview) -> int:
        return segment[9] if _u16(segment, 0) == COD else segment[6 + self._wide]

    def _content_bytes(self, segment: memoryview, marker: int) -> int:
        """Return how long the content of a segment is, with the length itself."""
        if marker == SIZ:
            return 38 + 3 * _u16(segment, 38)
        if marker in (COD, COC):
            fixed, style = (12, 4) if marker == COD else (9 + self._wide, 5 + self._wide)
            return fixed + (self._levels(segment) + 1 if segment[style] & 1 else 0)
        if marker in (QCD, QCC):
            at = 4 if marker == QCD else 5 + self._wide
            style = segment[at] & 31
            return at - 1 + (1 if style == 1 else 3 * self.levels + 1) * (2 if style else 1)
        return len(segment) - 2


@lru_cache(maxsize=256)
def _main(*header: bytes) -> _Cut:
    """Return the segments of a main header cut: the frames of an image have one and the same."""
    return _Cut([memoryview(each) for each in header])


def _size(segment: memoryview) -> tuple[int, int, int]:
    """Return rows, columns and components of an image (A.5.1)."""
    columns, rows, left, top = (int.from_bytes(segment[at : at + 4], "big") for at in (6, 10, 14, 18))
    return rows - top, columns - left, _u16(segment, 38)


def _tile_part(
    stream: memoryview, start: int, known: AbstractSet[int], main: _Cut
) -> tuple[list[bytes | memoryview], int]:
    if _u16(stream, start + 2) != _SOT_BYTES - 2:
        raise refused(Reason.STREAM, "SOT")
    length = int.from_bytes(stream[start + 6 : start + 10], "big")
    stop = start + length if length else _last_end(stream)
    kept, at, marker = _header(stream, start + _SOT_BYTES, known)
    if marker != SOD or not at < stop <= len(stream):
        raise refused(Reason.STREAM, "tile-part")
    coded.check_end(stream[at:stop])
    segments = _Cut(kept, main).segments if kept else []
    removed = at - (start + _SOT_BYTES) - sum(map(len, segments))
    written = (length - removed).to_bytes(4, "big") if length else bytes(4)
    head: list[bytes | memoryview] = [
        stream[start : start + 6],
        written,
        stream[start + 10 : start + _SOT_BYTES],
    ]
    return [*head, *segments, stream[at:stop]], stop


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
