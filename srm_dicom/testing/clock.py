"""A clock that a test turns."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)


class FakeClock:
    """Stands still unless it is turned; `sleep` turns it instead of waiting."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic_s = 1000.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        return self._now

    def monotonic_s(self) -> float:
        """Return seconds that only grow."""
        return self._monotonic_s

    def sleep(self, seconds: float) -> None:
        """Turn the clock and return at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Turn both times forward."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic_s += seconds

    def set(self, moment: datetime) -> None:
        """Set the time of day, also backwards, as an administrator might; the other goes on."""
        with self._lock:
            self._now = moment.astimezone(UTC)
