"""What is kept open to an archive for the next request, for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from srm_dicom.clock import Clock

KEEP_S = 15.0
"""How long a connection may be idle; archives close theirs after half a minute or so."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Idle connections to one archive; for any number of threads."""

    def __init__(self, end: Callable[[T], None], clock: Clock, keep_s: float = KEEP_S) -> None:
        """Keep none yet; `end` takes leave of one."""
        self._end = end
        self._clock = clock
        self._keep_s = keep_s
        self._idle: list[tuple[float, Hashable, T]] = []
        self._is_watched = False
        self._lock = threading.Lock()

    def put(self, one: T, use: Hashable = None) -> None:
        """Keep one for the next who has the same use for it."""
        with self._lock:
            self._idle.append((self._clock.monotonic_s(), use, one))
            self._watch()

    def take(self, use: Hashable = None) -> T | None:
        """Return the one that was put back last, which is the likeliest to live."""
        found = self.take_where(lambda kept: kept == use)
        return found and found[1]

    def take_where(self, fits: Callable[[Any], bool]) -> tuple[Any, T] | None:
        """Do the same for whatever use fits; returns that, too."""
        with self._lock:
            for at in reversed(range(len(self._idle))):
                if fits(self._idle[at][1]):
                    return self._idle.pop(at)[1:]
        return None

    def close(self) -> None:
        """Take leave of all of them."""
        with self._lock:
            old, self._idle = self._idle, []
        for _, _, one in old:
            self._end(one)

    def _watch(self) -> None:
        """Look again when the oldest has been idle for long enough; with the lock held."""
        if self._idle and not self._is_watched:
            left_s = self._idle[0][0] + self._keep_s - self._clock.monotonic_s()
            timer = threading.Timer(max(left_s, 0.0), self._expire)
            timer.daemon = self._is_watched = True
            timer.start()

    def _expire(self) -> None:
        with self._lock:
            until_s = self._clock.monotonic_s() - self._keep_s
            old = [each for each in self._idle if each[0] <= until_s]
            self._idle = self._idle[len(old) :]
            self._is_watched = False
            self._watch()
        for _, _, one in old:
            self._end(one)
