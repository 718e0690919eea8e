"""A header that the whole walk has dealt with, kept so that others can be compared with it (see `plan`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import luts
from srm_plugin_dicom.deidentify.elements import Element, Limits, Reader
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.part10 import Opened, meta_start
from srm_plugin_dicom.deidentify.syntax import EXPLICIT_LITTLE, PIXEL_DATA, Syntax

MOST_BYTES = 1 << 16
_PRIVATE, _LAST_CREATOR = 0x10000, 0xFF
_AHEAD, _PIXEL_GROUP = 0, 0x7FE00000
_KIND = frozenset((f.SOP_CLASS, f.MODALITY, f.BODY_PART))
"""What tells how it is decided about an object; all else that decides may differ (see `learnt`)."""


@dataclass(frozen=True, slots=True)
class Example:
    """A header that was walked: everything up to the pixel data, with preamble and file meta information.

    Attributes:
        data: its bytes, without a gap one element after the other (`elements`, see `_ahead`).
        start: where the data set starts.
        said: the transfer syntax that was told beside the object.
        syntax, source: see `part10.Opened`.
        pixel: the pixel data, behind `data`; `pixel_head` their header up to the length.
        encoded: the bytes of each element.
        shape: what is known of each element but its value: tag, representation, length of the header.
    """

    data: bytes
    start: int
    said: str
    syntax: Syntax
    source: Syntax
    elements: tuple[Element, ...]
    encoded: tuple[bytes, ...]
    pixel: Element
    pixel_head: bytes
    shape: tuple[tuple[int, bytes, int], ...]
    facts: Facts

    @classmethod
    def of(cls, opened: Opened, said: str, elements: Sequence[Element], facts: Facts) -> Example | None:
        """Return an example; None where it would not do: too large, unordered, or without pixels."""
        *before, pixel = elements
        ahead = _ahead(facts.data, opened.start)
        if pixel.tag != PIXEL_DATA or len(facts.data) > MOST_BYTES or opened.syntax.deflated or ahead is None:
            return None
        tags = [element.tag for element in elements]
        if not before or before[-1].tag >= _PIXEL_GROUP or tags != sorted({*tags}):
            return None
        length_at = pixel.value - length_of(opened.source, pixel).size
        head = bytes(opened.data[pixel.start : length_at])
        whole = (*ahead, *before)
        shape = tuple([(tag, vr, value - start) for tag, vr, start, value, *_ in whole])
        data, syntax, source = facts.data, opened.syntax, opened.source
        encoded = tuple([data[element.start : element.stop] for element in whole])
        return cls(data, opened.start, said, syntax, source, whole, encoded, pixel, head, shape, facts)

    def has(self, element: Element) -> bool:
        """Tell whether an element is of the data set, and not ahead of it."""
        return element.start >= self.start

    def differing(self, other: Example, fixed: frozenset[int]) -> frozenset[int] | None:
        """Return the indices of elements that another example has with other values.

        Returns:
            None, if it has other elements, or others among those that must be the same (`fixed`).
        """
        if not self.has_attributes_of(other):
            return None
        mine, its = self.encoded, other.encoded
        if any(mine[index] != its[index] for index in fixed):
            return None
        return frozenset([index for index, each in enumerate(mine) if each != its[index]])

    def has_attributes_of(self, other: Example) -> bool:
        """Tell whether another example has the same elements, whatever their values."""
        mine = (self.said, self.pixel_head, self.shape, self.syntax, self.source)
        return mine == (other.said, other.pixel_head, other.shape, other.syntax, other.source)

    def fixed(self, stated: Iterable[int]) -> frozenset[int]:
        """Return the indices of elements that a plan may not let differ."""
        tags = _KIND.union(luts.TAGS, stated, (_AHEAD,))
        return frozenset(
            index
            for index, (tag, _, start, *_) in enumerate(self.elements)
            if tag in tags or start == self.start or (tag & _PRIVATE and tag & 0xFFFF <= _LAST_CREATOR)
        )


def _ahead(data: bytes, start: int) -> list[Element] | None:
    """Return what lies ahead of the data set: preamble and prefix as one element with no tag, and meta."""
    at = meta_start(data)
    if at is None:
        return [] if start == 0 else None
    try:
        found = Reader(data[:start], Limits()).data_set(at, EXPLICIT_LITTLE)
    except ObjectRefused:
        return None
    return [Element(_AHEAD, b"", 0, 0, at, None), *found] if at else found


def length_of(syntax: Syntax, element: Element) -> Struct:
    """Return how the length of an element is encoded."""
    short = syntax.explicit and element.value - element.start == 8
    return syntax.codec.u16 if short else syntax.codec.u32
