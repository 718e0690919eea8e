"""The sealed spool: an object waits here for its second pass without a clear byte touching a disk.

Sealing is deterministic and therefore needs two passes over the object (`crypto.siv`). Up to
`memory_bytes` wait in memory; what is larger goes to an unnamed file in scratch under a one-time key
that lives in this process only, so that a power cut or a stolen disk leaves noise.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from srm_dicom.errors import TooLarge
from srm_dicom.scratch.area import no_space

CHUNK_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024
"""What is replayed at a time: each piece costs a few turns at the interpreter."""

_TAG_BYTES = 16


class SealedSpool:
    """Bytes of one object: written once, then replayed or read."""

    def __init__(self, directory: Path, *, memory_bytes: int, max_bytes: int) -> None:
        """Make an empty spool; nothing is opened in `directory` before `memory_bytes` are exceeded."""
        self._directory = directory
        self._memory_bytes = memory_bytes
        self._max_bytes = max_bytes
        self._pending = bytearray()
        self._file: _SealedFile | None = None
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append.

        Raises:
            TooLarge: the object has more than `max_bytes`.
            NoSpace: the file system of the spool is full.
        """
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            raise TooLarge(f"an object has at most {self._max_bytes} bytes")
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):  # what is written at once is not held once more
            self._pending += view[start : start + CHUNK_BYTES]
            if self._file is None and len(self._pending) <= self._memory_bytes:
                continue
            with no_space("the spool"):
                if self._file is None:
                    self._file = _SealedFile(self._directory)
                self._flush(self._file)

    def replay(self) -> Iterator[memoryview]:
        """Yield everything that was written, in order."""
        if self._file is not None:
            yield from self._file.chunks()
        pending = memoryview(self._pending)
        for start in range(0, len(pending), PIECE_BYTES):
            yield pending[start : start + PIECE_BYTES]

    def read(self, start: int, stop: int) -> bytes:
        """Return what was written from one place to another; what is read in order is opened once."""
        found: list[bytes] = []
        sealed_bytes = self._file.size_bytes if self._file is not None else 0
        while self._file is not None and start < min(stop, sealed_bytes):
            number, at = divmod(start, CHUNK_BYTES)
            found.append(self._file.chunk(number)[at : at + stop - start])
            start += len(found[-1])
        if start < stop:
            found.append(bytes(self._pending[start - sealed_bytes : stop - sealed_bytes]))
        return b"".join(found)

    def close(self) -> None:
        """Forget the object."""
        self._pending = bytearray()
        if self._file is not None:
            self._file.close()

    def _flush(self, file: _SealedFile) -> None:
        whole = len(self._pending) // CHUNK_BYTES * CHUNK_BYTES
        view = memoryview(self._pending)
        for start in range(0, whole, CHUNK_BYTES):
            file.append(view[start : start + CHUNK_BYTES])
        view.release()
        del self._pending[:whole]


class _SealedFile:
    """Chunks of `CHUNK_BYTES`, each under AES-256-GCM with its number as nonce; the key is used once."""

    def __init__(self, directory: Path) -> None:
        self._aead = AESGCM(secrets.token_bytes(32))
        self._descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._count = 0
        self._opened = -1, b""

    @property
    def size_bytes(self) -> int:
        return self._count * CHUNK_BYTES

    def append(self, chunk: memoryview) -> None:
        sealed = self._aead.encrypt(_nonce(self._count), chunk, None)
        _write_all(self._descriptor, sealed)
        self._count += 1

    def chunks(self) -> Iterator[memoryview]:
        for number in range(self._count):
            yield memoryview(self._open(number))

    def chunk(self, number: int) -> bytes:
        """Return a chunk; the last one is kept for the next call."""
        if number != self._opened[0]:
            self._opened = number, self._open(number)
        return self._opened[1]

    def _open(self, number: int) -> bytes:
        length = CHUNK_BYTES + _TAG_BYTES
        sealed = os.pread(self._descriptor, length, number * length)
        return self._aead.decrypt(_nonce(number), sealed, None)

    def close(self) -> None:
        self._opened = -1, b""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _nonce(number: int) -> bytes:
    return struct.pack(">4xQ", number)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
