"""Guessing names is slow: who is told "no such thing" too often in a while is told to come back later.

Absent and forbidden are one answer, so what is left to an attacker is trying many names. Every such
answer is counted per caller in a sliding window; beyond the bound the caller gets `Overloaded` for
whatever it asks, so that the answers stop and not only the misses. In memory, one counter a process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

from srm_dicom.clock import Clock
from srm_dicom.errors import Overloaded


@dataclass(frozen=True, slots=True)
class Patience:
    """How many misses in how many seconds, and of how many callers at once; 0 misses sets no bound."""

    misses: int = 2000
    window_s: float = 60.0
    callers: int = 10_000


class Guesses:
    """Counts the misses of every caller of one door.

    Args:
        patience: the bounds.
        clock: its monotonic time.
    """

    def __init__(self, patience: Patience, clock: Clock) -> None:
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._misses: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()

    def admit(self, dn: str) -> None:
        """Let a caller ask.

        Raises:
            Overloaded: it has missed too often in the window.
        """
        with self._lock:
            count = self._count(dn)
        if self._patience.misses and count >= self._patience.misses:
            raise Overloaded(
                "too many names that are not there were asked for", advice="Wait a minute; list instead."
            )

    def missed(self, dn: str, count: int = 1) -> None:
        """Note that a caller was told of `count` names that they are not there."""
        if not count:
            return
        with self._lock:
            self._misses.setdefault(dn, deque()).append((self._clock.monotonic_s(), count))
            self._misses.move_to_end(dn)
            while len(self._misses) > self._patience.callers:
                self._misses.popitem(last=False)

    def _count(self, dn: str) -> int:
        misses = self._misses.get(dn)
        if misses is None:
            return 0
        oldest_s = self._clock.monotonic_s() - self._patience.window_s
        while misses and misses[0][0] <= oldest_s:
            misses.popleft()
        if not misses:
            del self._misses[dn]
        return sum(count for _, count in misses)
