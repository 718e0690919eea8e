"""The files of one node as its doors take them in: puts for rights and names, scratch for bytes."""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom.broker.names import Names
from srm_dicom.broker.puts import Puts
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.uploads import UploadSlot
from srm_dicom.store.uploads import Received, Upload


class UploadOfNode:
    """One upload; see `files.NewFile`.

    At the path of a TURL `finish` notes that every byte is here: srmPutDone is still to come. At a plain
    path it waits until the file is stored under its name.
    """

    def __init__(self, principal: Principal, upload: Upload, slot: UploadSlot, puts: Puts) -> None:
        self._principal = principal
        self._upload = upload
        self._slot = slot
        self._puts = puts

    @property
    def size_bytes(self) -> int:
        """How many bytes are here."""
        return self._slot.size_bytes

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes where they belong."""
        self._slot.write(offset, data)

    def finish(self) -> None:
        """Take what has been written as the whole file; see `files.NewFile.finish`.

        Raises:
            MdmError: why a plain path cannot have these bytes after all.
        """
        self._puts.received(self._upload, Received(self._slot.size_bytes, self._slot.adler32()))
        self._slot.close()
        if self._upload.implicit:
            self._puts.finish(self._principal, self._upload)

    def __enter__(self) -> UploadOfNode:
        return self

    def __exit__(self, *_: object) -> None:
        self._slot.close()


@dataclass(frozen=True, slots=True)
class WrittenFilesOfNode:
    """`files.WrittenFiles` over the rows and the scratch area of one node."""

    area: ScratchArea
    puts: Puts
    names: Names

    def private_only(self, principal: Principal, path: SitePath) -> bool:
        """Tell whether it lies in an area whose files are sealed; see `files.WrittenFiles.private_only`."""
        return self.puts.sealed(principal, path)

    def create(
        self,
        principal: Principal,
        path: SitePath,
        *,
        keep_bytes: int | None = 0,
        expected_bytes: int | None = None,
    ) -> UploadOfNode:
        """Begin or go on to write a file; see `files.WrittenFiles.create`."""
        upload, max_bytes = self.puts.open(principal, path, size_bytes=expected_bytes or 0)
        slot = UploadSlot(self.area.incoming(upload.name), keep_bytes, max_bytes)
        return UploadOfNode(principal, upload, slot, self.puts)

    def join(self, principal: Principal, path: SitePath) -> UploadOfNode:
        """Write a part of an upload that another node's door holds; see `files.WrittenFiles.join`."""
        upload, max_bytes = self.puts.open(principal, path)
        slot = UploadSlot(self.area.incoming(upload.name), None, max_bytes, joined=True)
        return UploadOfNode(principal, upload, slot, self.puts)

    def mkdir(self, principal: Principal, path: SitePath) -> None:
        """Make a directory."""
        self.names.make_directory(principal, path, "mkdir")

    def remove(self, principal: Principal, path: SitePath, *, directory: bool) -> None:
        """Remove a file, or what is being written to its name, or an empty directory."""
        if directory:
            self.names.remove_directory(principal, path, "rmdir")
            return
        (failure,) = self.names.remove_files(principal, [path], "remove")
        if failure is not None:
            raise failure

    def rename(self, principal: Principal, source: SitePath, target: SitePath) -> None:
        """Give a name to a file or a directory."""
        self.names.rename(principal, source, target, "rename")
