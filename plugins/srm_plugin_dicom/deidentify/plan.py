"""What was made of one header serves the next one: slices of a series differ in a few values only.

A plan is learnt from headers that the whole walk has dealt with. It holds the bytes that they share, and
what became of these; of a further header it compares them, in few large steps, and has only the elements
between them walked. A header that differs anywhere else is nothing that a plan may judge. Whatever
decides about an object as a whole (`facts.DECIDING`) is among the bytes that must be shared, or comes back
by itself, so that it is decided anew (see `learnt`): what a plan makes is what the whole walk makes, byte by
byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import values
from srm_plugin_dicom.deidentify.elements import Buffer, Element, Limits, Reader
from srm_plugin_dicom.deidentify.example import Example, length_of
from srm_plugin_dicom.deidentify.layout import Layout, Step
from srm_plugin_dicom.deidentify.part10 import meta_start
from srm_plugin_dicom.deidentify.pixels import LONGEST_CODE, mentions_head
from srm_plugin_dicom.deidentify.syntax import EXPLICIT_LITTLE, LONGEST_SHORT, PIXEL_DATA, UNDEFINED
from srm_plugin_dicom.deidentify.walk import Fate

_MORE_BYTES = 2048
_MOST_SIZES, _MOST_OF_A_SIZE, _LAYOUTS_BYTES = 64, 8, 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an element: what leaves, and the tags that were met and removed in it.

    Attributes:
        fate: what becomes of others in its place; None where that takes the walk.
        personal: of another patient's it would be something else.
    """

    chunk: bytes = b""
    seen: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()
    fate: Fate | None = None
    personal: bool = False


class Told(NamedTuple):
    """An element on which what leaves depends: its number among these, and what becomes of its value.

    Attributes:
        header_bytes: where in it the value is.
    """

    number: int
    tag: int
    header_bytes: int
    fate: Fate


class Followed(NamedTuple):
    """A header that a plan fits: the elements that leave as they require, and the pixel data.

    Attributes:
        start: where the data set starts.
        elements: of the data set, those on which what leaves depends; `encoded` their bytes.
        told: those of them that do not leave as they are, but for the instance's UID and for items.
        deciding: what decides about an object as a whole, of that which differs.
        names: what it says of `facts.NAMES`.
    """

    header: bytes
    start: int
    elements: Sequence[Element]
    encoded: Sequence[bytes]
    told: Sequence[Told]
    deciding: tuple[bytes, ...]
    names: Sequence[bytes]
    pixel: Element


