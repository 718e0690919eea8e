"""Blanks rectangles of pixels: what a machine burns in at a known place, in every frame.

Native pixels are not copied: what leaves is views of them with constants between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import frames
from srm_plugin_dicom.deidentify.decoding import Decoded, decode
from srm_plugin_dicom.deidentify.elements import Element
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import LITTLE, PIXEL_DATA, Syntax
from srm_plugin_dicom.deidentify.view import Part, Viewed

_SUBSAMPLED = frozenset(("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"))


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of an image, in pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of an object lie in memory (PS3.3 C.7.6.3).

    Attributes:
        pixel_bytes: of one pixel in one plane; `planes` how many of these a frame has.
        black: what a blanked pixel of a plane becomes, by plane.
    """

    rows: int
    columns: int
    pixel_bytes: int
    planes: int
    black: tuple[bytes, ...]

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return self.rows * self.columns * self.pixel_bytes

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.plane_bytes * self.planes

    @classmethod
    def of(cls, facts: Facts, photometric: str, *, planar: bool) -> Layout:
        """Return the layout of native pixels.

        Raises:
            ObjectRefused: pixels of which a rectangle is not whole bytes, or shares them with others.
        """
        allocated, samples = facts.u16(f.BITS_ALLOCATED), facts.u16(f.SAMPLES, 1)
        if allocated not in (8, 16, 32) or photometric in _SUBSAMPLED:
            raise refused(Reason.BURNED_IN)
        dark = _dark(photometric, samples, allocated, facts)
        planes = samples if planar else 1
        black = dark if planar else (b"".join(dark),)
        return cls(facts.u16(f.ROWS), facts.u16(f.COLUMNS), len(black[0]), planes, black)


def _dark(photometric: str, samples: int, allocated: int, facts: Facts) -> tuple[bytes, ...]:
    """Return the samples of a black pixel; of palettes and MONOCHROME1 it is whatever 0 stands for."""
    size = allocated // 8
    if samples == 3 and photometric.startswith("YBR_FULL"):
        neutral = (1 << allocated - 1).to_bytes(size, "little" if facts.syntax.codec.order == "<" else "big")
        return bytes(size), neutral, neutral
    return (bytes(size),) * samples


def frame(pixels: Viewed, layout: Layout, rectangles: Sequence[Rectangle]) -> Iterator[Part]:
    """Yield one frame in parts, with rectangles blanked; what is beyond its edges does not count."""
    plane_bytes = layout.plane_bytes
    for plane, black in enumerate(layout.black):
        at = start = plane * plane_bytes
        for first, stop in _runs(layout, rectangles):
            if start + first > at:
                yield pixels[at : start + first]
            yield black * ((stop - first) // layout.pixel_bytes)
            at = start + stop
        yield pixels[at : start + plane_bytes]


def _runs(layout: Layout, rectangles: Sequence[Rectangle]) -> Iterator[tuple[int, int]]:
    """Yield the bytes to blank of one plane, row by row, each byte once."""
    for row in range(layout.rows):
        spans = sorted(
            (each.left, min(each.left + each.width, layout.columns))
            for each in rectangles
            if each.top <= row < each.top + each.height
        )
        column = 0
        for first, stop in spans:
            left = max(first, column)
            if left < stop:
                base = row * layout.columns
                yield (base + left) * layout.pixel_bytes, (base + stop) * layout.pixel_bytes
                column = stop


@dataclass(frozen=True, slots=True)
class Blanked:
    """Pixel data with rectangles blanked, native, and what the header must say of them now."""

    parts: Iterator[Part]
    changes: dict[int, tuple[bytes, bytes]]


def blanked(
    element: Element, view: Viewed, facts: Facts, out: Syntax, rectangles: Sequence[Rectangle]
) -> Blanked:
    """Blank rectangles, if any, in every frame; compressed frames are decoded: no encoder decides on bytes.

    Args:
        element: the pixel data, in the encoding of `facts`.
        view: the object.
        facts: the header.
        out: what leaves; native.
        rectangles: what to blank.

    Raises:
        ObjectRefused: pixels that cannot be blanked, or do not fit their description.
    """
    if element.tag != PIXEL_DATA:
        raise refused(Reason.BURNED_IN)
    decoded = _decoded(element, view, facts)
    first = next(decoded)
    layout = Layout.of(facts, first.photometric, planar=first.planar)
    parts = _parts(chain((first,), decoded), first, layout, rectangles)
    length = layout.frame_bytes * facts.frames()
    vr = b"OB" if facts.u16(f.BITS_ALLOCATED) == 8 and out.explicit else b"OW"
    header = out.header(PIXEL_DATA, vr, length + (length & 1))
    changes = {f.PHOTOMETRIC: (b"CS", first.photometric.encode("ascii"))}
    if rectangles:
        changes[f.BURNED_IN] = (b"CS", b"NO")
    if facts.u16(f.SAMPLES, 1) > 1:
        changes[f.PLANAR] = (b"US", out.codec.u16.pack(int(first.planar)))
    return Blanked(chain((header,), parts, (b"\0" * (length & 1),)), changes)


def _parts(
    decoded: Iterable[Decoded], like: Decoded, layout: Layout, rectangles: Sequence[Rectangle]
) -> Iterator[Part]:
    for each in decoded:
        if (each.photometric, each.planar) != (like.photometric, like.planar):
            raise refused(Reason.PIXELS)
        yield from frame(each.pixels, layout, rectangles)


def _decoded(element: Element, view: Viewed, facts: Facts) -> Iterator[Decoded]:
    syntax = facts.syntax
    if syntax.pixels:
        for stream in frames.streams(element, view, facts, syntax):
            yield decode(stream, facts)
        return
    if syntax.codec is not LITTLE and facts.u16(f.BITS_ALLOCATED) == 8:
        raise refused(Reason.BURNED_IN)  # bytes of words lie in pairs there
    pixels = frames.Native.of(element, facts, syntax).pixels(element, view)
    size = len(pixels) // max(facts.frames(), 1)
    photometric, planar = facts.word(f.PHOTOMETRIC), facts.u16(f.PLANAR) == 1
    for at in range(0, size * facts.frames(), size):
        yield Decoded(pixels[at : at + size], photometric, planar and facts.u16(f.SAMPLES, 1) > 1)
