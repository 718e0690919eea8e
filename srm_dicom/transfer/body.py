"""An open file as the body of an HTTP answer: read piece by piece while it is sent, closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from srm_dicom.transfer.files import OpenedFile, read_bytes
from srm_dicom.wire.dav.ranges import ByteRange

PIECE_BYTES = 128 * 1024

Plan = Sequence[bytes | ByteRange]
"""What is sent, in this order: bytes as they are, ranges out of the file."""


class FileBody:
    """What a WSGI application returns (PEP 3333): iterated once, then closed by the server."""

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
