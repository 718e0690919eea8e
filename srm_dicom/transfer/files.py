"""What the doors serve: names and open files, without a word about where they come from.

The doors know protocols and nothing of the namespace, the broker or scratch; whoever implements
`ServedFiles` decides every right, again at every call, and audits it. Existence is secret: for a name
that does not exist and for one that the caller may not learn of it raises the same `NotFound`;
`NotAuthorised` is for callers who may see the name and not read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol

from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A name as the caller may see it.

    Attributes:
        size_bytes: of the bytes that are served; None while nobody knows it.
        adler32: of the same bytes, eight hexadecimal digits; None while nobody knows it.
        shown_at: the only time that may be shown (see `clock.coarse`).
        online: staged here, so that `ServedFiles.open` will do.
    """

    path: SitePath
    is_directory: bool
    size_bytes: int | None
    adler32: str | None
    shown_at: datetime
    online: bool


class OpenedFile(Protocol):
    """An open file; it stays readable until it is closed, whatever happens to its name meanwhile.

    `fd` is open for reading at any offset (`os.pread`, `os.sendfile`); a memory file will do.
    """

    @property
    def fd(self) -> int:
        """A file descriptor."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""

    @property
    def adler32(self) -> str | None:
        """Checksum of all bytes, if it is known."""

    def charge(self, size_bytes: int) -> None:
        """Charge bytes to the daily budgets, before any of them is sent.

        Raises:
            BudgetExhausted: there is not so much left today; nothing may be sent.
        """

    def __enter__(self) -> OpenedFile:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Close the descriptor."""


class ServedFiles(Protocol):
    """The files behind the doors. Called from many threads at once."""

    def stat(self, principal: Principal, path: SitePath) -> FileInfo:
        """Look a name up.

        Raises:
            NotFound: there is none that this caller may learn of.
        """

    def listdir(self, principal: Principal, path: SitePath) -> Iterable[FileInfo]:
        """Return what the caller may see in a directory, in the order of the names.

        Raises:
            NotFound: there is no such directory that this caller may learn of.
            NotADirectory: the name is a file's.
        """

    def open(self, principal: Principal, path: SitePath) -> OpenedFile:
        """Open a file that is staged here; the file right is checked again, the decision is audited.

        Raises:
            NotFound: there is none that this caller may learn of.
            NotAuthorised: the caller may see it and not read it.
            IsADirectory: the name is a directory's.
            RequestExpired: it is not staged here, or not any more; the advice says how to get it.
        """
