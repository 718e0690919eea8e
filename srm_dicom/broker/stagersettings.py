"""The bounds of one stager: of its visits, its claims, its looks and its pauses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StagerSettings:
    """Bounds of one stager.

    Attributes:
        worker: name of this stager, unique and the same after a restart.
        visits: at once, to all sources together.
        claim: files of one owner from one source in hand, where the source has no number of its own; others
            are claimed beside them.
        visit_s: the longest visit to a source; leases last a little longer.
        idle_s: pause between two looks at whether anybody has written, where that is not heard.
        heard_s: the same where it should be, while visits are under way too.
        look_s: after so long waiting files are looked for in any case: pauses and leases end by themselves.
        busy_s: pause between two such looks while visits are under way, where nothing is heard.
        gather_s: how long the first file of a group waits for others, to become ready with them; later in
            a visit it is a fifth of the time so far, at most `longest_gather_s`.
    """

    worker: str
    visits: int = 8
    claim: int = 500
    visit_s: float = 600.0
    deliveries: int = 3
    idle_s: float = 0.02
    heard_s: float = 0.25
    look_s: float = 1.0
    drain_s: float = 0.5
    busy_s: float = 0.1
    gather_s: float = 0.1
    longest_gather_s: float = 1.0
    first_pause_s: float = 2.0
    longest_pause_s: float = 120.0

    @property
    def settled_s(self) -> float:
        """How long a visit may take, and what is left to publish after it."""
        return self.visit_s * 1.1

    @property
    def lease_s(self) -> float:
        """How long a claim holds: as long as a visit may wait for its turn, then the visit."""
        return self.visit_s + self.settled_s
