"""What the doors serve: names and open files, without a word about where they come from.

The doors know protocols and nothing of the namespace, the broker or scratch; whoever implements
`ServedFiles` decides every right, again at every call, and audits it. Existence is secret: for a name
that does not exist and for one that the caller may not learn of it raises the same `NotFound`;
`NotAuthorised` is for callers who may see the name and not read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
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
        writable: the caller may replace the file's bytes, or make and remove names in the directory.
        removable: the caller may remove the name or give it another.
    """

    path: SitePath
    is_directory: bool
    size_bytes: int | None
    adler32: str | None
    shown_at: datetime
    online: bool
    writable: bool = False
    removable: bool = False


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes from `start` to `end` of an open file (`os.pread`, `os.sendfile`); a memory file will do."""

    fd: int
    start: int
    end: int


class OpenedFile(Protocol):
    """An open file: a body of bytes that lie in one or in several files."""

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

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield where the bytes from `start` to `end` lie, in their order.

        Their descriptors are open as long as the file is. Called from several threads at once.
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
        """Let the bytes go."""


def read_bytes(file: OpenedFile, start: int, end: int, piece_bytes: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `end`, in pieces of at most `piece_bytes`.

    Raises:
        OSError: the file is shorter than it was.
    """
    for extent in file.extents(start, end):
        at = extent.start
        while at < extent.end:
            data = os.pread(extent.fd, min(piece_bytes, extent.end - at), at)
            if not data:
                raise OSError("the file ended early")
            at += len(data)
            yield data


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


class NewFile(Protocol):
    """A file while it is being written: nobody sees it under its name before `finish`.

    Leaving the context closes it. What was not finished is never published; it may stay for a restart
    (see `WrittenFiles.create`) until its own time is over.
    """

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""

    @property
    def has_holes(self) -> bool:
        """Whether an earlier transfer broke off when not all bytes before the last had come."""

    def scattered(self, whole_bytes: int | None) -> None:
        """Remember of a transfer that breaks off what is there: so many bytes from the first on.

        Others lie somewhere behind, where whoever goes on by an offset gets not. None: there are no holes.
        """

    @property
    def replaces(self) -> bool:
        """Whether it takes the place of a file that was there when it was begun."""

    def write(self, offset: int, data: memoryview, /) -> None:
        """Write bytes where they belong; from several threads at once if they write different places.

        Raises:
            TooLarge: that is more than the file may have.
            NoSpace: the disk is full.
        """

    def finish(self) -> None:
        """Take what has been written as the whole file.

        Raises:
            IntegrityError: it is not what was announced.
            NoSpace: it could not be made durable.
        """

    def __enter__(self) -> NewFile:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Close the descriptor."""


class WrittenFiles(Protocol):
    """Names and files that callers may change through the doors. Called from many threads at once.

    Every call raises `NotFound` for what the caller may not learn of, and `NotAuthorised` for what the
    caller may see and not change.
    """

    def private_only(self, principal: Principal, path: SitePath) -> bool:
        """Tell whether what is written there must not cross a network in clear, nor its name be logged."""

    def create(
        self,
        principal: Principal,
        path: SitePath,
        *,
        keep_bytes: int | None = 0,
        expected_bytes: int | None = None,
        resumable: bool = True,
        scattered: int | None = None,
    ) -> NewFile:
        """Begin to write a file: at the name of an upload, or at a name that the caller may write.

        Args:
            principal: who writes.
            path: where.
            keep_bytes: how much stays of what an earlier call has written and not finished; None keeps all.
            expected_bytes: how many there will be, if the client says.
            resumable: whether a later call may go on with it; if not, a name that the caller may write is
                free again as soon as the file is left unfinished.
            scattered: how many bytes from the first on are there, where more will come in any order; None
                where they come in order. It is all that is known should this process die; see
                `NewFile.scattered`.

        Raises:
            AlreadyExists: the name is a finished file's.
            RequestExpired: the upload has ended.
            InvalidRequest: there are fewer bytes than shall stay, or some of these have never come.
            NoSpace: there is no room for `expected_bytes`.
        """

    def join(self, principal: Principal, path: SitePath) -> NewFile:
        """Write a part of a file that another node's door has begun to write and will finish.

        Raises:
            NotFound, NotAuthorised, RequestExpired: as `create`, which has to come first.
        """

    def mkdir(self, principal: Principal, path: SitePath) -> None:
        """Make a directory.

        Raises:
            AlreadyExists: the name is taken.
        """

    def remove(self, principal: Principal, path: SitePath, *, directory: bool) -> None:
        """Remove a file or an empty directory.

        Raises:
            NotEmpty: the directory has entries.
            IsADirectory, NotADirectory: the name is the other kind's.
        """

    def rename(
        self, principal: Principal, source: SitePath, target: SitePath, *, overwrite: bool = False
    ) -> bool:
        """Give a name to a file or a directory; tells whether a file took the place of another.

        Args:
            principal: who renames.
            source: the name that there is.
            target: the new one.
            overwrite: whether a file may take the place of another.

        Raises:
            AlreadyExists: the new name is taken.
        """
