"""An open file as the body of an HTTP answer: read piece by piece while it is sent, closed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from srm_dicom.transfer.files import Extent, OpenedFile, read_bytes
from srm_dicom.wire.dav.ranges import ByteRange

PIECE_BYTES = 128 * 1024

Plan = Sequence[bytes | ByteRange]
"""What is sent, in this order: bytes as they are, ranges out of the file."""


class FilePart:
    """Bytes of a file that are read when they are sent; a `web.response.Part`."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return self._extent.end - self._extent.start

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer with what is at an offset of the part; tells how far.

        Raises:
            OSError: the file is shorter than it was.
        """
        count = os.preadv(self._extent.fd, [buffer[: len(self) - offset]], self._extent.start + offset)
        if not count:
            raise OSError("the file ended early")
        return count


class FileBody:
    """What a WSGI application returns (PEP 3333): iterated once, then closed by the server.

    Our own server asks for `parts` instead, which costs it no object for each piece.
    """

    def __init__(self, file: OpenedFile, plan: Plan, close: Callable[[], None]) -> None:
        """Take an open file over; `close` closes it."""
        self._file = file
        self._plan = plan
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of the plan.

        Raises:
            OSError: the file is shorter than it was.
        """
        for part in self._plan:
            if isinstance(part, ByteRange):
                yield from read_bytes(self._file, part.start, part.end, PIECE_BYTES)
            else:
                yield part

    def parts(self) -> Iterator[bytes | FilePart]:
        """Yield the plan as what the server can read from by itself."""
        for part in self._plan:
            if isinstance(part, ByteRange):
                yield from map(FilePart, self._file.extents(part.start, part.end))
            else:
                yield part
