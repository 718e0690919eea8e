"""Daily budgets: how much may be given to one caller, or for one project, before somebody must look.

A budget is charged before anything is given (`db.usage` counts). At a share of a budget an alarm goes
off; at its end nothing more is given until the next day, UTC. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

ALARM_AT = 0.8


@dataclass(frozen=True, slots=True)
class Amount:
    """What is given, or has been today: sealed bytes, and objects (files, or keys on a key server)."""

    bytes: int = 0
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one day; 0 sets no bound."""

    bytes: int = 0
    objects: int = 0

    def share(self, total: Amount) -> float:
        """Return how much of the budget a total is; 1.0 is all of it."""
        parts = ((total.bytes, self.bytes), (total.objects, self.objects))
        return max((used / bound for used, bound in parts if bound), default=0.0)


UNLIMITED = Budget()


@dataclass(frozen=True, slots=True)
class Account:
    """Whose budget it is: a caller's or a project's."""

    name: str
    budget: Budget

    @property
    def project(self) -> str:
        """The project whose it is; empty for a caller's."""
        kind, _, name = self.name.partition(":")
        return name if kind == "project" else ""

    def __str__(self) -> str:
        return f"project {self.project}" if self.project else "the caller"

    @classmethod
    def of_caller(cls, dn: str, budget: Budget) -> Account:
        """Return a caller's account."""
        return cls(f"caller:{dn}", budget)

    @classmethod
    def of_project(cls, project: str, budget: Budget) -> Account:
        """Return a project's account."""
        return cls(f"project:{project}", budget)
