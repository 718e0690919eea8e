"""What an operation is given beside its request: who calls, the broker, and the bounds of this edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from srm_dicom.broker.copies import Copies
from srm_dicom.broker.names import Names
from srm_dicom.broker.numbers import Numbers
from srm_dicom.broker.puts import Puts
from srm_dicom.broker.spaces import UNLIMITED_S, SpaceAccounts
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.views import FileView, Listing, RequestKind, RequestSummary, RequestView, Wish
from srm_dicom.identity.delegation import DelegatedCredential
from srm_dicom.identity.principal import Principal
from srm_dicom.store.requests import Request

__all__ = ["UNLIMITED_S", "Broker", "Caller", "Limits"]


class Broker(Protocol):
    """The part of `broker.broker.Broker` that this edge calls; every method checks its own right."""

    @property
    def surls(self) -> OwnSurls:
        """What tells SURLs of this site from others."""
        ...

    @property
    def puts(self) -> Puts:
        """What writes files."""
        ...

    @property
    def copies(self) -> Copies:
        """What copies files."""
        ...

    @property
    def names(self) -> Names:
        """What changes names."""
        ...

    @property
    def spaces(self) -> SpaceAccounts:
        """What reserves room."""
        ...

    @property
    def numbers(self) -> Numbers:
        """What tells requests by number."""
        ...

    def submit(self, principal: Principal, wish: Wish) -> RequestView:
        """Take a request in; what is wrong with one file is told in its view."""
        ...

    def status(
        self,
        principal: Principal,
        token: str,
        surls: Sequence[str] | None,
        kind: RequestKind | None = None,
    ) -> RequestView:
        """Tell of a request of this kind, or of some of its files in the order asked."""
        ...

    def release(
        self, principal: Principal, token: str | None, surls: Sequence[str] | None
    ) -> tuple[FileView, ...]:
        """Give pins back."""
        ...

    def abort(self, principal: Principal, token: str) -> RequestView:
        """End a request and what it waits for."""
        ...

    def abort_files(self, principal: Principal, token: str, surls: Sequence[str]) -> tuple[FileView, ...]:
        """End files of a request and what they wait for."""
        ...

    def suspend(self, principal: Principal, token: str) -> None:
        """Let what waits of a request wait until it is resumed."""
        ...

    def resume(self, principal: Principal, token: str) -> None:
        """Queue what was suspended of a request."""
        ...

    def extend(
        self, principal: Principal, token: str, surls: Sequence[str], pin_s: int
    ) -> tuple[FileView, ...]:
        """Let pins of a request last longer."""
        ...

    def tokens(self, principal: Principal, description: str | None) -> list[Request]:
        """Return the caller's requests, the newest first."""
        ...

    def summaries(self, principal: Principal, tokens: Sequence[str]) -> list[RequestSummary | None]:
        """Count the files of requests; None for what is no request of the caller."""
        ...

    def entries(self, principal: Principal, surls: Sequence[str], operation: str) -> list[Listing]:
        """Tell of names; one that may not be known has a failure."""
        ...

    def listing(
        self, principal: Principal, surl: str, levels: int, offset: int, count: int | None
    ) -> Listing:
        """Tell of a name and what is below it; a name that may not be known has a failure."""
        ...

    def protocols(self) -> tuple[str, ...]:
        """Return the transfer protocols of the doors, the preferred one first."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call.

    Attributes:
        max_entries: entries in one srmLs answer; gfal2 cannot page, ARC pages by 999.
    """

    max_entries: int = 10_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller of one call; `delegated` is what came with the session."""

    principal: Principal
    broker: Broker
    limits: Limits = DEFAULT_LIMITS
    delegated: DelegatedCredential | None = None
