"""What a source bears at a time of the week: its limits, and those of the hours that the site sets apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from math import inf
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Visits = Annotated[int, Meta(ge=0, le=64)]
Rate = Annotated[float, Meta(ge=0)]


class HoursSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hours with limits of their own, such as those of clinical work; the first that fits counts.

    Attributes:
        days: of the week; those that an interval over midnight begins on.
        begins: when, in this machine's local time.
        ends: when; not later than `begins` means on the next day.
        max_visits: as of the source; 0 leaves it in peace.
        max_files_per_s: as of the source.
    """

    days: tuple[Day, ...] = DAYS  # type: ignore[assignment]
    begins: time
    ends: time
    max_visits: Visits
    max_files_per_s: Rate = 0.0

    def holds(self, at: datetime) -> bool:
        """Tell whether a local time is one of these hours."""
        today, moment = DAYS[at.weekday()], at.time()
        if self.begins < self.ends:
            return today in self.days and self.begins <= moment < self.ends
        yesterday = DAYS[at.weekday() - 1]
        return (today in self.days and moment >= self.begins) or (
            yesterday in self.days and moment < self.ends
        )

    @property
    def words(self) -> str:
        """When it is, for people."""
        days = "" if self.days == DAYS else f"{', '.join(self.days)} "
        return f"{days}from {self.begins:%H:%M} until {self.ends:%H:%M}"


@dataclass(frozen=True, slots=True)
class Load:
    """What a source bears.

    Attributes:
        max_visits: batches at once; 0 while it is closed.
        files_per_s: on average; 0 for as many as it sends.
        note: which hours it is, for people.
        first_object_s: how long it may take before it sends the first file of a visit.
    """

    max_visits: int
    files_per_s: float = 0.0
    note: str = ""
    first_object_s: float = inf


def schedule(usual: Load, hours: Sequence[HoursSettings], at: datetime) -> list[tuple[Load, bool]]:
    """Return what a source bears usually and in each of the hours, and which of it holds at a time.

    The time is taken as this machine's local time.
    """
    local = at.astimezone()
    now = next((each for each in hours if each.holds(local)), None)
    apart = [
        (
            replace(usual, max_visits=each.max_visits, files_per_s=each.max_files_per_s, note=each.words),
            each is now,
        )
        for each in hours
    ]
    return [(usual, now is None), *apart]


def load_at(usual: Load, hours: Sequence[HoursSettings], at: datetime) -> Load:
    """Return what a source bears at a time."""
    return next(load for load, holds in schedule(usual, hours, at) if holds)
