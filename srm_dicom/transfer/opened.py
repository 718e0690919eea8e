"""Open files as the doors serve them: a descriptor, or a bundle with a descriptor for each of its files."""

from __future__ import annotations

import os
import resource
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
    """Many files as one; all of them stay readable until it is closed, whatever happens to their names.

    Args:
        bundle: where what has to be.
        fds: of its members, in its order; they belong to this object.
        charge: see `files.OpenedFile.charge`.
        closed: called once, after they have been closed.

    Raises:
        OSError: there is no descriptor left; they have been closed.
    """

    def __init__(
        self, bundle: Bundle, fds: Sequence[int], charge: Charge, closed: Callable[[], None]
    ) -> None:
        self._bundle = bundle
        self._fds = fds
        self._closed = closed
        try:
            self._filler = _memory(bundle.filler)
        except BaseException:
            close_all(fds)
            closed()
            raise
        self.size_bytes = bundle.size_bytes
        self.adler32: str | None = bundle.adler32
        self.charge = charge

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield what comes out of which file; see `files.OpenedFile.extents`."""
        for piece in self._bundle.cut(start, end):
            fd = self._filler if piece.member is None else self._fds[piece.member]
            yield Extent(fd, piece.start, piece.end)

    def close(self) -> None:
        """Close all descriptors; see `OpenFile.close`."""
        filler, self._filler = self._filler, -1
        if filler >= 0:
            fds, self._fds = self._fds, [-1] * len(self._fds)
            close_all([filler, *fds])
            self._closed()

    def __enter__(self) -> OpenBundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_read(path: Path | str) -> int:
    """Return a descriptor for reading that no child inherits."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def for_bundles() -> int:
    """Return how many descriptors open bundles may have: half of those that the process may."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def _memory(content: bytes) -> int:
    descriptor = os.memfd_create("served", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
