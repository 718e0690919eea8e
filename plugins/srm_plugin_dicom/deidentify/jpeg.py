"""Walks JPEG and JPEG-LS streams and keeps the segments that decoding needs (ISO 10918-1 B, 14495-1).

Comments and application segments go; three application segments change what decoders make of colours
and are written anew in their shortest form: JFIF, Adobe's APP14 and the ``mrfx`` of JPEG-LS. Tables that
nothing in the stream uses go, and what follows the end of the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from srm_plugin_dicom.deidentify import coded
from srm_plugin_dicom.deidentify.reasons import Reason, refused

SOI, EOI, SOS, DHT, DQT, DRI, LSE = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xF8
APP0, APP8, APP14, COM = 0xE0, 0xE8, 0xEE, 0xFE
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7))
_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF, 0xF7))
DAC, DNL = 0xCC, 0xDC
_NEEDED = _FRAMES | {SOS, DHT, DQT, DRI, LSE, DAC, DNL}
_APPLICATION = frozenset(range(0xE0, 0xF0))
_Segment = tuple[int, bytes]
"""A marker, and its content from the length on; of an application's no more than is looked at."""
_APPLICATION_BYTES = 18
_MOST_REMEMBERED = 16 * 1024
_LSE_PRESET_BYTES, _MOST_16 = 11, 0xFFFF
_LONGEST = {DRI: 4, DNL: 2}
_MOST_BITS = (
    16  # that a difference may have (ISO 10918-1 H.1.2.2), in the tables of DC and of lossless coding
)
_TABLES: dict[int, Callable[[bytes], int]] = {
    DQT: lambda table: 129 if table[0] >> 4 else 65,
    DHT: lambda table: 17 + sum(table[1:17]),
}
_RESTARTS = range(0xD0, 0xD8)
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_MARKER_LS = re.compile(rb"\xff+[\x80-\xfe]", re.DOTALL)


def clean(
    stream: memoryview, *, lossless_ls: bool, described: tuple[int, int, int] | None = None
) -> list[bytes | memoryview]:
    """Return the parts of a stream that decoding needs, in order and without copying entropy data.

    Args:
        stream: one frame.
        lossless_ls: it is JPEG-LS.
        described: rows, columns and samples of a pixel that it must have; none where nobody knows.

    Raises:
        ObjectRefused: the stream is not what it should be, or has a segment that is not known.
    """
    if bytes(stream[:2]) != b"\xff\xd8":
        raise refused(Reason.STREAM, "SOI")
    segments, coded_data = [], []
    for marker, content, behind in _segments(stream, _MARKER_LS if lossless_ls else _MARKER):
        segments.append((marker, bytes(content if marker in _NEEDED else content[:_APPLICATION_BYTES])))
        coded_data.append(behind)
    remembered = sum(len(content) for _, content in segments) <= _MOST_REMEMBERED
    kept, sizes = (_remembered if remembered else _decided)(*segments)
    if described is not None and any(size != described for size in sizes):
        raise refused(Reason.PIXELS, "another size")
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    for some, behind in zip(kept, coded_data, strict=True):
        parts += some
        if len(behind):
            parts.append(behind)
    return [*parts, b"\xff\xd9"]


def _decided(*segments: _Segment) -> tuple[list[list[bytes]], list[tuple[int, int, int]]]:
    """Return what stays of each segment, and the sizes that are told; frames of an image have the same.

    Raises:
        ObjectRefused: a segment is not what it should be, or not known.
    """
    for marker, content in segments:
        if marker in _NEEDED:
            _check_segment(marker, content[2:])
    used = _used(segments)
    return [_kept(*each, used) for each in segments], list(_sizes(segments))


_remembered = lru_cache(maxsize=256)(_decided)


def _segments(
    stream: memoryview, marker_of: re.Pattern[bytes]
) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield each segment's marker, its content from the length on, and the coded data behind it."""
    at = 2
    while True:
        marker, at = _marker(stream, at)
        if marker == EOI:
            return
        stop = _segment_end(stream, at)
        end = _coded_end(stream, stop, marker_of) if marker == SOS else stop
        yield marker, stream[at:stop], stream[stop:end]
        at = end


def _coded_end(stream: memoryview, start: int, marker_of: re.Pattern[bytes]) -> int:
    """Return where entropy-coded data end; of each restart interval decoders look at nothing behind it."""
    found, interval = marker_of.search(stream, start), start
    while found and stream[found.end() - 1] in _RESTARTS:
        coded.check_interval(stream[interval : found.start()])
        interval = found.end()
        found = marker_of.search(stream, interval)
    if found is None:
        raise refused(Reason.STREAM, "no EOI")
    coded.check_end(stream[start : found.start()])
    return found.start()


def _sizes(segments: Sequence[_Segment]) -> Iterator[tuple[int, int, int]]:
    """Yield rows, columns and components of each frame header (ISO 10918-1 B.2.2), as DNL corrects them."""
    lines = next((_u16(content, 2) for marker, content in segments if marker == DNL), 0)
    for marker, content in segments:
        if marker in _FRAMES:
            yield _u16(content, 3) or lines, _u16(content, 5), content[7]