class Plan:
    """See the module.

    Attributes:
        example: the header that it was made from; `varying` the indices of its elements that differ.
        made: what became of each element of the example.
        runs: what leaves ahead of each of those on which what leaves depends, room for that, and what leaves
            behind the last.
        instance: the instance's UID, if it is one of those; `items` the numbers of those that take a walk.
        seen: the tags of the top level and of what is shared below it; `removed` those of what always is.
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
            varying: the indices of elements that differ from header to header; those of which what leaves
                depends on the patient count as such.
            made: what became of each element.
            stated: encoded elements that are written, in their places, whatever stood there.
            searched: the codes of heads are looked for in all bytes of headers like this one.
        """
        self.example = example
        self.varying = varying = varying.union(index for index, each in enumerate(made) if each.personal)
        self.made = made
        inside = [index for index in sorted(varying) if example.has(example.elements[index])]
        told = [index for index in inside if _is_told(example.elements[index].tag, made[index].fate)]
        self._told, self.items, self.instance = list[Told](), list[int](), None
        for number, index in enumerate(told):
            fate, (tag, _, header_bytes) = made[index].fate, example.shape[index]
            if fate is None:
                self.items.append(number)
            elif tag == f.SOP_INSTANCE:
                self.instance = Told(number, tag, header_bytes, fate)
            else:
                self._told.append(Told(number, tag, header_bytes, fate))
        self._steps = tuple(_steps(example, varying, made, told))
        numbers = {step.tag for step in self._steps if step.number}
        self._not_numbers = [each for each in self._told if each.tag not in numbers]
        most = [each.fate.most for each in self._told if each.tag in numbers]
        self._stay = values.numbers_that_stay(most).fullmatch
        self._last = example.data[max((example.elements[index].stop for index in varying), default=0) :]
        self._reach = len(example.data) + _MORE_BYTES
        shared = (*(step.prefix for step in self._steps), self._last)
        self._searched = searched
        self._mentions = searched and any(map(mentions_head, shared))
        self._mentioned = searched and mentions_head(example.data)
        self._meta_start = meta_start(example.data)
        self._pixel_length = length_of(example.source, example.pixel)
        self._sized = example.pixel.items is None
        self._names = [example.facts.raw(tag) for tag in f.NAMES]
        self._layouts: dict[int, tuple[Layout, ...]] = {}
        self._most_sizes = max(1, min(_MOST_SIZES, _LAYOUTS_BYTES // (_MOST_OF_A_SIZE * len(example.data))))
        kept = [each for index, each in enumerate(made) if index not in told]
        own = [tag for tag, _, start, *_ in example.elements if start >= example.start]
        self.seen = frozenset((*own, PIXEL_DATA)).union(*(each.seen for each in kept))
        self.removed = frozenset[int]().union(*(each.removed for each in kept))
        runs = list(_runs(example, told, made, stated))
        self.runs = [each for run in runs for each in (run, b"")][:-1]

    def tells(self, index: int, example: Example) -> bool:
        """Tell whether the same becomes of an element of another example, which has these attributes."""
        fate = self.made[index].fate
        if fate is None or not fate.lasting:
            return False
        return self.example.encoded[index] == example.encoded[index]

    def follow(self, data: Buffer, said: str, *, known: bool) -> Followed | None:
        """Return what differs in an object; None if the plan does not fit it.

        Args:
            data: the object.
            said: the transfer syntax that was told beside it.
            known: only lengths that were seen before fit; else others.
        """
        if said != self.example.said:
            return None
        layout = self._known_layout(data) if known else self._layout(data)
        if layout is None:
            return None
        header = bytes(memoryview(data)[: layout.stop])
        pixel = self._pixel(layout.pixel, len(data))
        if pixel is None or not self._reads_the_same(header, layout.spans):
            return None
        told = self._told
        if layout.numbers and self._stay(b"\n".join(layout.numbers(header))):
            told = self._not_numbers
        encoded, deciding, names = layout.encoded(header), layout.deciding(header), self._names.copy()
        for number, start, stop in layout.names:
            names[number] = header[start:stop].rstrip(b" \0")
        return Followed(header, layout.start, layout.elements, encoded, told, deciding, names, pixel)

    def _known_layout(self, data: Buffer) -> Layout | None:
        """Return the layout of an object, if it is a known one; that one is tried first the next time."""
        size = self._size(data)
        known = self._layouts.get(size, ())
        for index, each in enumerate(known):
            if each.fits(data):
                if index:
                    self._layouts[size] = (each, *known[:index], *known[index + 1 :])
                return each
        return None

    def _size(self, data: Buffer) -> int:
        """Return what layouts are kept by: with pixels of one length objects differ as their headers do."""
        return len(data) if self._sized else 0

    def _remember(self, data: Buffer, layout: Layout) -> None:
        size = self._size(data)
        known = self._layouts.get(size, ())
        if not known and len(self._layouts) >= self._most_sizes:
            self._layouts.clear()
        self._layouts[size] = (layout, *known[: _MOST_OF_A_SIZE - 1])

    def _layout(self, data: Buffer) -> Layout | None:
        """Return the layout of an object, element by element."""
        view = memoryview(data)
        header = bytes(view[: self._reach])
        found: list[tuple[Element, Step]] = []
        at, data_set, lasting = 0, self.example.start, True
        for step in self._steps:
            prefix, length_of, tag, vr, header_bytes, meta_bytes, whole, *_ = step
            value = at + len(prefix) + length_of.size
            if not header.startswith(prefix, at) or value > len(header):
                return None
            (length,) = length_of.unpack_from(header, value - length_of.size)
            start = value - header_bytes
            if length == UNDEFINED:
                element = None if whole else self._undefined(header, tag, vr, start, value)
                lasting = False  # what its items are depends on more than lengths
            else:
                element = Element(tag, vr, start, value, value + length, None)
            if element is None or element.stop > len(header) or element.stop - element.value > LONGEST_SHORT:
                return None
            at = element.stop
            found.append((element, step))
            if meta_bytes:
                data_set += at - start - meta_bytes
        stop = at + len(self._last)
        if not header.startswith(self._last, at):
            return None
        pixel = self._pixel_header(view, stop)
        if pixel is None:
            return None
        layout = Layout(bytes(view[: pixel.value]), data_set, found, stop, pixel)
        if lasting:
            self._remember(data, layout)
        return layout

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

    def _pixel_header(self, view: memoryview, start: int) -> Element | None:
        """Return the pixel data, with their length for a stop; None if they do not follow."""
        length_at = start + len(self.example.pixel_head)
        value = length_at + self._pixel_length.size
        if view[start:length_at] != self.example.pixel_head or value > len(view):
            return None
        (length,) = self._pixel_length.unpack_from(view, length_at)
        if length == UNDEFINED:
            return Element(PIXEL_DATA, self.example.pixel.vr, start, value, UNDEFINED, ())
        return Element(PIXEL_DATA, self.example.pixel.vr, start, value, value + length, None)

    def _pixel(self, pixel: Element, size: int) -> Element | None:
        """Return the pixel data as the reader does; None if they are not whole."""
        if pixel.items is not None:
            return pixel._replace(stop=size)
        return pixel if pixel.stop <= size else None


def _is_told(tag: int, fate: Fate | None) -> bool:
    """Tell whether what leaves depends on what came; file meta information does on the instance's UID."""
    return fate is None or fate.write is not None or tag == f.SOP_INSTANCE


def _steps(
    example: Example, varying: Iterable[int], made: Sequence[Made], told: Sequence[int]
) -> Iterator[Step]:
    begin = 0
    for index in sorted(varying):
        tag, vr, start, value, stop, _ = element = example.elements[index]
        inside = example.has(element)
        length = length_of(example.source if inside else EXPLICIT_LITTLE, element)
        prefix = example.data[begin : value - length.size]
        meta_bytes, whole = 0 if inside else stop - start, not inside or made[index].fate is not None
        fate = made[index].fate
        number = fate is not None and fate.numbers and made[index].chunk == example.data[start:stop]
        decides = inside and tag in f.DECIDING
        yield Step(prefix, length, tag, vr, value - start, meta_bytes, whole, index in told, number, decides)
        begin = stop


def _runs(
    example: Example, told: Sequence[int], made: Sequence[Made], stated: Mapping[int, bytes]
) -> Iterator[bytes]:
    """Yield what always leaves, with what is stated in its places, ahead of each that is told."""
    left = sorted(stated.items(), reverse=True)
    run: list[bytes] = []
    for index, (element, its) in enumerate(zip(example.elements, made, strict=True)):
        tag = element[0]
        if left and left[-1][0] <= tag and example.has(element):
            while left and left[-1][0] < tag:
                run.append(left.pop()[1])
        if left and left[-1][0] == tag and example.has(element):
            run.append(left.pop()[1])
        elif index not in told:
            run.append(its.chunk)
        else:
            yield b"".join(run)
            run = []
    yield b"".join((*run, *(chunk for _, chunk in reversed(left))))
