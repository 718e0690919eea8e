"""What handing in is tried with: an archive that remembers, and a node whose two zones are one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from srm_dicom.plugin.api import (
    Arrived,
    Batch,
    Discovered,
    FileRef,
    PluginContext,
    Sink,
    StoragePlugin,
    Upload,
)
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.node import Incoming
from srm_dicom.scratch.sealeduploads import SealedUploads


class Archive(StoragePlugin):
    """A storage plugin that takes what is handed in and gives nothing.

    Attributes:
        has: what it was given, with the bytes, in order.
    """

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self.has: list[tuple[Upload, bytes]] = []

    @property
    def contents(self) -> list[bytes]:
        """The bytes alone."""
        return [content for _, content in self.has]

    def ingest(self, upload: Upload, arrived: Arrived) -> None:
        """Keep the bytes and tell of something."""
        self.has.append((upload, b"".join(upload.chunks)))
        for tell in arrived.values():
            tell(Discovered(upload.guid, ("series", "image.dcm"), "series", b"ref"))

    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        """Find nothing."""
        del selector, release
        yield from ()

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        """Have nothing."""
        del files
        return []

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        """Bring nothing."""


@dataclass(frozen=True, slots=True)
class OneProcess:
    """A `scratch.node.ScratchNode` without the network between the zones."""

    area: ScratchArea
    sealed: SealedUploads

    def begin(self) -> Incoming:
        """Open a new file."""
        return self.area.begin()

    def publish(self, files: Sequence[tuple[StagedName, str]], /) -> None:
        """Make files durable together."""
        self.area.publish(files)

    def read(self, file_id: str, offset: int, size_bytes: int, /) -> bytes:
        """Return bytes of an upload, opened by whoever has its key."""
        return self.sealed.read(file_id, offset, size_bytes)
