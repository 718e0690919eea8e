"""`transfer.files.ServedFiles` over a plain directory: what door tests and benchmarks serve."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from srm_dicom.errors import IsADirectory, NotADirectory, NotAuthorised, NotFound, RequestExpired
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, join
from srm_dicom.transfer.files import FileInfo
from srm_dicom.transfer.opened import OpenFile, open_read

SHOWN_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class DirectoryFiles:
    """Every file below `root`, for everybody, but for the exceptions that a test names.

    Attributes:
        hidden: paths that nobody may learn of.
        unreadable: paths that may be seen and not read.
        nearline: paths that are not staged.
        members: DNs that may see anything at all; None lets everybody in.
        checksums: whether adler32 is told, which costs a read of the file.
    """

    root: Path
    hidden: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    nearline: set[str] = field(default_factory=set)
    members: set[str] | None = None
    checksums: bool = True

    def stat(self, principal: Principal, path: SitePath) -> FileInfo:
        """Look a name up."""
        return self._info(path, self._find(principal, path))

    def listdir(self, principal: Principal, path: SitePath) -> Iterable[FileInfo]:
        """Return the entries of a directory."""
        directory = self._find(principal, path)
        if not directory.is_dir():
            raise NotADirectory("this is a file")
        names = (join(path, entry.name) for entry in sorted(directory.iterdir()))
        return [self._info(name, self._local(name)) for name in names if name not in self.hidden]

    def open(self, principal: Principal, path: SitePath) -> OpenFile:
        """Open a file."""
        local = self._find(principal, path)
        if local.is_dir():
            raise IsADirectory("this is a directory")
        if path in self.unreadable:
            raise NotAuthorised("no read permission")
        if path in self.nearline:
            raise RequestExpired("the file is not staged here", advice="Ask the SRM for it.")
        fd = open_read(local)
        return OpenFile(fd, os.fstat(fd).st_size, self._adler32(local))

    def _find(self, principal: Principal, path: SitePath) -> Path:
        local = self._local(path)
        barred = self.members is not None and principal.dn not in self.members
        if barred or path in self.hidden or not local.exists():
            raise NotFound("no such name")
        return local

    def _local(self, path: SitePath) -> Path:
        return self.root / path.lstrip("/")

    def _info(self, path: SitePath, local: Path) -> FileInfo:
        directory = local.is_dir()
        return FileInfo(
            path,
            is_directory=directory,
            size_bytes=None if directory else local.stat().st_size,
            adler32=None if directory else self._adler32(local),
            shown_at=SHOWN_AT,
            online=path not in self.nearline,
        )

    def _adler32(self, local: Path) -> str | None:
        return f"{zlib.adler32(local.read_bytes()):08x}" if self.checksums else None
