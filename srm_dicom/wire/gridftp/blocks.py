"""MODE E, extended block mode (GFD.020, 3.2): data as blocks that say where they belong.

A header is 17 bytes: flags, count, offset. Any connection may carry any block; each ends with an
EOD, and one of them also tells with an EOF how many connections there are. Without the CLOSE bit
both sides keep the connections for the next transfer.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntFlag

from srm_dicom.errors import InvalidRequest

_HEADER = struct.Struct(">BQQ")
HEADER_BYTES = _HEADER.size
BLOCK_BYTES = 16 * 1024 * 1024


class Flag(IntFlag):
    """Descriptor bits of a block."""

    CLOSE = 0x04
    EOD = 0x08
    SUSPECT = 0x10
    RESTART = 0x20
    EOF = 0x40


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header; with EOF `offset` is the number of connections instead."""

    flags: Flag
    count: int
    offset: int

    def encode(self) -> bytes:
        """Return the 17 bytes."""
        return _HEADER.pack(self.flags, self.count, self.offset)

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read 17 bytes.

        Raises:
            InvalidRequest: another length, or a descriptor bit that does not exist.
        """
        if len(data) != HEADER_BYTES:
            raise InvalidRequest(f"a block header has {HEADER_BYTES} bytes")
        flags, count, offset = _HEADER.unpack(data)
        if flags & ~sum(Flag):
            raise InvalidRequest("a block header has an unknown descriptor bit")
        return cls(Flag(flags), count, offset)


def end_of_stream(stream: int, streams: int) -> Header:
    """Return what ends a connection; the first one also ends the file."""
    return Header(Flag.EOF | Flag.EOD, 0, streams) if stream == 0 else Header(Flag.EOD, 0, 0)


class BlockQueue:
    """The blocks of a transfer, handed out to as many streams as want some; safe between threads."""

    def __init__(self, ranges: Iterable[tuple[int, int]], block_bytes: int = BLOCK_BYTES) -> None:
        self._blocks = _cut(ranges, block_bytes)
        self._lock = threading.Lock()

    def take(self) -> tuple[int, int] | None:
        """Return the next (offset, count), or None at the end."""
        with self._lock:
            return next(self._blocks, None)


def _cut(ranges: Iterable[tuple[int, int]], block_bytes: int) -> Iterator[tuple[int, int]]:
    for start, end in ranges:
        for offset in range(start, end, block_bytes):
            yield offset, min(block_bytes, end - offset)
