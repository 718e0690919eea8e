"""Places that many want: so many at the same time, and only some of them for one and the same.

One network address, or one identity, must not be able to shut everybody else out.
"""

from __future__ import annotations

import threading
from collections import Counter


class Turns:
    """Counts who holds how many places. For any number of threads.

    Args:
        at_once: places in all.
        each: of them for one holder; left out, half, and at least one.
    """

    def __init__(self, at_once: int, each: int | None = None) -> None:
        self._at_once = at_once
        self._each = max(1, at_once // 2) if each is None else each
        self._changed = threading.Condition()
        self._held: Counter[str] = Counter()

    def take(self, holder: str, wait_s: float = 0.0, *, count: int = 1) -> bool:
        """Take a place, or several together, within a time; tells whether they were there."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has(count, holder), wait_s):
                return False
            self._held[holder] += count
            return True

    def release(self, holder: str, count: int = 1) -> None:
        """Give places back that were taken."""
        with self._changed:
            self._held[holder] -= count
            if not self._held[holder]:
                del self._held[holder]
            self._changed.notify_all()

    def full_for(self, holder: str) -> bool:
        """Tell whether a holder has all that one may have."""
        return self._held[holder] >= self._each

    def _has(self, count: int, holder: str) -> bool:
        return self._held[holder] + count <= self._each and self._held.total() + count <= self._at_once


class Place:
    """The one place of a session, held for whoever is on the line; not for two threads at once."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._holder = ""

    @property
    def held(self) -> bool:
        """True while it is held for somebody."""
        return bool(self._holder)

    def take(self, holder: str) -> bool:
        """Hold it for somebody, and no longer for who was before; tells whether there was a place."""
        if holder == self._holder:
            return True
        self.leave()
        if self._turns.take(holder):
            self._holder = holder
        return self.held

    def leave(self) -> None:
        """Hold it for nobody."""
        holder, self._holder = self._holder, ""
        if holder:
            self._turns.release(holder)
