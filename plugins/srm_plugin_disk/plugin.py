"""The disk storage plugin: a POSIX directory makes the server an ordinary storage element.

A registered file's name in the namespace is its name below the root. What users upload lies below
`Settings.uploads`, under the name that it was uploaded to; it stays there when its name changes, and a
name that is taken, a directory's by a file too, gets the GUID after it. The directory is never trusted to
hold still: each open walks down from the root component by component and follows no symbolic link, so
nothing outside the root is ever read or written, whatever somebody renames meanwhile.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from zlib_ng import zlib_ng

from srm_dicom.clock import Clock
from srm_dicom.errors import (
    ConfigError,
    IntegrityError,
    InvalidRequest,
    NotDelivered,
    SourceRefused,
    SourceUnavailable,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import (
    Batch,
    Check,
    Discovered,
    FileRef,
    PluginContext,
    Sink,
    Slot,
    Source,
    StoragePlugin,
    Upload,
)
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import no_space

CHUNK_BYTES = 1 << 20
HIDDEN = ".incoming"
"""In the directory of uploads: what is not complete, by GUID."""

STALE_S = 86400.0
PLACINGS = 100
"""So often an upload makes the directory that removals of other files find empty; once is the rule."""

_COMPONENT = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")
_NAMESPACE = uuid.UUID("1d6f6c9e-5a0e-5b0c-9a35-6f0d3f3c1b52")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``plugins.d/disk.toml`` may say.

    Attributes:
        root: the directory.
        max_visits: how many batches may be read at once.
        batch_files: most files of one batch.
        uploads: the directory below the root that uploads go to; nothing in it is found by a selector.
    """

    root: str
    max_visits: Annotated[int, Meta(ge=1, le=64)] = 4
    batch_files: Annotated[int, Meta(ge=1)] = 500
    uploads: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")] = "uploads"


class DiskPlugin(StoragePlugin):
    """See the module."""

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        try:
            self._settings = msgspec.convert(dict(context.settings), Settings)
        except msgspec.ValidationError as error:
            raise ConfigError(f"disk plugin: {error}") from None
        self._root = Path(self._settings.root)
        if not self._root.is_absolute():
            raise ConfigError("disk plugin: root is not an absolute path")

    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        """Yield the regular files that a glob pattern below the root finds, such as ``**/*.dat``.

        Links, other things than files, and names that cannot be exported are passed over.

        Raises:
            InvalidRequest: the pattern is empty, absolute or leaves the root.
            SourceUnavailable: the root is not there.
        """
        if not selector or selector.startswith("/") or ".." in Path(selector).parts:
            raise InvalidRequest("the selector of a disk is a glob pattern below its root")
        self._probe()
        for path in sorted(self._root.glob(selector)):
            parts = path.relative_to(self._root).parts
            if parts[:1] == (self._settings.uploads,):
                continue
            if parts and all(map(_COMPONENT.match, parts)) and self._is_file(parts):
                yield self._discovered(parts, release)

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        """Cut the files into batches, in their order."""
        size = self._settings.batch_files
        return [
            Batch("disk", f"{self.context.name} {start // size}", tuple(files[start : start + size]))
            for start in range(0, len(files), size)
        ]

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        """Copy each file into its slot; one that is gone fails alone.

        Raises:
            NotDelivered: the time is up.
        """
        clock = self.context.clock
        end_s = clock.monotonic_s() + deadline_s
        for file in batch.files:
            with suppress(OSError), self._open(_parts(file.plugin_ref)) as source:
                _copy(source, sink.open(file), clock, end_s)

    def accept(self, upload: Upload) -> Discovered:
        """Write an upload under a hidden name, check it, make it durable, then give it its name.

        Raises:
            NoSpace: the disk is full.
            IntegrityError: its size or checksum is not what was announced.
            SourceUnavailable: the root is not there, or directories in it do not last.
        """
        self._probe()
        target = (self._settings.uploads, *upload.path)
        with _made(self._root, (self._settings.uploads, HIDDEN)) as hidden:
            _sweep(hidden, self.context.clock.now().timestamp() - STALE_S)
            try:
                with no_space():
                    _write(hidden, upload)
                    placed = self._place(hidden, target, upload.guid)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(upload.guid, dir_fd=hidden)
        return Discovered(upload.guid, upload.path, "", "/".join(placed).encode())

    def remove(self, ref: FileRef) -> None:
        """Remove an uploaded file, and directories that it leaves empty; what was registered is not touched.

        Raises:
            SourceUnavailable: the root is not there.
            SourceRefused: the file is not one of an upload.
        """
        self._probe()
        with suppress(FileNotFoundError, NotADirectoryError):
            parts = _parts(ref.plugin_ref)
            if parts[0] != self._settings.uploads:
                raise SourceRefused("only what was uploaded is removed from the disk")
            with _descend(self._root, parts[:-1]) as directory:
                os.unlink(parts[-1], dir_fd=directory)
            self._prune(parts[:-1])

    def sources(self) -> Sequence[Source]:
        """Return the directory."""
        return [Source("disk", self._settings.max_visits, self._probe)]

    def checks(self) -> Iterator[Check]:
        """Yield whether the directory can be read."""
        there = self._root.is_dir() and os.access(self._root, os.R_OK | os.X_OK)
        yield Check(
            f"disk {self.context.name}: root", there, "it can be read" if there else "it cannot be read"
        )

    def _place(self, hidden: int, target: tuple[str, ...], guid: Guid) -> tuple[str, ...]:
        """Give a complete upload its name; a directory that a removal takes away meanwhile is made again."""
        *above, name = target
        for _ in range(PLACINGS):
            try:
                with _made(self._root, tuple(above)) as directory:
                    return (*above, _give_name(hidden, directory, name, guid))
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                above = _beside_a_file(self._root, above, guid)
        raise SourceUnavailable("the disk has no directory for this name")

    def _prune(self, parts: tuple[str, ...]) -> None:
        while len(parts) > 1:
            *above, last = parts
            try:
                with _descend(self._root, tuple(above)) as directory:
                    os.rmdir(last, dir_fd=directory)
            except OSError:
                return
            parts = tuple(above)

    def _probe(self) -> None:
        if not self._root.is_dir():
            raise SourceUnavailable("the root directory of the disk is not there")

    def _discovered(self, parts: tuple[str, ...], release: Release) -> Discovered:
        name = "/".join(parts)
        whole = "\0".join((self.context.name, str(release), name))
        directory = "\0".join((self.context.name, str(release), *parts[:-1]))
        return Discovered(
            guid=Guid(str(uuid.uuid5(_NAMESPACE, whole))),
            path=parts,
            group=sha256(directory.encode()).hexdigest()[:32],
            plugin_ref=name.encode(),
        )

    def _is_file(self, parts: tuple[str, ...]) -> bool:
        try:
            self._open(parts).close()
        except OSError:
            return False
        return True

    def _open(self, parts: tuple[str, ...]) -> FileIO:
        """Open a regular file below the root, following no link on the way."""
        with _descend(self._root, parts[:-1]) as directory:
            handle = os.open(parts[-1], _FILE, dir_fd=directory)
        file = FileIO(handle, "rb")
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            file.close()
            raise FileNotFoundError(parts[-1])
        return file


