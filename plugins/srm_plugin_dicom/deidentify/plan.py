"""What was made of one header serves the next one: slices of a series differ in a few values only.

A plan is learnt from headers that the whole walk has dealt with. It holds the bytes that they share, and
what became of these; of a further header it compares them, in few large steps, and has only the elements
between them walked. A header that differs anywhere else is nothing that a plan may judge. Whatever
decides about an object as a whole is among the bytes that must be shared (`facts.DECIDING`), so that what a
plan makes is what the whole walk makes, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import luts
from srm_plugin_dicom.deidentify.elements import Buffer, Element, Limits, Reader
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.part10 import Opened, meta_start
from srm_plugin_dicom.deidentify.pixels import LONGEST_CODE, mentions_head
from srm_plugin_dicom.deidentify.syntax import EXPLICIT_LITTLE, PIXEL_DATA, UNDEFINED, Syntax

MOST_BYTES = 1 << 16
_MORE_BYTES = 2048
_PRIVATE, _LAST_CREATOR = 0x10000, 0xFF
_AHEAD, _PIXEL_GROUP = 0, 0x7FE00000


@dataclass(frozen=True, slots=True)
class Example:
    """A header that was walked: everything up to the pixel data, with preamble and file meta information.

    Attributes:
        data: its bytes, without a gap one element after the other (`elements`, see `_ahead`).
        start: where the data set starts.
        said: the transfer syntax that was told beside the object.
        syntax, source: see `part10.Opened`.
        pixel: the pixel data, behind `data`; `pixel_head` their header up to the length.
    """

    data: bytes
    start: int
    said: str
    syntax: Syntax
    source: Syntax
    elements: tuple[Element, ...]
    pixel: Element
    pixel_head: bytes
    facts: Facts

    @classmethod
    def of(cls, opened: Opened, said: str, elements: Sequence[Element], facts: Facts) -> Example | None:
        """Return an example; None where it would not do: too large, unordered, or without pixels."""
        *before, pixel = elements
        ahead = _ahead(facts.data, opened.start)
        if pixel.tag != PIXEL_DATA or len(facts.data) > MOST_BYTES or opened.syntax.deflated or ahead is None:
            return None
        tags = [element.tag for element in elements]
        if not before or before[-1].tag >= _PIXEL_GROUP or any(a >= b for a, b in pairwise(tags)):
            return None
        length_at = pixel.value - _length_of(opened.source, pixel).size
        head = bytes(opened.data[pixel.start : length_at])
        whole = (*ahead, *before)
        return cls(facts.data, opened.start, said, opened.syntax, opened.source, whole, pixel, head, facts)

    def has(self, element: Element) -> bool:
        """Tell whether an element is of the data set, and not ahead of it."""
        return element.start >= self.start

    def differing(self, other: Example, fixed: frozenset[int]) -> frozenset[int] | None:
        """Return the indices of elements that another example has with other values.

        Returns:
            None, if it has other elements, or others among those that must be the same (`fixed`).
        """
        mine = (self.said, self.syntax, self.source, self.pixel_head, len(self.elements))
        if mine != (other.said, other.syntax, other.source, other.pixel_head, len(other.elements)):
            return None
        found = set()
        for index, (one, two) in enumerate(zip(self.elements, other.elements, strict=True)):
            if one.tag != two.tag or one.vr != two.vr or one.value - one.start != two.value - two.start:
                return None
            if self.data[one.start : one.stop] != other.data[two.start : two.stop]:
                found.add(index)
        return frozenset(found) if found.isdisjoint(fixed) else None

    def fixed(self, stated: Iterable[int]) -> frozenset[int]:
        """Return the indices of elements that a plan may not let differ."""
        tags = f.DECIDING.union(luts.TAGS, stated, (_AHEAD,))
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


def _length_of(syntax: Syntax, element: Element) -> Struct:
    """Return how the length of an element is encoded."""
    short = syntax.explicit and element.value - element.start == 8
    return syntax.codec.u16 if short else syntax.codec.u32


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an element: what leaves, and the tags that were met and removed in it."""

    chunk: bytes = b""
    seen: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()


class _Step(NamedTuple):
    """Bytes to compare, up to the length of the element behind them, and what is known of that.

    Attributes:
        meta_bytes: how long it was in the example, if it is file meta information; 0 in the data set.
    """

    prefix: bytes
    length: Struct
    tag: int
    vr: bytes
    header_bytes: int
    meta_bytes: int


class Followed(NamedTuple):
    """A header that a plan fits: the elements of the data set that may differ, and the pixel data.

    Attributes:
        start: where the data set starts.
    """

    header: bytes
    start: int
    elements: list[Element]
    pixel: Element


