"""A file that a user is uploading, as a door writes it: at any offset, by one door at a time.

Other transfer nodes write parts of what a door has taken (`PlainFile.join`); the door sees to the whole.

The bytes stay where they are when a door breaks off, so that the next one can go on from there; what the
database knows no more is swept. The checksum is summed while bytes come in order; after others the file
is read once at the end.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Protocol

from zlib_ng import zlib_ng

from srm_dicom.errors import Busy, InvalidRequest, TooLarge
from srm_dicom.scratch.area import no_space

_CHUNK_BYTES = 1 << 20


class Body(Protocol):
    """Where the bytes of an upload are."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""

    def write(self, offset: int, data: memoryview, /) -> None:
        """Write bytes; NoSpace when there is no room for them."""

    def read(self, offset: int, size_bytes: int, /) -> bytes:
        """Return bytes, fewer at the end."""

    def cut(self, size_bytes: int, /) -> None:
        """Keep the first `size_bytes`, which there are."""

    def flush(self) -> None:
        """Leave nothing in memory that may find no room on the disk: NoSpace says so."""

    def close(self) -> None:
        """Let the next door write; the bytes stay."""


class PlainFile:
    """A `Body` that is a file of scratch."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    @classmethod
    def take(cls, path: Path) -> PlainFile:
        """Open the file for one door.

        Raises:
            Busy: another door is writing it.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Busy("this file is being written by another connection") from error
        return cls(descriptor)

    @classmethod
    def join(cls, path: Path) -> PlainFile:
        """Open the file that another door has taken and goes on to hold, to write a part of it.

        Raises:
            Busy: none is writing it.
        """
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except FileNotFoundError as error:
            raise Busy("no door is writing this file") from error

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return os.fstat(self._fd).st_size

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes; see `Body.write`."""
        with no_space():
            while data:
                written = os.pwrite(self._fd, data, offset)
                offset, data = offset + written, data[written:]

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes, fewer at the end."""
        return os.pread(self._fd, size_bytes, offset)

    def cut(self, size_bytes: int) -> None:
        """Keep the first `size_bytes`."""
        os.ftruncate(self._fd, size_bytes)

    def flush(self) -> None:
        """Do nothing: what was written is the file system's."""

    def close(self) -> None:
        """Give the file back."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)


class UploadSlot:
    """An open slot; `close` gives it back, whole or not.

    Args:
        body: where the bytes go; the slot closes it.
        keep_bytes: how much of what is there already stays; None keeps all of it.
        max_bytes: what the file may have.

    Raises:
        InvalidRequest: there are fewer bytes than shall be kept.
    """

    def __init__(self, body: Body, keep_bytes: int | None, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._body = body
        self._summed = 0
        self._adler32 = 1
        try:
            self._keep(keep_bytes)
        except BaseException:
            body.close()
            raise

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._body.size_bytes

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes; from several threads at once if they write different places.

        Raises:
            TooLarge: beyond what the file may have.
            NoSpace: there is no room for them.
        """
        view = memoryview(data)
        if offset + len(view) > self._max_bytes:
            raise TooLarge(f"a file has at most {self._max_bytes} bytes here")
        with self._lock:
            in_order = offset == self._summed
            if in_order:
                self._adler32 = zlib_ng.adler32(view, self._adler32)
                self._summed += len(view)
            elif offset < self._summed:
                self._summed, self._adler32 = 0, 1
        self._body.write(offset, view)

    def complete(self) -> tuple[int, str]:
        """Return how many bytes there are, and their checksum, eight hexadecimal digits.

        Raises:
            NoSpace: the last of them found no room.
        """
        self._body.flush()
        at, value = self._summed, self._adler32
        while chunk := self._body.read(at, _CHUNK_BYTES):
            at, value = at + len(chunk), zlib_ng.adler32(chunk, value)
        return self.size_bytes, f"{value:08x}"

    def close(self) -> None:
        """Give the slot back; the bytes stay."""
        self._body.close()

    def _keep(self, keep_bytes: int | None) -> None:
        if keep_bytes is None:
            return
        if self.size_bytes < keep_bytes:
            raise InvalidRequest("fewer bytes are here than the transfer shall go on from")
        self._body.cut(keep_bytes)
