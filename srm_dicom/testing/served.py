"""`transfer.files` over a plain directory: what door tests and benchmarks serve and let be written.

Reading makes few calls, for a benchmark is to measure the door and not this.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from srm_dicom.errors import (
    AlreadyExists,
    InvalidRequest,
    IsADirectory,
    NotADirectory,
    NotAuthorised,
    NotEmpty,
    NotFound,
    RequestExpired,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, join, parent
from srm_dicom.transfer.files import FileInfo
from srm_dicom.transfer.opened import OpenFile, open_read

SHOWN_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewDirectoryFile:
    """A file that is being written beside its name; what is not finished stays there for a restart."""

    fd: int
    partial: Path
    final: Path
    whole: dict[Path, int]
    kept: bool = True
    replaces: bool = False

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return os.fstat(self.fd).st_size

    @property
    def has_holes(self) -> bool:
        """Whether some bytes before the last have never come."""
        return self.whole.get(self.partial, self.size_bytes) < self.size_bytes

    def scattered(self, whole_bytes: int | None) -> None:
        """Remember how many bytes there are from the first on."""
        if whole_bytes is None:
            self.whole.pop(self.partial, None)
        else:
            self.whole[self.partial] = whole_bytes

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes where they belong."""
        while data:
            written = os.pwrite(self.fd, data, offset)
            offset, data = offset + written, data[written:]

    def finish(self) -> None:
        """Give it its name."""
        self.partial.rename(self.final)

    def __enter__(self) -> NewDirectoryFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        if not self.kept:
            self.partial.unlink(missing_ok=True)


@dataclass
class DirectoryFiles:
    """Every file below `root`, for everybody, but for the exceptions that a test names.

    Attributes:
        hidden: paths that nobody may learn of.
        unreadable: paths that may be seen and not read.
        nearline: paths that are not staged.
        whole: how much there is from the first byte on, of what is written and has holes.
        members: DNs that may see anything at all; None lets everybody in.
        checksums: whether adler32 is told, which costs a read of the file.
        sealed: paths that are only written over encrypted connections.
        writable: whether names say that they may be changed; where a door takes uploads.
    """

    root: Path
    hidden: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    nearline: set[str] = field(default_factory=set)
    whole: dict[Path, int] = field(default_factory=dict)
    members: set[str] | None = None
    checksums: bool = True
    sealed: set[str] = field(default_factory=set)
    writable: bool = False

    def stat(self, principal: Principal, path: SitePath) -> FileInfo:
        """Look a name up."""
        return self._info(path, self._status(principal, path))

    def listdir(self, principal: Principal, path: SitePath) -> Iterable[FileInfo]:
        """Return the entries of a directory."""
        if not stat.S_ISDIR(self._status(principal, path).st_mode):
            raise NotADirectory("this is a file")
        with os.scandir(self._local(path)) as entries:
            found = {join(path, entry.name): entry.stat() for entry in entries if entry.name[-5:] != ".part"}
        return [self._info(name, found[name]) for name in sorted(found) if name not in self.hidden]

    def open(self, principal: Principal, path: SitePath) -> OpenFile:
        """Open a file."""
        status = self._status(principal, path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectory("this is a directory")
        if path in self.unreadable:
            raise NotAuthorised("no read permission")
        if path in self.nearline:
            raise RequestExpired("the file is not staged here", advice="Ask the SRM for it.")
        return OpenFile(open_read(self._local(path)), status.st_size, self._adler32(path))

    def private_only(self, _principal: Principal, path: SitePath) -> bool:
        """Tell whether a path is sealed."""
        return path in self.sealed

    def create(
        self,
        principal: Principal,
        path: SitePath,
        *,
        keep_bytes: int | None = 0,
        expected_bytes: int | None = None,  # noqa: ARG002 a directory reserves nothing
        resumable: bool = True,
        scattered: int | None = None,
    ) -> NewDirectoryFile:
        """Begin a file, or go on with an unfinished one."""
        final = self._free(principal, path, over_files=True)
        partial = final.with_name(f".{final.name}.part")
        file = NewDirectoryFile(
            os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644),
            partial,
            final,
            self.whole,
            kept=resumable,
            replaces=final.exists(),
        )
        if keep_bytes is not None:
            if min(file.size_bytes, self.whole.get(partial, keep_bytes)) < keep_bytes:
                os.close(file.fd)
                raise InvalidRequest("fewer bytes are here than shall stay")
            os.ftruncate(file.fd, keep_bytes)
        if scattered is not None or keep_bytes is not None:
            file.scattered(scattered)
        return file

    def join(self, principal: Principal, path: SitePath) -> NewDirectoryFile:
        """Write a part of an unfinished file."""
        final = self._free(principal, path, over_files=True)
        partial = final.with_name(f".{final.name}.part")
        return NewDirectoryFile(os.open(partial, os.O_RDWR | os.O_CLOEXEC), partial, final, self.whole)

    def mkdir(self, principal: Principal, path: SitePath) -> None:
        """Make a directory."""
        self._free(principal, path).mkdir()

    def remove(self, principal: Principal, path: SitePath, *, directory: bool) -> None:
        """Remove a file or an empty directory."""
        is_directory = stat.S_ISDIR(self._status(principal, path).st_mode)
        local = Path(self._local(path))
        if is_directory and not directory:
            raise IsADirectory("this is a directory")
        if not is_directory and directory:
            raise NotADirectory("this is a file")
        if not directory:
            local.unlink()
        elif any(local.iterdir()):
            raise NotEmpty("the directory has entries")
        else:
            local.rmdir()

    def rename(
        self, principal: Principal, source: SitePath, target: SitePath, *, overwrite: bool = False
    ) -> bool:
        """Rename."""
        self._status(principal, source)
        final = self._free(principal, target, over_files=overwrite)
        replaced = final.exists()
        Path(self._local(source)).rename(final)
        return replaced

    def _free(self, principal: Principal, path: SitePath, *, over_files: bool = False) -> Path:
        """Return where a new name goes."""
        local = Path(self._local(path))
        self._status(principal, parent(path))
        if path in self.unreadable:
            raise NotAuthorised("no write permission")
        if local.is_dir() or (local.exists() and not over_files):
            raise AlreadyExists("the name is taken")
        return local

    def _status(self, principal: Principal, path: SitePath) -> os.stat_result:
        """Find a name that the caller may learn of."""
        barred = self.members is not None and principal.dn not in self.members
        if not barred and path not in self.hidden:
            with suppress(FileNotFoundError, NotADirectoryError):
                return os.stat(self._local(path))  # noqa: PTH116 without an object for each path
        raise NotFound("no such name")

    def _local(self, path: SitePath) -> str:
        return f"{self.root}{path}"

    def _info(self, path: SitePath, status: os.stat_result) -> FileInfo:
        directory = stat.S_ISDIR(status.st_mode)
        return FileInfo(
            path,
            is_directory=directory,
            size_bytes=None if directory else status.st_size,
            adler32=None if directory else self._adler32(path),
            shown_at=SHOWN_AT,
            online=path not in self.nearline,
            writable=self.writable and path not in self.unreadable,
            removable=self.writable and path not in self.unreadable and path != "/",
        )

    def _adler32(self, path: SitePath) -> str | None:
        return f"{zlib.adler32(Path(self._local(path)).read_bytes()):08x}" if self.checksums else None
