"""The bytes of what is to be stored: those that a door took in, or those of a file that is copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from srm_dicom.crypto.digest import Digest, Sum
from srm_dicom.errors import IntegrityError, ObjectRefused
from srm_dicom.plugin.api import FileRef, Slot
from srm_dicom.plugin.host import PluginHost
from srm_dicom.scratch.node import ScratchNode
from srm_dicom.store.uploads import Received, Upload

CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class UploadedBytes:
    """Reads them from a node's scratch."""

    scratch: ScratchNode

    def chunks(self, upload: Upload, received: Received, digest: Digest | Sum) -> Iterator[bytes]:
        """Yield the bytes of an upload, and sum them; the last only when they are what its door took in.

        Raises:
            IntegrityError: they are not.
            Overloaded: scratch does not answer.
        """
        while digest.size_bytes < received.size_bytes:
            size = min(CHUNK_BYTES, received.size_bytes - digest.size_bytes)
            chunk = self.scratch.read(upload.name, digest.size_bytes, size)
            if not chunk:
                raise IntegrityError("scratch has fewer bytes of an upload than its door took in")
            digest.update(chunk)
            if digest.size_bytes == received.size_bytes:
                compare(digest, received)
            yield chunk

    def copy(self, ref: FileRef, host: PluginHost, within_s: float) -> tuple[str, Received]:
        """Bring the bytes of a file that a plugin has into scratch, as if they had been uploaded.

        Returns:
            What they are called there, and what they are.

        Raises:
            MdmError: the plugin does not give them.
        """
        sink = _CopySink(self.scratch)
        for batch in host.plan([ref]):
            for failure in host.stage(batch, sink, within_s).values():
                if failure is not None:
                    sink.incoming.discard()
                    raise failure
        return sink.incoming.id, Received(sink.digest.size_bytes, sink.digest.adler32)


def compare(digest: Digest | Sum, received: Received) -> None:
    """Refuse other bytes than a door took in.

    Raises:
        IntegrityError: they are others.
    """
    if (digest.size_bytes, digest.adler32) != (received.size_bytes, received.adler32):
        raise IntegrityError("the bytes that were stored are not those that were uploaded")


class _CopySink(Slot):
    """Takes one file's bytes into scratch; it is its own slot."""

    def __init__(self, scratch: ScratchNode) -> None:
        self.incoming = scratch.begin()
        self.digest = Digest()

    def open(self, ref: FileRef) -> _CopySink:
        del ref
        return self

    def is_wanted(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.digest.update(data)
        self.incoming.write(data)

    def commit(self, report: str = "") -> None:
        del report
        self.incoming.finish()

    def fill(self, parts: Sequence[bytes | bytearray | memoryview], report: str = "") -> None:
        for part in parts:
            self.write(part)
        self.commit(report)

    def refuse(self, reason: str) -> None:
        self.incoming.discard()
        raise ObjectRefused(reason)