def _used(segments: Sequence[_Segment]) -> frozenset[tuple[int, int]]:
    """Return the tables that are used: of quantisation and coding, each by its marker and its first byte."""
    used: set[tuple[int, int]] = set()
    lossless = any(marker in _LOSSLESS for marker, _ in segments)
    for marker, content in segments:
        body = content[2:]
        if marker in _FRAMES and not lossless:
            used.update((DQT, body[at]) for at in range(8, len(body), 3))
        elif marker == SOS:
            for selectors in body[2 : 1 + 2 * body[0] : 2]:
                used.add((DHT, selectors >> 4))
                if not lossless:
                    used.add((DHT, 0x10 | selectors & 15))
    return frozenset(used)


def _marker(stream: memoryview, at: int) -> tuple[int, int]:
    """Return the marker at a place and where it ends; fill bytes before it are skipped."""
    start = at
    while at < len(stream) and stream[at] == 0xFF:
        at += 1
    if at == start or at >= len(stream):
        raise refused(Reason.STREAM, "no marker")
    return stream[at], at + 1


def _segment_end(stream: memoryview, at: int) -> int:
    if at + 2 > len(stream):
        raise refused(Reason.STREAM, "cut")
    length = stream[at] << 8 | stream[at + 1]
    if length < 2 or at + length > len(stream):
        raise refused(Reason.STREAM, "cut")
    return at + length


def _kept(marker: int, content: bytes, used: frozenset[tuple[int, int]]) -> list[bytes]:
    if marker in _TABLES:
        tables = list(_tables(marker, content[2:]))
        kept = [
            table for table in tables if (marker, table[0] & 0x1F if marker == DHT else table[0] & 15) in used
        ]
        if len(kept) != len(tables):
            length = (2 + sum(map(len, kept))).to_bytes(2, "big")
            return [bytes((0xFF, marker)), length, *kept] if kept else []
    if marker in _NEEDED:
        return [bytes((0xFF, marker)), content]
    if marker in _APPLICATION:
        return _application(marker, content[2:])
    if marker == COM:
        return []
    raise refused(Reason.STREAM, f"marker {marker:02X}")


def _application(marker: int, body: bytes) -> list[bytes]:
    if marker == APP0 and body.startswith(b"JFIF\0"):
        return [_JFIF]
    if marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        return [b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00", body[11:12]]
    if marker == APP8 and body.startswith(b"mrfx") and len(body) >= 5:
        return [b"\xff\xe8\x00\x07mrfx", body[4:5]]
    return []


def _check_segment(marker: int, body: bytes) -> None:
    """Refuse a segment that is longer than what it holds: decoders do not look behind that."""
    expected = len(body)
    if marker in _TABLES:
        for table in _tables(marker, body):
            if marker == DHT:
                _check_codes(table)
        return
    if marker in _FRAMES:
        expected = 6 + 3 * body[5] if len(body) > 5 else -1
    elif marker == SOS:
        expected = 4 + 2 * body[0] if body else -1
    elif marker == LSE:
        expected = _LSE_PRESET_BYTES if _is_preset(body) else -1  # mapping tables are not pixels
    elif marker == DAC:
        sound = not len(body) & 1 and all(map(_is_conditioning, body[::2], body[1::2]))
        expected = len(body) if sound else -1
    elif marker in _LONGEST:
        expected = min(len(body), _LONGEST[marker])
    if expected != len(body):
        raise refused(Reason.STREAM, f"segment {marker:02X}")


def _tables(marker: int, body: bytes) -> Iterator[bytes]:
    """Yield the tables of a segment.

    Raises:
        ObjectRefused: they do not fill it.
    """
    size = _TABLES[marker]
    at = 0
    while at < len(body):
        table = body[at : at + 17]
        stop = at + size(table)
        if stop > len(body):
            raise refused(Reason.STREAM, f"segment {marker:02X}")
        yield body[at:stop]
        at = stop


def _check_codes(table: bytes) -> None:
    """Refuse a table of codes that says one thing twice, or of differences what is none (C.1, F.1.2.1)."""
    symbols = bytes(table[17:])
    differences = not table[0] >> 4
    if len(set(symbols)) != len(symbols) or (differences and max(symbols, default=0) > _MOST_BITS):
        raise refused(Reason.STREAM, "codes")


def _is_conditioning(place: int, value: int) -> bool:
    """Tell whether two bytes can be an entry of arithmetic conditioning (B.2.4.3)."""
    if place >> 4:
        return place & 0xEC == 0 and 0 < value < 64
    return place & 0xEC == 0 and value & 15 <= value >> 4


def _is_preset(body: bytes) -> bool:
    """Tell preset parameters of which each may be as it is (ISO 14495-1 C.2.4.1.1); 0 is a default."""
    if len(body) != _LSE_PRESET_BYTES or body[0] != 1:
        return False
    most, *thresholds, reset = (_u16(body, at) for at in range(1, len(body), 2))
    told = [each for each in thresholds if each]
    return told == sorted(told) and max(told, default=0) <= (most or _MOST_16) and reset <= max(255, most)


def _u16(body: bytes, at: int) -> int:
    return body[at] << 8 | body[at + 1]
