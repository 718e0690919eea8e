"""Checksums that CKSM tells (GFD.047), computed as the bytes go by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from zlib_ng import zlib_ng

ALGORITHMS = {"ADLER32": 10, "MD5": 20, "CRC32": 30, "SHA1": 30, "SHA256": 31, "SHA512": 32}
"""Names and, for FEAT, ranks: a lower one is preferred."""


class Sum(Protocol):
    """A running checksum."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return the result so far, lower case."""


class _Rolling:
    def __init__(self, function: Callable[[bytes, int], int], start: int) -> None:
        self._function = function
        self._value = start

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def new_sum(algorithm: str) -> Sum:
    """Begin a checksum of one of `ALGORITHMS`."""
    if algorithm == "ADLER32":
        return _Rolling(zlib_ng.adler32, 1)
    if algorithm == "CRC32":
        return _Rolling(zlib_ng.crc32, 0)
    return hashlib.new(algorithm.lower(), usedforsecurity=False)
