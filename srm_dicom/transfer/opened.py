"""Open files as the doors serve them: a descriptor, or a bundle of which each file is opened in its turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from srm_dicom.transfer.files import Extent
from srm_dicom.wire.bundle import Bundle

Charge = Callable[[int], None]


def _free(size_bytes: int) -> None:
    """Cost nothing."""


class OpenFile:
    """A descriptor; it stays readable until it is closed, whatever happens to its name meanwhile.

    Args:
        fd: belongs to this object.
        size_bytes: of the file.
        adler32: of the file, if it is known.
        charge: see `files.OpenedFile.charge`.
    """

    def __init__(self, fd: int, size_bytes: int, adler32: str | None, charge: Charge = _free) -> None:
        self._fd = fd
        self.size_bytes = size_bytes
        self.adler32 = adler32
        self.charge = charge

    @classmethod
    def in_memory(cls, content: bytes) -> OpenFile:
        """Return bytes as a file."""
        return cls(_memory(content), len(content), None)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield the one extent; see `files.OpenedFile.extents`."""
        yield Extent(self._fd, start, end)

    def close(self) -> None:
        """Close the descriptor; its number will be another file's, so that nothing may use it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OpenBundle:
    """Many files as one; each is open while its bytes are read, so that a thousand cost one descriptor.

    A name in scratch stands for the same bytes for ever, so that what is opened late is what was meant; one
    that has gone by then ends the transfer.

    Args:
        bundle: where what has to be.
        paths: of its members, in its order.
        charge: see `files.OpenedFile.charge`.
    """

    def __init__(self, bundle: Bundle, paths: Sequence[Path], charge: Charge) -> None:
        self._bundle = bundle
        self._paths = paths
        self._filler = _memory(bundle.filler)
        self.size_bytes = bundle.size_bytes
        self.adler32: str | None = bundle.adler32
        self.charge = charge

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield what comes out of which file; see `files.OpenedFile.extents`."""
        for piece in self._bundle.cut(start, end):
            if piece.member is None:
                yield Extent(self._filler, piece.start, piece.end)
                continue
            descriptor = open_read(self._paths[piece.member])
            try:
                yield Extent(descriptor, piece.start, piece.end)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Close what lies between the members."""
        fd, self._filler = self._filler, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> OpenBundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_read(path: Path | str) -> int:
    """Return a descriptor for reading that no child inherits."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _memory(content: bytes) -> int:
    descriptor = os.memfd_create("served", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor
