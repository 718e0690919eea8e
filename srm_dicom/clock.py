"""Time as an argument: what needs to know the hour is given a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; `testing.FakeClock` is the other implementation."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that only grow, for deadlines inside one process."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def coarse(moment: datetime) -> datetime:
    """Return the first instant of the month of `moment`.

    No time shown outside may be nearer to an examination than this (DESIGN: no time tells).
    """
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
