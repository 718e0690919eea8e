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

_MOST_BYTES = 1 << 16
_MOST_KINDS, _MOST_LENGTHS, _MOST_OF_A_LENGTH = 32, 32, 16
_SETTLED = 8


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


@dataclass(slots=True)
class _Kind:
    """Heads with the same attributes.

    Attributes:
        model: one of them, and `elements` its own.
        varying: by their numbers, the elements of which other values were seen.
        fits: how many were like it since the last of them was found.
    """

    model: bytes
    elements: Sequence[Found]
    varying: frozenset[int] = frozenset()
    fits: int = 0

    def differing(self, head: bytes, found: Sequence[Found]) -> frozenset[int] | None:
        """Return which elements another head has with other values beside those; None if it has others."""
        if len(found) != len(self.elements):
            return None
        pairs = zip(self.elements, found, strict=True)
        if any(mine.tag != other.tag or mine.vr != other.vr for mine, other in pairs):
            return None
        return frozenset(
            index
            for index, (mine, other) in enumerate(zip(self.elements, found, strict=True))
            if index not in self.varying and self.model[mine.at : mine.stop] != head[other.at : other.stop]
        )


class Layout(NamedTuple):
    """A head that passed, and where in it the values are that may differ.

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


class Heads:
    """What is remembered of heads in one encoding, within bounds; for any number of threads."""

    def __init__(self) -> None:
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
        return None

    def learn(self, head: bytes, found: Sequence[Found], is_number: Callable[[Found], bool]) -> None:
        """Remember a head that passed as a whole.

        Args:
            head: its bytes.
            found: all its elements, in order.
            is_number: tells elements whose value is checked as decimal numbers alone.
        """
        if len(head) > _MOST_BYTES:
            return
        kind = self._kind_of(head, found)
        if not kind.varying:
            return
        known = self._layouts.get(len(head), ())
        if not known and len(self._layouts) >= _MOST_LENGTHS:
            self._layouts.clear()
        layout = _layout(kind, head, found, is_number)
        self._layouts[len(head)] = (layout, *known[: _MOST_OF_A_LENGTH - 1])

    def _kind_of(self, head: bytes, found: Sequence[Found]) -> _Kind:
        """Return what a head is of: the nearest kind, wider if need be, or another with the head for a model.

        While a kind is young, what differs will differ again; later it is a new series, within which the same
        values differ as within the last.
        """
        known = self._kinds
        near = [(each, each.differing(head, found)) for each in known]
        least = min(
            ((len(differing), index) for index, (_, differing) in enumerate(near) if differing is not None),
            default=None,
        )
        if least is None:
            kind, others = _Kind(head, found), known[: _MOST_KINDS - 1]
        else:
            index = least[1]
            nearest, differing = near[index]
            if not differing:
                return nearest
            if nearest.fits < _SETTLED:
                kind = _Kind(nearest.model, nearest.elements, nearest.varying | differing)
                others = (*known[:index], *known[index + 1 :])
            else:
                kind, others = _Kind(head, found, nearest.varying), known[: _MOST_KINDS - 1]
        self._kinds = (kind, *others)
        return kind


def _layout(kind: _Kind, head: bytes, found: Sequence[Found], is_number: Callable[[Found], bool]) -> Layout:
    varying = [found[index] for index in sorted(kind.varying)]
    kept = [each for index, each in enumerate(found) if index not in kind.varying]
    numbers = [each for each in varying if is_number(each)]
    rooms = [room for each in kept for room in each.rooms]
    room = Room(
        frozenset[bytes]().union(*(room.values for room in rooms)),
        tuple(text for room in rooms for text in room.texts),
    )
    between = [0, *(place for each in varying for place in (each.value, each.stop)), len(head)]
    shared = _taking([(each, stop) for each, stop in zip(between[::2], between[1::2], strict=True)])
    others = [each for each in varying if each not in numbers]
    return Layout(
        kind, shared, shared(head), _taking([(each.value, each.stop) for each in numbers]), others, room
    )


def _taking(spans: Sequence[tuple[int, int]]) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return what takes the bytes of some spans, which do not overlap, out of a string."""
    at, text = 0, ""
    for start, stop in spans:
        text += f"{start - at}x{stop - start}s"
        at = stop
    return Struct(text).unpack_from
