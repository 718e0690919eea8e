"""An open file as the body of an HTTP answer: read piece by piece while it is sent, closed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from srm_dicom.transfer.files import OpenedFile
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
                yield from self._read(part)
            else:
                yield part

    def _read(self, part: ByteRange) -> Iterator[bytes]:
        at = part.start
        while at < part.end:
            data = os.pread(self._file.fd, min(PIECE_BYTES, part.end - at), at)
            if not data:
                raise OSError("the file ended early")
            at += len(data)
            yield data