class Plan:
    """See the module.

    Attributes:
        example: the header that it was made from; `varying` the indices of its elements that differ.
        runs: what leaves ahead of each element that differs, and behind the last.
        seen: the tags of the top level and of what is shared below it; `removed` those of what is shared.
    """

    def __init__(
        self,
        example: Example,
        varying: frozenset[int],
        made: Sequence[Made],
        stated: Mapping[int, bytes],
        *,
        searched: bool,
    ) -> None:
        """Make a plan.

        Args:
            example: a header.
            varying: the indices of elements that differ from header to header.
            made: what became of each element.
            stated: encoded elements that are written, in their places, whatever stood there.
            searched: the codes of heads are looked for in all bytes of headers like this one.
        """
        self.example = example
        self.varying = varying
        self._steps = tuple(_steps(example, varying))
        self._last = example.data[max((example.elements[index].stop for index in varying), default=0) :]
        self._reach = len(example.data) + _MORE_BYTES
        shared = (*(step.prefix for step in self._steps), self._last)
        self._searched = searched
        self._mentions = any(map(mentions_head, shared))
        self._mentioned = mentions_head(example.data)
        self._meta_start = meta_start(example.data)
        self._pixel_length = _length_of(example.source, example.pixel)
        kept = [each for index, each in enumerate(made) if index not in varying]
        own = [element.tag for element in example.elements if example.has(element)]
        self.seen = frozenset((*own, PIXEL_DATA)).union(*(each.seen for each in kept))
        self.removed = frozenset[int]().union(*(each.removed for each in kept))
        self.runs = tuple(_runs(example, varying, made, stated))

    def follow(self, data: Buffer, said: str) -> Followed | None:
        """Return what differs in an object; None if the plan does not fit it."""
        if said != self.example.said:
            return None
        view = memoryview(data)
        header = bytes(view[: self._reach])
        found: list[Element] = []
        spans: list[tuple[int, int]] = []
        at, data_set, new = 0, self.example.start, tuple.__new__
        for prefix, length_of, tag, vr, header_bytes, meta_bytes in self._steps:
            value = at + len(prefix) + length_of.size
            if not header.startswith(prefix, at) or value > len(header):
                return None
            (length,) = length_of.unpack_from(header, value - length_of.size)
            start = value - header_bytes
            if length == UNDEFINED:
                element = self._undefined(header, tag, vr, start, value)
            else:
                element = new(Element, (tag, vr, start, value, value + length, None))
            if element is None or element.stop > len(header):
                return None
            at = element.stop
            spans.append((start, at))
            if meta_bytes:
                data_set += at - start - meta_bytes
            else:
                found.append(element)
        stop = at + len(self._last)
        if not header.startswith(self._last, at) or not self._reads_the_same(header[:stop], spans):
            return None
        pixel = self._pixel(view, stop)
        return Followed(header[:stop], data_set, found, pixel) if pixel else None

    def _undefined(self, header: bytes, tag: int, vr: bytes, start: int, value: int) -> Element | None:
        try:
            items, stop = Reader(header, Limits()).undefined(tag, vr, value, self.example.source)
        except ObjectRefused:
            return None
        return Element(tag, vr, start, value, stop, items)

    def _reads_the_same(self, header: bytes, spans: Sequence[tuple[int, int]]) -> bool:
        """Tell whether what is searched in the bytes of the header, and no element, would be found alike."""
        if meta_start(header) != self._meta_start:
            return False
        if not self._searched:
            return True
        mentioned = self._mentions
        for start, stop in spans:
            if mentioned:
                break
            mentioned = mentions_head(header, max(0, start - LONGEST_CODE), stop + LONGEST_CODE)
        return mentioned is self._mentioned

    def _pixel(self, view: memoryview, start: int) -> Element | None:
        """Return the pixel data as the reader does; None if they do not follow, or not whole."""
        length_at = start + len(self.example.pixel_head)
        value = length_at + self._pixel_length.size
        if view[start:length_at] != self.example.pixel_head or value > len(view):
            return None
        (length,) = self._pixel_length.unpack_from(view, length_at)
        if length == UNDEFINED:
            return Element(PIXEL_DATA, self.example.pixel.vr, start, value, len(view), ())
        stop = value + length
        return (
            Element(PIXEL_DATA, self.example.pixel.vr, start, value, stop, None)
            if stop <= len(view)
            else None
        )


def _steps(example: Example, varying: frozenset[int]) -> Iterator[_Step]:
    begin = 0
    for index in sorted(varying):
        tag, vr, start, value, stop, _ = element = example.elements[index]
        inside = example.has(element)
        length = _length_of(example.source if inside else EXPLICIT_LITTLE, element)
        prefix = example.data[begin : value - length.size]
        yield _Step(prefix, length, tag, vr, value - start, 0 if inside else stop - start)
        begin = stop


def _runs(
    example: Example, varying: frozenset[int], made: Sequence[Made], stated: Mapping[int, bytes]
) -> Iterator[bytes]:
    """Yield what leaves of shared elements, with what is stated in its places, ahead of each that differs."""
    left = sorted(stated.items(), reverse=True)
    run: list[bytes] = []
    for index, (element, its) in enumerate(zip(example.elements, made, strict=True)):
        while left and left[-1][0] < element.tag and example.has(element):
            run.append(left.pop()[1])
        if left and left[-1][0] == element.tag and example.has(element):
            run.append(left.pop()[1])
        elif index not in varying:
            run.append(its.chunk)
        elif example.has(element):
            yield b"".join(run)
            run = []
    yield b"".join((*run, *(chunk for _, chunk in reversed(left))))
