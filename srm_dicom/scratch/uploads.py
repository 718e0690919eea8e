"""A file that a user is uploading, as a door writes it: at any offset, by one door at a time.

Other transfer nodes write parts of what a door has taken (`joined`); the door sees to the whole.

The bytes stay where they are when a door breaks off, so that the next one can go on from there; what the
database knows no more is swept. The checksum is summed while bytes come in order; after others the file
is read once at the end.
"""

from __future__ import annotations

import fcntl
import os
import threading
import zlib
from pathlib import Path

from srm_dicom.errors import Busy, InvalidRequest, TooLarge
from srm_dicom.scratch.area import no_space

_CHUNK_BYTES = 1 << 20


class UploadSlot:
    """An open slot; `close` gives it back, whole or not.

    Args:
        path: of the slot's file.
        keep_bytes: how much of what is there already stays; None keeps all of it.
        max_bytes: what the file may have.
        joined: another door has taken the slot and goes on to hold it; this one writes a part.

    Raises:
        Busy: another door is writing it, or none is where one should be.
        InvalidRequest: there are fewer bytes than shall be kept.
    """

    def __init__(self, path: Path, keep_bytes: int | None, max_bytes: int, *, joined: bool = False) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._fd = _join(path) if joined else _begin(path)
        try:
            if not joined:
                self._take(keep_bytes)
        except BaseException:
            os.close(self._fd)
            raise
        self._summed = 0
        self._adler32 = 1

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return os.fstat(self._fd).st_size

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes; from several threads at once if they write different places.

        Raises:
            TooLarge: beyond what the file may have.
            NoSpace: the file system is full.
        """
        view = memoryview(data)
        if offset + len(view) > self._max_bytes:
            raise TooLarge(f"a file has at most {self._max_bytes} bytes here")
        with self._lock:
            in_order = offset == self._summed
            if in_order:
                self._adler32 = zlib.adler32(view, self._adler32)
                self._summed += len(view)
            elif offset < self._summed:
                self._summed, self._adler32 = 0, 1
        with no_space():
            while view:
                written = os.pwrite(self._fd, view, offset)
                offset, view = offset + written, view[written:]

    def adler32(self) -> str:
        """Return the checksum of all bytes, eight hexadecimal digits."""
        at, value = self._summed, self._adler32
        while chunk := os.pread(self._fd, _CHUNK_BYTES, at):
            at, value = at + len(chunk), zlib.adler32(chunk, value)
        return f"{value:08x}"

    def cut(self) -> None:
        """Drop every byte."""
        os.ftruncate(self._fd, 0)
        self._summed, self._adler32 = 0, 1

    def close(self) -> None:
        """Give the slot back; the bytes stay."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _take(self, keep_bytes: int | None) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("this file is being written by another connection") from error
        if keep_bytes is None:
            return
        if self.size_bytes < keep_bytes:
            raise InvalidRequest("fewer bytes are here than the transfer shall go on from")
        os.ftruncate(self._fd, keep_bytes)


def _begin(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _join(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Busy("no door is writing this file") from error
