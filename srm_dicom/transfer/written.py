"""The files of one node as its doors take them in: puts for rights and names, scratch for bytes."""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom.broker.areas import Area
from srm_dicom.broker.names import Names
from srm_dicom.broker.puts import Puts
from srm_dicom.errors import Busy, NotSupported, RequestExpired
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.sealeduploads import SealedUploads
from srm_dicom.scratch.uploads import Body, PlainFile, UploadSlot
from srm_dicom.store.uploads import Received, Upload


class UploadOfNode:
    """One upload; see `files.NewFile`.

    At the path of a TURL `finish` notes that every byte is here: srmPutDone is still to come. At a plain
    path it waits until the file is stored under its name.

    Args:
        kept: whether what is not complete when it is closed stays, for whoever goes on with it.
        replaces: see `files.NewFile.replaces`.
    """

    def __init__(
        self,
        principal: Principal,
        upload: Upload,
        slot: UploadSlot,
        puts: Puts,
        *,
        kept: bool = True,
        replaces: bool = False,
    ) -> None:
        self.replaces = replaces
        self._principal = principal
        self._upload = upload
        self._slot = slot
        self._puts = puts
        self._kept = kept

    @property
    def size_bytes(self) -> int:
        """How many bytes are here."""
        return self._slot.size_bytes

    @property
    def has_holes(self) -> bool:
        """Whether some bytes before the last have never come."""
        return self._upload.in_order_bytes(self.size_bytes) < self.size_bytes

    def scattered(self, whole_bytes: int | None) -> None:
        """Remember how many bytes there are from the first on; see `files.NewFile.scattered`."""
        self._puts.scattered(self._upload, whole_bytes)

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes where they belong."""
        self._slot.write(offset, data)

    def finish(self) -> None:
        """Take what has been written as the whole file; see `files.NewFile.finish`.

        Raises:
            MdmError: why a plain path cannot have these bytes after all.
        """
        self._puts.received(self._upload, Received(*self._slot.complete()))
        self._kept = True  # it is the inner zone's now
        self._slot.close()
        if self._upload.implicit:
            self._puts.finish(self._principal, self._upload)

    def __enter__(self) -> UploadOfNode:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._kept:  # before another connection can take it
                self._puts.give_up(self._upload)
        finally:
            self._slot.close()


@dataclass(frozen=True, slots=True)
class WrittenFilesOfNode:
    """`files.WrittenFiles` over the rows and the scratch area of one node.

    Attributes:
        sealed: where images are handed in; None in a process that takes none.
    """

    area: ScratchArea
    puts: Puts
    names: Names
    sealed: SealedUploads | None = None

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
        resumable: bool = True,
        scattered: int | None = None,
    ) -> UploadOfNode:
        """Begin or go on to write a file; see `files.WrittenFiles.create`."""
        upload, area = self.puts.open(principal, path, size_bytes=expected_bytes or 0)
        kept = resumable or not upload.implicit
        try:
            slot = self._slot(upload, area, keep_bytes, scattered)
        except (Busy, RequestExpired):  # it is another connection's, or is being stored for one
            raise
        except BaseException:
            if not kept:
                self.puts.give_up(upload)
            raise
        replaces = upload.implicit and self.names.stores.namespace.find(upload.path) is not None
        return UploadOfNode(principal, upload, slot, self.puts, kept=kept, replaces=replaces)

    def join(self, principal: Principal, path: SitePath) -> UploadOfNode:
        """Write a part of an upload that another node's door holds; see `files.WrittenFiles.join`."""
        upload, area = self.puts.open(principal, path)
        if area.sealed:
            raise NotSupported("an image is written by one node", advice="Send it without -stripe.")
        slot = UploadSlot(PlainFile.join(self.area.incoming(upload.name)), None, area.max_file_bytes)
        return UploadOfNode(principal, upload, slot, self.puts)

    def _slot(self, upload: Upload, area: Area, keep_bytes: int | None, scattered: int | None) -> UploadSlot:
        """Take the bytes for this connection; nothing of them is touched before they are its own."""
        body = self._body(upload, area)
        try:
            self.puts.begin(upload, keep_bytes, scattered)
        except BaseException:
            body.close()
            raise
        return UploadSlot(body, keep_bytes, area.max_file_bytes)

    def _body(self, upload: Upload, area: Area) -> Body:
        if not area.sealed:
            return PlainFile.take(self.area.incoming(upload.name))
        if self.sealed is None:
            raise NotSupported("images are uploaded through the site's doors only")
        return self.sealed.open(upload.name)

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

    def rename(
        self, principal: Principal, source: SitePath, target: SitePath, *, overwrite: bool = False
    ) -> bool:
        """Give a name to a file or a directory."""
        return self.names.rename(principal, source, target, "rename", overwrite=overwrite)
