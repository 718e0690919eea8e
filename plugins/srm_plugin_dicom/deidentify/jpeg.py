"""Walks JPEG and JPEG-LS streams and keeps the segments that decoding needs (ISO 10918-1 B, 14495-1).

Comments and application segments go; three application segments change what decoders make of colours
and are written anew in their shortest form: JFIF, Adobe's APP14 and the ``mrfx`` of JPEG-LS. What
follows the end of the image goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from srm_plugin_dicom.deidentify import coded
from srm_plugin_dicom.deidentify.reasons import Reason, refused

SOI, EOI, SOS, DHT, DQT, DRI, LSE = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xF8
APP0, APP8, APP14, COM = 0xE0, 0xE8, 0xEE, 0xFE
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7))
_NEEDED = _FRAMES | {SOS, DHT, DQT, DRI, LSE, 0xCC, 0xDC}
_APPLICATION = frozenset(range(0xE0, 0xF0))
_LSE_PRESET_BYTES = 11
_LONGEST = {DRI: 4, 0xDC: 2, 0xCC: 32}
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_MARKER_LS = re.compile(rb"\xff+[\x80-\xfe]", re.DOTALL)


def clean(stream: memoryview, *, lossless_ls: bool) -> list[bytes | memoryview]:
    """Return the parts of a stream that decoding needs, in order and without copying entropy data.

    Raises:
        ObjectRefused: the stream is not what it should be, or has a segment that is not known.
    """
    if bytes(stream[:2]) != b"\xff\xd8":
        raise refused(Reason.STREAM, "SOI")
    marker_of = _MARKER_LS if lossless_ls else _MARKER
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    at = 2
    while True:
        marker, at = _marker(stream, at)
        if marker == EOI:
            parts.append(b"\xff\xd9")
            return parts
        stop = _segment_end(stream, at)
        parts += _kept(marker, stream, at, stop)
        at = stop
        if marker == SOS:
            found = marker_of.search(stream, stop)
            if found is None:
                raise refused(Reason.STREAM, "no EOI")
            at = found.start()
            coded.check_end(stream[stop:at])
            parts.append(stream[stop:at])


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


def _kept(marker: int, stream: memoryview, at: int, stop: int) -> list[bytes | memoryview]:
    if marker in _NEEDED:
        _check_segment(marker, stream[at + 2 : stop])
        return [b"\xff" + bytes((marker,)), stream[at:stop]]
    if marker in _APPLICATION:
        return _application(marker, bytes(stream[at + 2 : min(stop, at + 18)]))
    if marker == COM:
        return []
    raise refused(Reason.STREAM, f"marker {marker:02X}")


def _application(marker: int, body: bytes) -> list[bytes | memoryview]:
    if marker == APP0 and body.startswith(b"JFIF\0"):
        return [_JFIF]
    if marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        return [b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00", body[11:12]]
    if marker == APP8 and body.startswith(b"mrfx") and len(body) >= 5:
        return [b"\xff\xe8\x00\x07mrfx", body[4:5]]
    return []


def _check_segment(marker: int, body: memoryview) -> None:
    """Refuse a segment that is longer than what it holds: decoders do not look behind that."""
    expected = len(body)
    if marker == DQT:
        expected = _tables_end(body, lambda at: 129 if body[at] >> 4 else 65)
    elif marker == DHT:
        expected = _tables_end(body, lambda at: 17 + sum(body[at + 1 : at + 17]))
    elif marker in _FRAMES:
        expected = 6 + 3 * body[5] if len(body) > 5 else -1
    elif marker == SOS:
        expected = 4 + 2 * body[0] if body else -1
    elif marker == LSE:
        expected = _LSE_PRESET_BYTES if bytes(body[:1]) == b"\1" else -1  # mapping tables are not pixels
    elif marker in _LONGEST:
        expected = min(len(body), _LONGEST[marker])
    if expected != len(body):
        raise refused(Reason.STREAM, f"segment {marker:02X}")


def _tables_end(body: memoryview, size: Callable[[int], int]) -> int:
    at = 0
    while at < len(body):
        at += size(at)
    return at
