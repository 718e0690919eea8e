"""Whose visit is next: gentle to sources, fair to users. No I/O; the caller brings the time.

A source bears so many visits at once and so many files a second, and both may change at any time. Among
those who wait for it the one is next whose owner has the fewest files on their way, then the one who was
served longest ago. The last place at a source, or more of them, is kept for somebody who has none there, so
that one user's studies, however slow the archive is with them, are never all that it does. A visit for what
the source was slow with before is longer (`plugin.api.Batch.waited`): it leaves one place more to others, as
long as it can have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from srm_dicom.plugin.api import Source

V = TypeVar("V")


@dataclass(frozen=True, slots=True, eq=False)
class Turn(Generic[V]):
    """A visit that waits, or is under way.

    Attributes:
        source: where it goes; one that is not known to anybody has no bounds.
        owner: for whom.
        files: how many.
        until_s: monotonic time after which it is not worth while any more.
        slow: whether the source had not begun to send in time, when it was asked before.
    """

    visit: V
    source: str
    owner: str
    files: int
    until_s: float
    slow: bool = False


class Turns(Generic[V]):
    """The visits of one stager; for one thread."""

    def __init__(self) -> None:
        self._waiting: list[Turn[V]] = []
        self._running: list[Turn[V]] = []
        self._served: dict[str, int] = {}
        self._rests_until_s: dict[str, float] = {}
        self._count = 0

    def add(self, turn: Turn[V]) -> None:
        """Let a visit wait."""
        self._waiting.append(turn)

    def next(self, sources: Mapping[str, Source], now_s: float) -> Turn[V] | None:
        """Take the visit whose turn it is, if it is somebody's.

        Args:
            sources: what each bears now, by the name that turns have.
            now_s: monotonic time.
        """
        ready = [turn for turn in self._waiting if self._may(turn, sources.get(turn.source), now_s)]
        if not ready:
            return None
        on_their_way: Counter[str] = Counter()
        for turn in self._running:
            on_their_way[turn.owner] += turn.files
        turn = min(ready, key=lambda one: (on_their_way[one.owner], self._served.get(one.owner, 0)))
        self._count += 1
        self._served[turn.owner] = self._count
        self._waiting.remove(turn)
        self._running.append(turn)
        source = sources.get(turn.source)
        if source is not None and source.files_per_s:
            self._rests_until_s[turn.source] = now_s + turn.files / source.files_per_s
        return turn

    def done(self, turn: Turn[V]) -> None:
        """Say that a visit is over."""
        self._running.remove(turn)

    def drop(self, is_dropped: Callable[[Turn[V]], bool]) -> list[Turn[V]]:
        """Return and forget those that wait and are not wanted any more."""
        dropped = [turn for turn in self._waiting if is_dropped(turn)]
        self._waiting = [turn for turn in self._waiting if turn not in dropped]
        if not self._waiting and not self._running:
            self._served.clear()
        return dropped

    def held(self) -> Counter[tuple[str, str]]:
        """Return how many files wait here, by owner and source."""
        held: Counter[tuple[str, str]] = Counter()
        for turn in self._waiting:
            held[turn.owner, turn.source] += turn.files
        return held

    def _may(self, turn: Turn[V], source: Source | None, now_s: float) -> bool:
        if source is None:
            return True
        here = [other for other in self._running if other.source == turn.source]
        left = source.max_visits - len(here)
        if left <= 0 or now_s < self._rests_until_s.get(turn.source, now_s):
            return False
        if turn.slow and sum(other.slow for other in here) >= max(
            1, source.max_visits - source.kept_visits - 1
        ):
            return False
        return left > source.kept_visits or turn.owner not in {other.owner for other in here}
