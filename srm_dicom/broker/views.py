"""What the broker answers: frozen values that the SRM edge turns into its own types.

A view never holds a row: what is in it was true in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from srm_dicom.errors import MdmError
from srm_dicom.ids import SitePath, Surl, Token
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import FileState, RequestKind

__all__ = [
    "FileState",
    "FileView",
    "Listing",
    "PutWish",
    "RequestKind",
    "RequestSummary",
    "RequestView",
    "Wish",
]


@dataclass(frozen=True, slots=True)
class Wish:
    """A prepareToGet or bringOnline as asked; None where the caller left it to the site.

    Attributes:
        surls: the files, in the caller's order; an item that is no SURL stays the text that it was.
        protocols: transfer protocols in the caller's order of preference.
        total_s: desired total request time.
        pin_s: desired pin lifetime.
        description: the caller's own words (userRequestDescription); never logged.
    """

    kind: RequestKind
    surls: tuple[str, ...]
    protocols: tuple[str, ...] = ()
    total_s: int | None = None
    pin_s: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class PutWish(Wish):
    """A prepareToPut as asked.

    Attributes:
        sizes: what the caller announces of each file, in the order of `surls`; 0 when nothing.
        overwrite: whether files may take the place of others.
        space: token of the space that the files go into; empty for none.
        policy: TRetentionPolicy that the files are to have; empty for the site's own.
        sources: of a copy, what each file is copied from; empty for a put.
    """

    sizes: tuple[int, ...] = ()
    overwrite: bool = False
    space: str = ""
    policy: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileView:
    """One file of a request.

    Attributes:
        surl: as the caller sent it.
        failure: why it failed, from the error tree; None otherwise. Its class gives the SRM status.
        explanation: what to tell the caller now (also while it waits), without identity.
        turl: only while PINNED (GET) or SPACE_AVAILABLE (PUT).
        wait_s: estimated wait while it is QUEUED or IN_PROGRESS.
    """

    surl: str
    state: FileState
    failure: MdmError | None = None
    explanation: str | None = None
    size_bytes: int | None = None
    turl: str | None = None
    pin_left_s: int | None = None
    wait_s: int | None = None


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request; `files` are those asked for, in that order; `states` are of all its files.

    `remaining_s` is the time left of the request; the request-level status is a function of `states`.
    """

    token: Token
    kind: RequestKind
    files: tuple[FileView, ...]
    states: tuple[FileState, ...]
    remaining_s: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """A request by its numbers; `states` has a count for each state that a file of it is in."""

    token: Token
    kind: RequestKind
    created_at: datetime
    states: Mapping[FileState, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """What srmLs tells of one SURL: an entry, or why not, and the children that were asked for.

    Attributes:
        online: the bytes are in scratch now (fileLocality ONLINE_AND_NEARLINE, else NEARLINE).
        more: there are children beyond `count`.
        busy: the name is being written; the entry is what it will be.
    """

    surl: Surl | str
    path: SitePath | None
    entry: Entry | None
    failure: MdmError | None = None
    online: bool = False
    children: tuple[Listing, ...] = ()
    more: bool = False
    busy: bool = False

    @property
    def text(self) -> str:
        """The SURL as the caller sent it."""
        return self.surl.text if isinstance(self.surl, Surl) else self.surl
