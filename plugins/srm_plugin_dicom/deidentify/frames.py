"""Pixel data as they leave: exactly the pixels that the header describes, and nothing else.

Native pixels are cut to their length. Encapsulated ones are written as one fragment a frame with an
empty offset table (PS3.5 A.4), each stream walked and cut to what decoding needs. Nothing is decoded
and entropy-coded data are never copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from srm_plugin_dicom.deidentify import bits, jpeg, jpeg2000, part10, rle
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.elements import Element
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.paging import STEP_BYTES, forget
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import ITEM, LITTLE, PIXEL_DATA, SEQUENCE_END, UNDEFINED, Syntax
from srm_plugin_dicom.deidentify.view import Part, Viewed, joined, loaded

_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}
_MOST_FRAGMENTS = 1_000_000
_PART_2 = ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93")
_SUBSAMPLED = {"YBR_FULL_422": 2, "YBR_PARTIAL_422": 2, "YBR_PARTIAL_420": 1.5}


def native_bytes(facts: Facts, allocated: int, frames: int) -> int:
    """Return how many bytes so many frames of what a header describes have (PS3.5 8.1)."""
    pixels = facts.u16(f.ROWS) * facts.u16(f.COLUMNS) * frames
    samples = facts.u16(f.SAMPLES, 1)
    factor = _SUBSAMPLED.get(facts.word(f.PHOTOMETRIC), samples) if samples == 3 else samples
    return (int(pixels * factor * allocated) + 7) // 8


@dataclass(frozen=True, slots=True)
class Native:
    """What a header says of native pixel data; the same for every object whose header says the same.

    Attributes:
        header: what is written ahead of the pixels.
        length: bytes of the pixels; 0 if the header describes none.
        swapped: 1 where the last byte of odd pixels is the second of its word: where words are big endian
            (PS3.5 8.1.1). There the whole word is taken.
        unused_bits: whether samples have bits that must be looked at.
    """

    header: bytes
    length: int
    swapped: int
    unused_bits: bool
    facts: Facts

    @classmethod
    def of(cls, element: Element, facts: Facts, syntax: Syntax) -> Native:
        """Return what a header says of an element of pixel data."""
        allocated = _FLOAT_BITS.get(element.tag) or facts.u16(f.BITS_ALLOCATED)
        length = native_bytes(facts, allocated, facts.frames())
        vr = element.vr if element.vr in (b"OB", b"OW", b"OF", b"OD") else b"OW"
        swapped = length & 1 if vr == b"OW" and syntax.codec is not LITTLE else 0
        header = syntax.header(element.tag, vr, length + (length & 1)) if length < UNDEFINED else b""
        return cls(header, length, swapped, element.tag == PIXEL_DATA and bits.are_unused(facts), facts)

    def pixels(self, element: Element, view: Viewed) -> Viewed:
        """Return the bytes that the header describes.

        Raises:
            ObjectRefused: fewer bytes than described, or something in their unused bits.
        """
        whole = self.length + self.swapped
        if not self.length or element.items is not None or element.stop - element.value < whole:
            raise refused(Reason.PIXELS)
        pixels = view[element.value : element.value + whole]
        if self.unused_bits:
            bits.check(pixels, self.facts)
        return pixels

    def parts(self, element: Element, view: Viewed) -> list[Part]:
        """Return native pixel data, cut to what the header describes.

        Raises:
            ObjectRefused: as above.
        """
        if element.value == element.stop:
            return []  # a header whose pixels were taken out
        pixels, odd = self.pixels(element, view), self.length & 1
        if self.swapped:
            return [self.header, pixels[:-2], b"\0", pixels[-1:]]
        return [self.header, pixels, b"\0" * odd]


def native(element: Element, view: Viewed, facts: Facts, syntax: Syntax) -> list[Part]:
    """Return native pixel data (see `Native.parts`)."""
    return Native.of(element, facts, syntax).parts(element, view)


def encapsulated(element: Element, view: Viewed, facts: Facts, syntax: Syntax) -> Iterator[Part]:
    """Yield encapsulated pixel data, one walked fragment a frame.

    Raises:
        ObjectRefused: fragments that cannot be told apart into frames, or a stream that cannot be walked.
    """
    yield syntax.header(PIXEL_DATA, b"OB", UNDEFINED)
    yield syntax.item(ITEM, 0)
    for stream in streams(element, view, facts, syntax):
        length = sum(map(len, stream))
        yield syntax.item(ITEM, length + (length & 1))
        yield from stream
        yield b"\0" * (length & 1)
    yield syntax.item(SEQUENCE_END, 0)


def streams(
    element: Element, view: Viewed, facts: Facts, syntax: Syntax
) -> Iterator[list[bytes | memoryview]]:
    """Yield each frame's walked stream, in parts.

    Raises:
        ObjectRefused: fragments that cannot be told apart into frames, or a stream that cannot be walked.
    """
    if element.items is None:
        raise refused(Reason.PIXELS)
    bits.check_overlays(facts)
    table, fragments = _fragments(view, element.value)
    walked = 0
    for frame in _frames(table, fragments, facts.frames(), syntax.pixels):
        yield _clean(loaded(frame), facts, syntax)
        walked += len(frame)
        if walked > STEP_BYTES:
            walked = 0
            forget(view)


def _fragments(view: Viewed, at: int) -> tuple[bytes, list[Viewed]]:
    """Return the basic offset table and the fragments (PS3.5 A.4)."""
    found: list[Viewed] = []
    try:
        while at < len(view) or not found:  # some writers leave the delimiter out at the end of a file
            group, element, length = LITTLE.implicit.unpack(bytes(view[at : at + 8]))
            at += 8
            tag = group << 16 | element
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or length == UNDEFINED:
                raise refused(Reason.MALFORMED)
            if at + length > len(view):
                raise refused(Reason.TRUNCATED)
            if len(found) > _MOST_FRAGMENTS:
                raise refused(Reason.TOO_LARGE)
            found.append(view[at : at + length])
            at += length
    except struct.error:
        raise refused(Reason.TRUNCATED) from None
    if not found:
        raise refused(Reason.MALFORMED)
    return bytes(loaded(found[0])), found[1:]


def _frames(table: bytes, fragments: Sequence[Viewed], count: int, kind: str) -> Iterator[Viewed]:
    """Yield each frame's stream, joined only where it has several fragments."""
    if not count or len(fragments) < count:
        raise refused(Reason.PIXELS)
    if len(fragments) == count:
        yield from fragments
        return
    starts = _starts(table, fragments, count, kind)
    for first, beyond in zip(starts, (*starts[1:], len(fragments)), strict=True):
        group = fragments[first:beyond]
        yield group[0] if len(group) == 1 else joined(group)


