"""How fast one caller may be given things: a bucket that fills steadily and is emptied by what is given."""

from __future__ import annotations

import threading
from collections import OrderedDict

from srm_dicom.clock import Clock
from srm_dicom.errors import Overloaded

CALLERS = 10_000
"""Callers that are remembered; who has been forgotten starts with a full bucket."""


class Pace:
    """Counts for every caller of one door, in memory.

    Args:
        per_minute: how much a caller is given in a minute, and at once after a minute's rest; 0 sets no
            bound.
        clock: its monotonic time.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, dn: str, count: int) -> None:
        """Count what a caller is about to be given.

        Raises:
            Overloaded: it is too much for now; nothing was counted.
        """
        if not self._per_minute:
            return
        now_s = self._clock.monotonic_s()
        with self._lock:
            left, since_s = self._left.get(dn, (float(self._per_minute), now_s))
            left = min(self._per_minute, left + (now_s - since_s) * self._per_minute / 60)
            if left < count:
                raise Overloaded(
                    "too much was asked for in a minute", advice="Wait a minute, or ask for less."
                )
            self._left[dn] = (left - count, now_s)
            self._left.move_to_end(dn)
            while len(self._left) > CALLERS:
                self._left.popitem(last=False)
