"""Heads that passed the independent check: of one like them only the values that differ need a look.

A head that has the very bytes of one that passed, but for some values of the same lengths, has the same
elements in the same order, and is right where these values are. Nothing else is concluded, and bytes alone
are compared; the check itself is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from srm_plugin_dicom.deidentify.originals import Codec

_MOST_BYTES = 1 << 16
_MOST_KINDS, _MOST_LENGTHS, _MOST_OF_A_LENGTH = 32, 32, 16
_SETTLED, _SHORT_HEADER_BYTES = 8, 8


class Room(NamedTuple):
    """Where an original could still stand: as one of some values, or within a text that is kept.

    Elsewhere it cannot: there are only public words, binary numbers, keyed names and dates that the
    profile keeps, which may coincide with an original and tell nothing.
    """

    values: frozenset[bytes] = frozenset()
    texts: tuple[bytes, ...] = ()


class Found(NamedTuple):
    """An element that passed: its place up to its end, that of its value, and the room it leaves."""

    tag: int
    vr: bytes
    at: int
    value: int
    stop: int
    rooms: tuple[Room, ...]


class _Step(NamedTuple):
    """Bytes to compare, up to the length of the element behind them, and what that element is."""

    same: bytes
    length: Struct
    tag: int
    vr: bytes
    header_bytes: int
    is_number: bool


class Layout(NamedTuple):
    """A head that passed but for the values that may differ, and where in it these are.

    Attributes:
        shared: takes out all the rest of a head of that length; in this one it was `same`.
        numbers: takes out the values that are decimal numbers; `others` are all others that may differ.
        room: in all that may not.
    """

    kind: _Kind
    shared: Callable[[bytes], tuple[bytes, ...]]
    same: tuple[bytes, ...]
    numbers: Callable[[bytes], tuple[bytes, ...]]
    others: Sequence[Found]
    room: Room


@dataclass(slots=True)
class _Kind:
    """Heads with the same attributes.

    Attributes:
        shape: the tags and representations of these.
        encoded: the elements of one of the heads.
        varying: by their numbers, the elements of which other values were seen.
        same: the elements that do not vary.
        mark: bytes that all of them have, and of others of the shape hardly one.
        steps: to each that varies; `last` is what follows the last.
        room: in all that do not vary.
        fits: how many were like it since the last of them was found.
    """

    shape: tuple[tuple[int, bytes], ...]
    encoded: tuple[bytes, ...]
    varying: frozenset[int]
    same: frozenset[bytes]
    mark: bytes
    steps: Sequence[_Step]
    last: bytes
    room: Room
    fits: int = 0

    def differing(self, encoded: tuple[bytes, ...]) -> frozenset[int]:
        """Return which elements another head of the shape has with other values beside those."""
        pairs = enumerate(zip(self.encoded, encoded, strict=True))
        return frozenset([index for index, (mine, other) in pairs if mine != other]) - self.varying

    def layout(self, head: bytes) -> Layout | None:
        """Return the layout of a head of this kind, whatever the lengths in it; None if it is of another."""
        at, shared, numbers, others = 0, [], [], []
        for same, length_of, tag, vr, header_bytes, is_number in self.steps:
            value = at + len(same) + length_of.size
            if value > len(head) or not head.startswith(same, at):
                return None
            (length,) = length_of.unpack_from(head, value - length_of.size)
            if length & 1:
                return None
            stop = value + length
            shared.append((at, value))
            if is_number:
                numbers.append((value, stop))
            else:
                others.append(Found(tag, vr, value - header_bytes, value, stop, ()))
            at = stop
        if head[at:] != self.last or at > len(head):
            return None
        taken = _taking([*shared, (at, len(head))])
        return Layout(self, taken, taken(head), _taking(numbers), others, self.room)


class Heads:
    """What is remembered of heads in one encoding, within bounds; for any number of threads."""

    def __init__(self, codec: Codec) -> None:
        """Take how the heads are encoded."""
        self._short, self._long = codec.u16 if codec.explicit else codec.u32, codec.u32
        self._kinds: tuple[_Kind, ...] = ()
        self._layouts: dict[int, tuple[Layout, ...]] = {}

    def like(self, head: bytes) -> Layout | None:
        """Return the layout of a head that is like one that passed."""
        known = self._layouts.get(len(head), ())
        for index, layout in enumerate(known):
            if layout.shared(head) == layout.same:
                layout.kind.fits += 1
                if index:
                    self._layouts[len(head)] = (layout, *known[:index], *known[index + 1 :])
                return layout
        for kind in self._kinds:
            found = kind.layout(head) if kind.varying and kind.mark in head else None
            if found:
                kind.fits += 1
                self._remember(head, found)
                return found
        return None

    def learn(self, head: bytes, found: Sequence[Found], is_number: Callable[[Found], bool]) -> None:
        """Remember a head that passed as a whole.

        While a kind is young, what differs will differ again; later it is a new series, within which the same
        values differ as within the last.

        Args:
            head: its bytes.
            found: all its elements, in order.
            is_number: tells elements whose value is checked as decimal numbers alone.
        """
        if len(head) > _MOST_BYTES:
            return
        known = self._kinds
        shape = tuple([(each.tag, each.vr) for each in found])
        encoded = tuple([head[each.at : each.stop] for each in found])
        shape = next((each.shape for each in known if each.shape == shape), shape)
        alike = [each for each in known if each.shape is shape]
        values = frozenset(encoded)
        nearest = min(alike, key=lambda each: len(each.same - values), default=None)
        least = nearest.differing(encoded) if nearest else frozenset[int]()
        if nearest is not None and not least:
            return
        varying, mark = frozenset[int](), b""
        others: Sequence[_Kind] = known[: _MOST_KINDS - 1]
        if nearest is not None and nearest.fits >= _SETTLED:
            varying, mark = nearest.varying, max((encoded[index] for index in least), key=len)
        elif nearest is not None:
            varying = nearest.varying | least
            mark = b"" if nearest.mark in (nearest.encoded[index] for index in least) else nearest.mark
            others = [each for each in known if each is not nearest]
        kind = self._kind(shape, encoded, varying, mark, head, found, is_number)
        self._kinds = (kind, *others)
        layout = kind.layout(head) if varying else None
        if layout:
            self._remember(head, layout)

    def _kind(
        self,
        shape: tuple[tuple[int, bytes], ...],
        encoded: tuple[bytes, ...],
        varying: frozenset[int],
        mark: bytes,
        head: bytes,
        found: Sequence[Found],
        is_number: Callable[[Found], bool],
    ) -> _Kind:
        steps, begin = [], 0
        for index in sorted(varying):
            tag, vr, at, value, stop, _ = each = found[index]
            length = self._short if value - at == _SHORT_HEADER_BYTES else self._long
            steps.append(
                _Step(head[begin : value - length.size], length, tag, vr, value - at, is_number(each))
            )
            begin = stop
        rooms = [room for index, each in enumerate(found) if index not in varying for room in each.rooms]
        room = Room(
            frozenset[bytes]().union(*(room.values for room in rooms)),
            tuple(text for room in rooms for text in room.texts),
        )
        same = frozenset([each for index, each in enumerate(encoded) if index not in varying])
        return _Kind(shape, encoded, varying, same, mark, steps, head[begin:], room)

    def _remember(self, head: bytes, layout: Layout) -> None:
        known = self._layouts.get(len(head), ())
        if not known and len(self._layouts) >= _MOST_LENGTHS:
            self._layouts.clear()
        self._layouts[len(head)] = (layout, *known[: _MOST_OF_A_LENGTH - 1])


def _taking(spans: Sequence[tuple[int, int]]) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return what takes the bytes of some spans, which do not overlap, out of a string."""
    at, text = 0, ""
    for start, stop in spans:
        text += f"{start - at}x{stop - start}s"
        at = stop
    return Struct(text).unpack_from
