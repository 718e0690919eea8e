"""Uploads that identify patients: no clear byte of theirs reaches a disk of the outer zone.

What a door takes in lies in scratch in blocks, each under AES-256-GCM. Every upload has a key of its own that
is in the memory of this process alone, so that of an upload whose process has ended there is only noise. A
block that is written again, as connections in any order and restarts have it, takes the next number of its
key's count for a nonce: no nonce ever serves twice. Which number a block was written with is in memory too,
so that an older state of a block, put back into the file, is found out.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from srm_dicom.errors import Aborted, Busy, IntegrityError, NoSpace, Overloaded
from srm_dicom.scratch.area import ScratchArea, no_space

BLOCK_BYTES = 64 * 1024
OPEN_BLOCKS = 16
"""Of one upload that are in memory because they are not full yet; parallel streams each fill their own."""

_SEALED_BYTES = BLOCK_BYTES + 16


@dataclass(frozen=True, slots=True)
class SealedBounds:
    """Of all sealed uploads of a node together: how many, and how many bytes."""

    uploads: int = 1000
    total_bytes: int = 64 * 1024**3


class SealedFile:
    """One upload's bytes; see `uploads.Body`. Called from several threads at once.

    Args:
        path: of its file, which is made anew.
        grow: is told how many bytes the file is about to grow by, and may refuse.
    """

    def __init__(self, path: Path, grow: Callable[[int], None]) -> None:
        self._path = path
        self._grow = grow
        self._aead: AESGCM | None = AESGCM(secrets.token_bytes(32))
        self._spent = 0
        self._numbers = array("Q")  # by block: its nonce; 0 of one that was never written
        self._open: OrderedDict[int, bytearray] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.RLock()
        self._taken = False
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._size_bytes

    def take(self) -> None:
        """Let one door write.

        Raises:
            Busy: another does.
        """
        with self._lock:
            if self._taken:
                raise Busy("this file is being written by another connection")
            self._taken = True

    def close(self) -> None:
        """Let the next door write; the bytes stay."""
        with self._lock:
            with suppress(NoSpace, Aborted):  # what finds no room waits in memory
                self.flush()
            self._taken = False

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes.

        Raises:
            NoSpace: the file system is full, or all sealed uploads together have no more room.
            Aborted: the upload has ended.
        """
        with self._lock:
            end = offset + len(data)
            more_bytes = max(0, end - self._size_bytes)
            self._grow(more_bytes)
            try:
                self._put(offset, data)
            except BaseException:
                self._grow(-more_bytes)
                raise
            self._size_bytes += more_bytes

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes, fewer at the end; what was never written reads as zeros.

        Raises:
            IntegrityError: the disk has other bytes than were written.
            Aborted: the upload has ended.
        """
        with self._lock:
            end = min(offset + size_bytes, self._size_bytes)
            if offset >= end:
                return b""
            first = offset // BLOCK_BYTES
            content = b"".join(self._content(one) for one in range(first, -(-end // BLOCK_BYTES)))
            return content[offset - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def cut(self, size_bytes: int) -> None:
        """Keep the first `size_bytes`."""
        with self._lock:
            self._cipher()
            number, at = divmod(size_bytes, BLOCK_BYTES)
            if at:
                self._opened(number)[at:] = bytes(BLOCK_BYTES - at)
            blocks = number + bool(at)
            for beyond in [one for one in self._open if one >= blocks]:
                del self._open[beyond]
            del self._numbers[blocks:]
            os.truncate(self._path, blocks * _SEALED_BYTES)
            self._grow(size_bytes - self._size_bytes)
            self._size_bytes = size_bytes

    def flush(self) -> None:
        """Leave nothing in memory but the key.

        Raises:
            NoSpace: the file system is full.
        """
        with self._lock:
            while self._open:
                self._put_away(next(iter(self._open)))

    def end(self) -> None:
        """Forget the key, and with it the bytes; who is writing hears that the upload has ended."""
        with self._lock:
            self._aead = None
            self._open.clear()
            self._path.unlink(missing_ok=True)
            self._grow(-self._size_bytes)
            self._size_bytes = 0

    # --- blocks ----------------------------------------------------------------------------------

    def _put(self, offset: int, data: memoryview) -> None:
        self._cipher()
        missing = -(-(offset + len(data)) // BLOCK_BYTES) - len(self._numbers)
        self._numbers.frombytes(bytes(self._numbers.itemsize * max(0, missing)))
        while data:
            number, at = divmod(offset, BLOCK_BYTES)
            piece = data[: BLOCK_BYTES - at]
            if len(piece) == BLOCK_BYTES:
                self._seal(number, piece)
                self._open.pop(number, None)
            else:
                self._opened(number)[at : at + len(piece)] = piece
            offset, data = offset + len(piece), data[len(piece) :]

    def _opened(self, number: int) -> bytearray:
        """Return a block to be changed in memory."""
        block = self._open.get(number)
        if block is None:
            if len(self._open) >= OPEN_BLOCKS:
                self._put_away(next(iter(self._open)))
            block = self._open[number] = bytearray(self._content(number))
        self._open.move_to_end(number)
        return block

    def _put_away(self, number: int) -> None:
        self._seal(number, self._open[number])
        del self._open[number]

    def _content(self, number: int) -> bytes | bytearray:
        if number in self._open:
            return self._open[number]
        if not self._numbers[number]:
            return bytes(BLOCK_BYTES)
        with self._file(os.O_RDONLY) as descriptor:
            sealed = os.pread(descriptor, _SEALED_BYTES, number * _SEALED_BYTES)
        try:
            return self._cipher().decrypt(_nonce(self._numbers[number]), sealed, None)
        except InvalidTag as error:
            raise IntegrityError("scratch has other bytes of an upload than were written") from error

    def _seal(self, number: int, block: memoryview | bytearray) -> None:
        self._spent += 1  # before anything may fail: what failed half-way has spent it too
        nonce = self._spent
        sealed = memoryview(self._cipher().encrypt(_nonce(nonce), block, None))
        at = number * _SEALED_BYTES
        with no_space(), self._file(os.O_WRONLY) as descriptor:
            while sealed:
                written = os.pwrite(descriptor, sealed, at)
                at, sealed = at + written, sealed[written:]
        self._numbers[number] = nonce

    def _cipher(self) -> AESGCM:
        if self._aead is None:
            raise Aborted("the put was ended")
        return self._aead

    @contextmanager
    def _file(self, flags: int) -> Iterator[int]:
        try:
            descriptor = os.open(self._path, flags | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Aborted("the put was ended") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class SealedUploads:
    """The sealed uploads of a node; one process has it, and with it their keys."""

    def __init__(self, area: ScratchArea, bounds: SealedBounds | None = None) -> None:
        self._area = area
        self._bounds = bounds or SealedBounds()
        self._files: dict[str, SealedFile] = {}
        self._total_bytes = 0
        self._lock = threading.Lock()

    @property
    def total_bytes(self) -> int:
        """How many bytes all of them have."""
        return self._total_bytes

    def names(self) -> set[str]:
        """Return the random names of all that there are."""
        with self._lock:
            return set(self._files)

    def open(self, name: str) -> SealedFile:
        """Return the upload of a random name, a new one if there is none, for one door at a time.

        Raises:
            Busy: another door is writing it.
            Overloaded: there are too many.
        """
        with self._lock:
            file = self._files.get(name)
            if file is None:
                if len(self._files) >= self._bounds.uploads:
                    raise Overloaded("too many uploads wait here to be stored", advice="Try again later.")
                with no_space():
                    file = self._files[name] = SealedFile(self._area.incoming(name), self._grow)
        file.take()
        return file

    def read(self, name: str, offset: int, size_bytes: int) -> bytes:
        """Return bytes of an upload, sealed or not; see `node.ScratchNode.read`.

        Raises:
            Overloaded: there is none of this name, or it has ended.
        """
        with self._lock:
            file = self._files.get(name)
        if file is None:
            return self._area.read(name, offset, size_bytes)
        try:
            return file.read(offset, size_bytes)
        except Aborted as error:
            raise Overloaded("the upload has ended") from error

    def end(self, names: Iterable[str]) -> None:
        """End uploads: their bytes go, and their keys."""
        for name in names:
            with self._lock:
                file = self._files.pop(name, None)
            if file is not None:
                file.end()

    def _grow(self, more_bytes: int) -> None:
        with self._lock:
            if more_bytes > 0 and self._total_bytes + more_bytes > self._bounds.total_bytes:
                raise NoSpace("the uploads that wait here to be stored leave no room for more")
            self._total_bytes += more_bytes


def _nonce(number: int) -> bytes:
    return struct.pack(">4xQ", number)
