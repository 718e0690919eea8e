"""What is known of sealed bytes: size, adler32 and BLAKE3, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from blake3 import blake3
from zlib_ng import zlib_ng

Buffer = bytes | bytearray | memoryview


def blake3_of(sealed: bytes) -> str:
    """Return the BLAKE3 of bytes, 64 lower-case hex digits."""
    return blake3(sealed).hexdigest()


class Proof:
    """What tells one file from another: what whoever has a signed manifest compares.

    Feed it the ciphertext. Never feed it clear bytes: an unkeyed hash of those names the object.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._blake3 = blake3()

    def update(self, sealed: Buffer) -> None:
        """Add the next bytes."""
        self.size_bytes += len(sealed)
        self._blake3.update(sealed)

    @property
    def blake3(self) -> str:
        """64 lower-case hex digits."""
        return self._blake3.hexdigest()


class Digest(Proof):
    """All that is known of a file, with the sum that grid tools compare."""

    def __init__(self) -> None:
        super().__init__()
        self._adler32 = zlib_ng.adler32(b"")

    def update(self, sealed: Buffer) -> None:
        """Add the next bytes."""
        super().update(sealed)
        self._adler32 = zlib_ng.adler32(sealed, self._adler32)

    def passing(self, sealed: Iterable[Buffer]) -> Iterator[Buffer]:
        """Add the bytes of each piece that is taken."""
        for piece in sealed:
            self.update(piece)
            yield piece

    @property
    def adler32(self) -> str:
        """Eight lower-case hex digits, as grid tools write it."""
        return f"{self._adler32:08x}"


class Sum:
    """What a `Digest` is of sealed bytes, for clear ones: these must not have a hash that names them."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._adler32 = 1

    def update(self, data: Buffer) -> None:
        """Add the next bytes."""
        self.size_bytes += len(data)
        self._adler32 = zlib_ng.adler32(data, self._adler32)

    @property
    def adler32(self) -> str:
        """Eight lower-case hex digits."""
        return f"{self._adler32:08x}"
