"""What byte strings that are alike have in common, without any idea of what they mean.

The independent check uses it to look again only at what differs from strings that it has looked at. It knows
nothing of DICOM, so that a wrong idea of an encoding cannot be in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Generic, TypeVar

MOST_BYTES = 1 << 16
_SHORTEST_RUN = 16
_SLACK_BYTES = 512
_MOST_KNOWN = 16
_MOST_LENGTHS = 64
_STRIDE = 4

Span = tuple[int, int]
Common = tuple[int, int, int]
"""A span of one string, and where in another the same is."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """A string and the runs of it that others had too.

    Attributes:
        model: the string.
        runs: where the runs are in it, in order; the first begins at its begin, the last ends at its end, and
            both may be empty.
    """

    model: bytes
    runs: tuple[Span, ...]

    @classmethod
    def of(cls, model: bytes) -> Likeness:
        """Return what a string has in common with itself."""
        return cls(model, ((0, len(model)),))

    def places(self, data: bytes) -> list[int] | None:
        """Return where each run begins in a string; None if it is not made of these runs and gaps."""
        (_, first), *others = self.runs
        if not others:
            return [0] if data == self.model else None
        if not data.startswith(self.model[:first]):
            return None
        found, at, before = [0], first, first
        for start, stop in others[:-1]:
            longest = at + (start - before) + _SLACK_BYTES + (stop - start)
            place = data.find(self.model[start:stop], at, longest)
            if place < 0:
                return None
            found.append(place)
            at, before = place + stop - start, stop
        start, stop = others[-1]
        place = len(data) - (stop - start)
        if place < at or not data.endswith(self.model[start:stop]):
            return None
        return [*found, place]

    def carried(self, data: bytes, common: Sequence[Common] | None = None) -> Likeness:
        """Return another string's own likeness, with gaps where this one has them.

        Args:
            data: the string.
            common: what both have in common, if that is known.
        """
        common = _common(self.model, data) if common is None else common
        firsts, lasts = [first for first, _, _ in common], [last for _, last, _ in common]
        runs, begin = [], 0
        for (_, stop), (start, _) in pairwise(self.runs):
            end, last = begin, bisect_right(firsts, stop)
            if last:
                first, its_end, at = common[last - 1]
                end = max(begin, at + min(stop, its_end) - first)
            runs.append((begin, end))
            begin, next_ = max(end, len(data)), bisect_left(lasts, start)
            if next_ < len(common):
                first, _, at = common[next_]
                begin = max(end, at + max(0, start - first))
        spans = [*runs, (begin, len(data))]
        kept = [(at, end) for at, end in spans[1:-1] if end - at >= _SHORTEST_RUN]
        return Likeness(data, (spans[0], *kept, *spans[1:][-1:]))

    def narrowed(self, data: bytes, common: Sequence[Common] | None = None) -> Likeness | None:
        """Return what is also in another string; None if that is less than half (`common`: see `carried`)."""
        common = _common(self.model, data) if common is None else common
        both = [
            (max(start, first), min(stop, last))
            for start, stop in self.runs
            for first, last, _ in common
            if first + _SHORTEST_RUN <= stop and start + _SHORTEST_RUN <= last
        ]
        runs = [(start, stop) for start, stop in both if start + _SHORTEST_RUN <= stop]
        if not runs or 2 * sum(stop - start for start, stop in runs) < len(self.model):
            return None
        ends = [] if runs[0][0] == 0 else [(0, 0)]
        last = [] if runs[-1][1] == len(self.model) else [(len(self.model), len(self.model))]
        return Likeness(self.model, (*ends, *runs, *last))


_Found = TypeVar("_Found")


class Fits(Generic[_Found]):
    """What follows from where the runs of a likeness are in a string.

    It is remembered by the string's length, within a bound: of the next one of that length one comparison
    tells whether the runs are in the same places.

    Attributes:
        count: how many strings there were since.
    """

    def __init__(self, likeness: Likeness, derived: Callable[[Sequence[int]], _Found]) -> None:
        """Take a likeness, and what derives from the places of its runs."""
        self._likeness = likeness
        self._derived = derived
        self._runs = tuple(likeness.model[start:stop] for start, stop in likeness.runs)
        self._known: dict[int, tuple[Struct, _Found]] = {}
        self.count = 0

    def known(self, data: bytes) -> _Found | None:
        """Return what follows for a string with the runs in places where they were before; else None."""
        known = self._known.get(len(data))
        if known is None or known[0].unpack(data) != self._runs:
            return None
        self.count += 1
        return known[1]

    def of(self, data: bytes) -> _Found | None:
        """Return what follows for a string; None if it is not made of the runs and gaps."""
        places = self._likeness.places(data)
        if places is None:
            return None
        found = self._derived(places)
        if len(self._known) >= _MOST_LENGTHS:
            self._known.clear()
        self._known[len(data)] = Struct(_format(places, self._runs)), found
        return found


def _format(places: Sequence[int], runs: Sequence[bytes]) -> str:
    """Return the format of a struct of runs in their places."""
    at, text = 0, ""
    for place, run in zip(places, runs, strict=True):
        text += f"{place - at}x{len(run)}s"
        at = place + len(run)
    return text


def taught(
    known: Sequence[Likeness], is_settled: Callable[[int], bool], data: bytes
) -> tuple[int | None, Likeness]:
    """Return which of some likenesses a string belongs to, and what is left of it; or one of its own.

    Of one that is settled (by its number) all is left: what its gaps are becomes the string's own.
    """
    for index, each in enumerate(known):
        common = _common(each.model, data)
        likeness = each.narrowed(data, common)
        if likeness is not None:
            return (None, each.carried(data, common)) if is_settled(index) else (index, likeness)
    return None, Likeness.of(data)


_Known = TypeVar("_Known")


def with_new(known: tuple[_Known, ...], instead: int | None, new: _Known) -> tuple[_Known, ...]:
    """Return what is known, of bounded number, with something new ahead, perhaps instead of something."""
    kept = known[: _MOST_KNOWN - 1] if instead is None else (*known[:instead], *known[instead + 1 :])
    return (new, *kept)


def _common(one: bytes, two: bytes) -> Sequence[Common]:
    """Return spans of `one` that `two` has in the same order, and where: greedily, as long as they last."""
    found: list[Common] = []
    at = other = 0
    while True:
        length = _shared(one, at, two, other)
        found.append((at, at + length, other))
        at, other = at + length, other + length
        again = _resumed(one, at, two, other)
        if again is None:
            return found
        least = at
        at, other = again
        while at > least and one[at - 1] == two[other - 1]:  # `_resumed` looks at every fourth place
            at, other = at - 1, other - 1


def _shared(one: bytes, at: int, two: bytes, other: int) -> int:
    """Return how many bytes are the same from two places on."""
    most = min(len(one) - at, len(two) - other)
    length, step = 0, 256
    while step:
        size = min(step, most - length)
        if size and one[at + length : at + length + size] == two[other + length : other + length + size]:
            length += size
        else:
            step //= 4
    return length


def _resumed(one: bytes, at: int, two: bytes, other: int) -> Span | None:
    """Return the next places in both from which they are the same for a while."""
    for place in range(at, min(at + _SLACK_BYTES, len(one) - _SHORTEST_RUN + 1), _STRIDE):
        found = two.find(one[place : place + _SHORTEST_RUN], other, other + _SLACK_BYTES)
        if found >= 0:
            return place, found
    return None
