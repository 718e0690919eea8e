"""What a line of the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases.workshop import ALICE, Workshop

Make = Callable[[Workshop], Credential]


@dataclass(frozen=True, slots=True)
class Case:
    """A credential and its verdict.

    Attributes:
        make: builds it.
        dn: who it is; None for a credential that is refused.
        limited: whether its owner may only read.
        fqans: groups that it proves.
        reason: a part of the reason for which it, or its groups, are refused.
    """

    make: Make
    dn: str | None
    limited: bool = False
    fqans: tuple[str, ...] = ()
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """True for a credential that is let in."""
        return self.dn is not None


def good(make: Make, dn: str = ALICE, *, limited: bool = False, fqans: tuple[str, ...] = ()) -> Case:
    """Return a line for a credential that has to be let in."""
    return Case(make, dn, limited, fqans)


def bad(make: Make, reason: str = "") -> Case:
    """Return a line for a credential that has to be refused."""
    return Case(make, None, reason=reason)


def groupless(make: Make, reason: str) -> Case:
    """Return a line for a credential whose groups are not believed; its owner is let in without them."""
    return Case(make, ALICE, reason=reason)