def _starts(table: bytes, fragments: Sequence[Viewed], count: int, kind: str) -> list[int]:
    """Return the index of the first fragment of each frame."""
    if count == 1:
        return [0]
    if kind in ("jpeg", "jpeg-ls") and not table:
        starts = [i for i, fragment in enumerate(fragments) if bytes(fragment[:2]) == b"\xff\xd8"]
    else:
        offsets = {int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table), 4)}
        starts, at = [], 0
        for index, fragment in enumerate(fragments):
            if at in offsets:
                starts.append(index)
            at += 8 + len(fragment)
    if len(starts) != count or starts[0] != 0:
        raise refused(Reason.PIXELS)
    return starts


def _clean(frame: memoryview, facts: Facts, syntax: Syntax) -> list[bytes | memoryview]:
    described = facts.u16(f.ROWS), facts.u16(f.COLUMNS), facts.u16(f.SAMPLES, 1)
    if syntax.pixels == "jpeg2000":
        return jpeg2000.clean(frame, extended=syntax.uid in _PART_2, described=described)
    if syntax.pixels == "rle":
        allocated = facts.u16(f.BITS_ALLOCATED)
        sample_bytes, pixels = (allocated + 7) // 8, facts.u16(f.ROWS) * facts.u16(f.COLUMNS)
        segments = facts.u16(f.SAMPLES, 1) * sample_bytes
        pixels = (pixels + 7) // 8 if allocated == 1 else pixels
        return rle.clean(frame, segments, pixels, bits.high_bytes(facts), sample_bytes)
    if syntax.pixels in ("plain", "deflate"):
        return _plain(frame, facts, deflated=syntax.pixels == "deflate")
    return jpeg.clean(frame, lossless_ls=syntax.pixels == "jpeg-ls", described=described)


def _plain(frame: memoryview, facts: Facts, *, deflated: bool) -> list[bytes | memoryview]:
    """Return one frame of native pixels, as they are (PS3.5 A.4.11) or deflated (A.4.12)."""
    length = native_bytes(facts, facts.u16(f.BITS_ALLOCATED), 1)
    pixels = memoryview(part10.inflated(frame, 0, length + 1)) if deflated else frame
    if not length or not length <= len(pixels) <= length + 1:
        raise refused(Reason.PIXELS)
    bits.check(pixels[:length], facts)
    return part10.stored([pixels[:length]]) if deflated else [pixels[:length]]
