"""The scratch area of one node: complete files under ``ready/``, everything else under ``incoming/``.

A file is written in ``incoming/`` and becomes ready together with its batch: all are synced, renamed,
and the directories synced, before anybody says so in the database. A name in ``ready/`` is the GUID and
the generation, nothing else. What the database does not call ready is dropped by `sweep`, but only when
nobody has touched it for a while: another process may be writing it, or be about to announce it.

What is done for every image names files by strings: a `Path` costs as much as the call that it is for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from srm_dicom.errors import NoSpace, Overloaded
from srm_dicom.ids import Guid

_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([1-9][0-9]{0,8})")
_ID = re.compile(r"[0-9a-f]{32}")
_NO_SUCH_NAME = "a file that is being written has no such name"

_FEW = 4
"""So many files are synced one by one; for more, the file system is synced as a whole, with whatever else is
being written there: each sync of a file waits for the disk, and sixty of them took ten times as long."""


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
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError("not the name of a staged file")
        return cls(Guid(match[1]), int(match[2]))


class Incoming:
    """A file being written; see `node.Incoming`."""

    def __init__(self, directory: str) -> None:
        self._id = secrets.token_hex(16)
        self._path = f"{directory}/{self._id}"
        with no_space():
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    @property
    def id(self) -> str:
        """The random name under which `ScratchArea.publish` finds the file."""
        return self._id

    @property
    def descriptor(self) -> int:
        """Of the file, until `finish`; another process that has it may write the bytes."""
        return self._descriptor

    @property
    def size_bytes(self) -> int:
        """What has been written, by whomever."""
        return os.stat(self._path).st_size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            NoSpace: the file system is full.
        """
        view = memoryview(data)
        with no_space():
            while view:
                view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Say that every byte is written; `ScratchArea.publish` makes it durable.

        Raises:
            NoSpace: the file system is full.
        """
        with no_space():
            self._close()

    def discard(self) -> None:
        """Drop the file."""
        with suppress(OSError):
            self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class ScratchArea:
    """A directory of ciphertext that the doors of one node serve; it is its own `node.ScratchNode`."""

    def __init__(self, directory: Path) -> None:
        self._ready = directory / "ready"
        self._incoming = directory / "incoming"
        for path in (self._ready, self._incoming):
            path.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._lasting: set[str] = set()

    def begin(self) -> Incoming:
        """Open a new file."""
        return Incoming(str(self._incoming))

    def publish(self, files: Sequence[tuple[StagedName, str]]) -> None:
        """Make files durable together; see `node.ScratchNode.publish`."""
        ready = str(self._ready)
        moves = [(self._written(file_id), f"{ready}/{name.guid[:2]}", str(name)) for name, file_id in files]
        try:
            with no_space():
                _make_durable(ready, moves, self._lasting)
        except BaseException:
            for source, _, _ in moves:
                Path(source).unlink(missing_ok=True)
            raise

    def incoming(self, file_id: str) -> Path:
        """Return where the bytes of an upload of this random name are, or will be."""
        if not _ID.fullmatch(file_id):
            raise Overloaded(_NO_SUCH_NAME)
        return self._incoming / file_id

    def read(self, file_id: str, offset: int, size_bytes: int) -> bytes:
        """Return bytes of a file that is not ready; see `node.ScratchNode.read`."""
        with Path(self._written(file_id)).open("rb") as file:
            file.seek(offset)
            return file.read(size_bytes)

    def path(self, name: StagedName) -> Path:
        """Return where a ready file is."""
        return self._ready / name.guid[:2] / str(name)

    def has(self, name: StagedName, size_bytes: int) -> bool:
        """Tell whether a file is there in its full length."""
        try:
            return self.path(name).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def remove(self, name: StagedName) -> None:
        """Remove a ready file; one that is being sent stays readable for those who opened it."""
        self.path(name).unlink(missing_ok=True)

    def drop(self, file: str) -> None:
        """Drop a file that is of no more use, by what it is called here, ready or not."""
        path = self._incoming / file if _ID.fullmatch(file) else self.path(StagedName.parse(file))
        path.unlink(missing_ok=True)

    def names(self) -> Iterator[StagedName]:
        """Yield what is ready."""
        for path in self._ready.glob("*/*"):
            with suppress(ValueError):
                yield StagedName.parse(path.name)

    def sweep(self, known: Iterable[StagedName], before: datetime, uploads: Container[str] = ()) -> int:
        """Drop what is not `known`, nor one of `uploads`, and was last written earlier than `before`.

        Returns:
            How many files went.
        """
        keep = set(known)
        strays = [self.path(name) for name in self.names() if name not in keep]
        loose = [path for path in self._incoming.iterdir() if path.name not in uploads]
        return sum(_drop_older(path, before) for path in (*loose, *strays))

    def free_bytes(self) -> int:
        """Return what the file system still takes."""
        stat = os.statvfs(self._ready)
        return stat.f_bavail * stat.f_frsize

    def lacking_bytes(self, spare_bytes: int) -> int:
        """Return how much has to go until the file system takes `spare_bytes`, or a sixth of its size."""
        stat = os.statvfs(self._ready)
        return min(spare_bytes, stat.f_blocks * stat.f_frsize // 6) - stat.f_bavail * stat.f_frsize

    def _written(self, file_id: str) -> str:
        if not _ID.fullmatch(file_id):
            raise Overloaded(_NO_SUCH_NAME)
        path = f"{self._incoming}/{file_id}"
        if not os.path.exists(path):
            raise Overloaded("a file waited too long for becoming ready and is gone")
        return path


class no_space:  # noqa: N801 - a context, made for every call: a generator takes as long as the call
    """Turn a full file system into `NoSpace`."""

    def __init__(self, what: str = "scratch") -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise `NoSpace` in the place of what says so."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{self._what} is full") from error


def _drop_older(path: Path, before: datetime) -> bool:
    """Unlink a file last written earlier than `before`; tells whether it went."""
    try:
        written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if written_at >= before:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _make_durable(ready: str, moves: Sequence[tuple[str, str, str]], lasting: set[str]) -> None:
    """Sync every source, then give each its name in its directory, then sync the directories.

    Args:
        ready: where the directories are.
        moves: source, directory and name of each.
        lasting: the directories that are known to be durable in `ready` themselves; these become so.
    """
    _sync([source for source, _, _ in moves])
    directories = {directory for _, directory, _ in moves}
    for directory in directories:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o750)
    for source, directory, name in moves:
        os.rename(source, f"{directory}/{name}")
    _sync([*directories] if directories <= lasting else [*directories, ready])
    lasting |= directories


def _sync(paths: Sequence[str]) -> None:
    """Make files of one file system, or the entries of directories, durable."""
    whole = len(paths) > _FEW and _syncfs is not None
    for path in paths[-1:] if whole else paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if whole:
                _sync_file_system(descriptor)
            else:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_file_system(descriptor: int) -> None:
    """Call syncfs, which Python has not."""
    assert _syncfs is not None  # noqa: S101 - asked before
    if _syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _find_syncfs() -> Callable[[int], int] | None:
    """Return syncfs of a Linux that tells when what it has written is lost, which it does since 5.8."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if os.uname().sysname != "Linux" or release is None or (int(release[1]), int(release[2])) < (5, 8):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return found


_syncfs = _find_syncfs()
