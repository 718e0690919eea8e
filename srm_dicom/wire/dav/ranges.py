"""Parts of a file (RFC 9110, 14): from a Range header to byte ranges, and how several travel together.

A header that does not parse means the whole file, as the standard says. So does one that asks for
more bytes than the file has or for too many pieces: overlapping ranges are the cheapest way to make a server
send a file many times over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SPECIFIED = re.compile(r"([0-9]{0,18})-([0-9]{0,18})\Z", re.ASCII)

MAX_RANGES = 256


class Unsatisfiable(Exception):
    """No range of the header touches the file (416)."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` to before `end`."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self.end - self.start

    def of(self, size_bytes: int) -> str:
        """Return the Content-Range of these bytes of a file."""
        return f"bytes {self.start}-{self.end - 1}/{size_bytes}"


def ranges_of(header: str, size_bytes: int, *, most: int = MAX_RANGES) -> tuple[ByteRange, ...]:
    """Read a Range header for a file of `size_bytes`; empty when the whole file is to be sent.

    Ranges stay in the order of the header; those that begin behind the end of the file are left out.

    Raises:
        Unsatisfiable: nothing is left.
    """
    unit, equals, specified = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return ()
    wanted = [part.strip() for part in specified.split(",") if part.strip()]
    matches = [_SPECIFIED.match(part) for part in wanted[: most + 1]]
    if not matches or len(matches) > most:
        return ()
    found = []
    for match in matches:
        bounds = _bounds(match, size_bytes) if match else None
        if bounds is None:
            return ()
        found.append(bounds)
    ranges = tuple(one for one in found if one.size_bytes > 0)
    if not ranges:
        raise Unsatisfiable
    return ranges if sum(one.size_bytes for one in ranges) <= size_bytes else ()


def _bounds(match: re.Match[str], size_bytes: int) -> ByteRange | None:
    """Return what one specification means, empty behind the end of the file; None if it means nothing."""
    first, last = match.groups()
    if not first:
        return ByteRange(max(0, size_bytes - int(last)), size_bytes) if last else None
    start = int(first)
    if last and int(last) < start:
        return None
    end = min(int(last) + 1, size_bytes) if last else size_bytes
    return ByteRange(start, max(start, end))


@dataclass(frozen=True, slots=True)
class Multipart:
    """Several ranges of one file as ``multipart/byteranges`` (RFC 9110, 14.6).

    Attributes:
        boundary: stands nowhere in the file; the caller draws it at random.
    """

    ranges: Sequence[ByteRange]
    size_bytes: int
    content_type: str
    boundary: str

    def head(self, part: ByteRange) -> bytes:
        """Return what stands before the bytes of a part."""
        return (
            f"\r\n--{self.boundary}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Range: {part.of(self.size_bytes)}\r\n\r\n"
        ).encode("ascii")

    @property
    def tail(self) -> bytes:
        """What stands behind the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")

    @property
    def length(self) -> int:
        """Content-Length of the whole."""
        return sum(len(self.head(part)) + part.size_bytes for part in self.ranges) + len(self.tail)

    @property
    def media_type(self) -> str:
        """Content-Type of the whole."""
        return f"multipart/byteranges; boundary={self.boundary}"
