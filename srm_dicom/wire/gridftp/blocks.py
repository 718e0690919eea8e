"""MODE E, extended block mode (GFD.020, 3.2): data as blocks that say where they belong.

A header is 17 bytes: flags, count, offset. Any connection may carry any block; each ends with an
EOD, and one of them also tells with an EOF how many connections there are. Without the CLOSE bit
both sides keep the connections for the next transfer.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag

from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.gridftp.ranges import MAX_OFFSET

_HEADER = struct.Struct(">BQQ")
_ALL_FLAGS = 0x04 | 0x08 | 0x10 | 0x20 | 0x40
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
        if flags & ~_ALL_FLAGS:
            raise InvalidRequest("a block header has an unknown descriptor bit")
        return cls(Flag(flags), count, offset)


class BlockReader:
    """The blocks of one connection as they arrive; never takes a byte behind the end of a transfer.

    Feed it at most `wants` bytes at a time. That is what is left of the header or of the block's data, so
    that what follows an EOD on a kept connection stays in the socket for the next transfer.

    Attributes:
        ended: an EOD has come: this connection carries nothing more of this transfer.
        closing: the sender will not use the connection again.
        connections: how many connections the whole transfer has, once an EOF has told.
    """

    def __init__(self, max_end: int = MAX_OFFSET) -> None:
        """Read blocks; one that ends behind `max_end` is refused."""
        self.ended = False
        self.closing = False
        self.connections: int | None = None
        self._max_end = max_end
        self._head = bytearray()
        self._offset = 0
        self._left = 0
        self._last = False

    @property
    def wants(self) -> int:
        """How many bytes it can take next; 0 at the end."""
        if self.ended:
            return 0
        return self._left or HEADER_BYTES - len(self._head)

    @property
    def started(self) -> bool:
        """Tell whether it has taken a part of a header or of a block and waits for the rest."""
        return bool(self._head or self._left)

    def feed(self, data: memoryview) -> int | None:
        """Take bytes.

        Args:
            data: 1 to `wants` bytes.

        Returns:
            Where the bytes belong in the transfer, or None if they are a header's.

        Raises:
            InvalidRequest: this is no block; nothing that follows can be read.
        """
        if not self._left:
            self._head += data
            if len(self._head) == HEADER_BYTES:
                self._begin(Header.decode(bytes(self._head)))
            return None
        place = self._offset
        self._offset += len(data)
        self._left -= len(data)
        if not self._left:
            self.ended = self._last
        return place

    def _begin(self, header: Header) -> None:
        self._head.clear()
        self.closing = self.closing or Flag.CLOSE in header.flags
        self._last = Flag.EOD in header.flags
        if Flag.EOF in header.flags:
            if header.count:
                raise InvalidRequest("a block with EOF holds no data")
            self.connections = header.offset
        elif header.offset + header.count > self._max_end:
            raise InvalidRequest("a block lies behind the largest offset")
        self._offset, self._left = header.offset, header.count
        if not header.count:
            self.ended = self._last


def end_of_stream(stream: int, streams: int) -> Header:
    """Return what ends a connection; the first one also ends the file."""
    return Header(Flag.EOF | Flag.EOD, 0, streams) if stream == 0 else Header(Flag.EOD, 0, 0)


def ends_of_streams(stripes: Sequence[Hashable]) -> list[Header]:
    """Return what ends each connection, given where each leads.

    A receiver of several nodes has an address for each (SPOR): every node is told how many connections it
    has itself.
    """
    return [
        end_of_stream(stripes[:number].count(stripe), stripes.count(stripe))
        for number, stripe in enumerate(stripes)
    ]


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
