"""Bytes that are made while they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_PIECE_BYTES = 64 * 1024


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that not every one becomes a packet or a TLS record."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
