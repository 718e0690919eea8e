"""The scratch area of one node: complete files under ``ready/``, everything else under ``incoming/``.

A file is written in ``incoming/`` and becomes ready together with its batch: all are synced, renamed,
and the directories synced, before anybody says so in the database. What the database does not call
ready is dropped by `sweep`; a name in ``ready/`` is the GUID and the generation, nothing else.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.errors import NoSpace
from srm_dicom.ids import Guid


@dataclass(frozen=True, slots=True, order=True)
class StagedName:
    """What a ready file is called."""

    guid: Guid
    generation: int

    def __str__(self) -> str:
        return f"{self.guid}.{self.generation}"

    @classmethod
    def parse(cls, text: str) -> StagedName:
        """Read the name of a ready file; ValueError when it is none."""
        guid, _, generation = text.partition(".")
        return cls(Guid(guid), int(generation))


class Incoming:
    """A file being written; it has no name that anybody is told."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb", buffering=256 * 1024)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            NoSpace: the file system is full.
        """
        with _no_space():
            self._file.write(data)

    def finish(self) -> None:
        """Say that every byte is written; `ScratchArea.publish` makes it durable."""
        with _no_space():
            self._file.flush()

    def sync(self) -> None:
        """Make the bytes durable and close the file."""
        with _no_space():
            os.fsync(self._file.fileno())
        self._file.close()

    def rename(self, target: Path) -> None:
        """Give the file its name."""
        self._path.rename(target)

    def discard(self) -> None:
        """Drop the file."""
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


class ScratchArea:
    """A directory of ciphertext that the doors of one node serve."""

    def __init__(self, directory: Path) -> None:
        self._ready = directory / "ready"
        self._incoming = directory / "incoming"
        for path in (self._ready, self._incoming):
            path.mkdir(parents=True, exist_ok=True, mode=0o750)

    def begin(self) -> Incoming:
        """Open a new file."""
        return Incoming(self._incoming / secrets.token_hex(16))

    def publish(self, files: Sequence[tuple[StagedName, Incoming]]) -> None:
        """Make files durable together, under their names; a file of the same name is replaced.

        Raises:
            NoSpace: the file system is full; nothing of the batch is ready.
        """
        for _, incoming in files:
            incoming.sync()
        directories = {self._directory(name.guid) for name, _ in files}
        for directory in directories:
            directory.mkdir(exist_ok=True, mode=0o750)
        for name, incoming in files:
            incoming.rename(self.path(name))
        for directory in (*directories, self._ready):
            _sync_directory(directory)

    def path(self, name: StagedName) -> Path:
        """Return where a ready file is."""
        return self._directory(name.guid) / str(name)

    def has(self, name: StagedName, size_bytes: int) -> bool:
        """Tell whether a file is there in its full length."""
        try:
            return self.path(name).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def remove(self, name: StagedName) -> None:
        """Remove a ready file; one that is being sent stays readable for those who opened it."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[StagedName]:
        """Yield what is ready."""
        for path in self._ready.glob("*/*"):
            with suppress(ValueError):
                yield StagedName.parse(path.name)

    def sweep(self, known: Iterable[StagedName]) -> int:
        """Drop everything that is not `known`; returns how many files went. Only at start."""
        keep = set(known)
        dropped = 0
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)
            dropped += 1
        for name in [name for name in self.names() if name not in keep]:
            self.remove(name)
            dropped += 1
        return dropped

    def free_bytes(self) -> int:
        """Return what the file system still takes."""
        stat = os.statvfs(self._ready)
        return stat.f_bavail * stat.f_frsize

    def _directory(self, guid: Guid) -> Path:
        return self._ready / guid[:2]


@contextmanager
def _no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("scratch is full") from error
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