def _parts(plugin_ref: bytes) -> tuple[str, ...]:
    parts = tuple(plugin_ref.decode("ascii", "replace").split("/"))
    if not all(map(_COMPONENT.match, parts)) or {".", ".."} & set(parts):
        raise FileNotFoundError("a plugin_ref that this plugin did not make")
    return parts


@contextmanager
def _descend(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = os.open(part, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _made(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Open a directory below the root, making what is missing of it."""
    for depth in range(1, len(parts) + 1):
        with _descend(root, parts[: depth - 1]) as directory, suppress(FileExistsError):
            os.mkdir(parts[depth - 1], 0o750, dir_fd=directory)
            os.fsync(directory)
    with _descend(root, parts) as directory:
        yield directory


def _beside_a_file(root: Path, parts: Sequence[str], guid: Guid) -> list[str]:
    """Return the way to a directory, with the GUID after the first name that is a file's, if one is."""
    for depth, part in enumerate(parts):
        with suppress(FileNotFoundError, NotADirectoryError), _descend(root, tuple(parts[:depth])) as above:
            if stat.S_ISREG(os.stat(part, dir_fd=above, follow_symlinks=False).st_mode):
                return [*parts[:depth], f"{part[:200]}.{guid}", *parts[depth + 1 :]]
    return list(parts)


def _write(hidden: int, upload: Upload) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(upload.guid, flags, 0o640, dir_fd=hidden)
    adler32 = 1
    size_bytes = 0
    with FileIO(handle, "wb") as file:
        for chunk in upload.chunks:
            view = memoryview(chunk)
            adler32 = zlib_ng.adler32(view, adler32)
            size_bytes += len(view)
            while view:
                view = view[file.write(view) :]
        if (size_bytes, f"{adler32:08x}") != (upload.size_bytes, upload.adler32):
            raise IntegrityError("an upload came to the disk with another size or checksum")
        os.fsync(handle)


def _give_name(hidden: int, directory: int, name: str, guid: Guid) -> str:
    """Link a complete file to its name, or to one that nobody has; nothing is ever replaced."""
    for wanted in (name, f"{name[:200]}.{guid}"):
        with suppress(FileExistsError):
            os.link(guid, wanted, src_dir_fd=hidden, dst_dir_fd=directory, follow_symlinks=False)
            os.fsync(directory)
            return wanted
    raise FileExistsError(name)


def _sweep(hidden: int, before_s: float) -> None:
    """Drop what was left half written by a process that died."""
    for name in os.listdir(hidden):
        with suppress(FileNotFoundError):
            if os.stat(name, dir_fd=hidden, follow_symlinks=False).st_mtime < before_s:
                os.unlink(name, dir_fd=hidden)


def _copy(source: FileIO, slot: Slot, clock: Clock, end_s: float) -> None:
    while chunk := source.read(CHUNK_BYTES):
        if clock.monotonic_s() > end_s:
            raise NotDelivered("the copy was not over when its time was up")
        slot.write(chunk)
    slot.commit()
