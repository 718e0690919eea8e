"""The disk storage plugin: a POSIX directory, read only, makes the server an ordinary storage element.

A file's name in the namespace is its name below the root. The directory is never trusted to hold still:
each open walks down from the root component by component and follows no symbolic link, so nothing
outside the root is ever read, whatever somebody renames meanwhile.
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

from srm_dicom.clock import Clock
from srm_dicom.errors import ConfigError, InvalidRequest, NotDelivered, SourceUnavailable
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
)
from srm_dicom.rights.project import Release

CHUNK_BYTES = 1 << 20
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
    """

    root: str
    max_visits: Annotated[int, Meta(ge=1, le=64)] = 4
    batch_files: Annotated[int, Meta(ge=1)] = 500


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

    def sources(self) -> Sequence[Source]:
        """Return the directory."""
        return [Source("disk", self._settings.max_visits, self._probe)]

    def checks(self) -> Iterator[Check]:
        """Yield whether the directory can be read."""
        there = self._root.is_dir() and os.access(self._root, os.R_OK | os.X_OK)
        yield Check(
            f"disk {self.context.name}: root", there, "it can be read" if there else "it cannot be read"
        )

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


def _copy(source: FileIO, slot: Slot, clock: Clock, end_s: float) -> None:
    while chunk := source.read(CHUNK_BYTES):
        if clock.monotonic_s() > end_s:
            raise NotDelivered("the copy was not over when its time was up")
        slot.write(chunk)
    slot.commit()
