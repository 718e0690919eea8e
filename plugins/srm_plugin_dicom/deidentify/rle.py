"""Walks RLE frames and keeps the runs that decoding needs (PS3.5 annex G).

Every segment is followed run by run until its pixels are complete, so that bytes between and behind
segments go; offsets are written anew.
"""

from __future__ import annotations

from struct import Struct

from srm_plugin_dicom.deidentify.reasons import Reason, refused

_HEADER = Struct("<16L")
_MOST_SEGMENTS = 15


def clean(
    frame: memoryview, segments: int, pixels: int, high: bytes = b"", sample_bytes: int = 2
) -> list[bytes | memoryview]:
    """Return a frame with its offsets anew and its segments cut to what they need.

    Args:
        frame: one encoded frame.
        segments: how many there must be: bytes of a sample times samples of a pixel.
        pixels: bytes of a segment: rows times columns, or an eighth of that for single bits.
        high: what the highest byte of a sample may be; empty if anything.
        sample_bytes: of a sample, the highest first.

    Raises:
        ObjectRefused: the frame does not describe these pixels.
    """
    if len(frame) < _HEADER.size or segments > _MOST_SEGMENTS:
        raise refused(Reason.STREAM, "RLE header")
    count, *offsets = _HEADER.unpack_from(frame, 0)
    if count != segments or offsets[:count] != sorted(offsets[:count]):
        raise refused(Reason.STREAM, "RLE header")
    parts: list[bytes | memoryview] = []
    written: list[int] = []
    at = _HEADER.size
    limits = (*offsets[1:count], len(frame))
    for index, (start, limit) in enumerate(zip(offsets[:count], limits, strict=True)):
        if start < _HEADER.size:
            raise refused(Reason.STREAM, "RLE header")
        segment = frame[start : _segment_end(frame, start, min(limit, len(frame)), pixels)]
        if high and index % sample_bytes == 0 and _literals(segment).translate(None, high):
            raise refused(Reason.UNUSED_BITS)
        filler = b"\0" if len(segment) & 1 else b""
        parts += [segment, filler]
        written.append(at)
        at += len(segment) + len(filler)
    header = _HEADER.pack(count, *written, *([0] * (_MOST_SEGMENTS - count)))
    return [header, *parts]


def _segment_end(frame: memoryview, at: int, limit: int, pixels: int) -> int:
    """Return where a segment's pixels are complete (PackBits)."""
    made = 0
    while made < pixels:
        if at >= limit:
            raise refused(Reason.STREAM, "RLE segment")
        code = frame[at]
        if code < 128:
            made += code + 1
            at += code + 2
        elif code > 128:
            made += 257 - code
            at += 2
        else:
            at += 1
    if made > pixels or at > limit:
        raise refused(Reason.STREAM, "RLE segment")
    return at


def _literals(segment: memoryview) -> bytes:
    """Return the bytes that occur in a segment's pixels, each at least once."""
    found = bytearray()
    at = 0
    while at < len(segment):
        code = segment[at]
        run = code + 1 if code < 128 else int(code > 128)
        found += segment[at + 1 : at + 1 + run]
        at += 1 + run
    return bytes(found)
