"""Which bytes of a file a transfer sends: the whole, a part (ERET), what a restart still lacks (REST)."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from srm_dicom.errors import InvalidRequest

MAX_RANGES = 1000
MAX_OFFSET = 2**63 - 1
_RANGE = re.compile(r"(\d{1,19})-(\d{1,19})\Z")


@dataclass(frozen=True, slots=True)
class Restart:
    """What the client has already: the first `offset` bytes (stream mode) or `received` ranges (MODE E)."""

    offset: int = 0
    received: tuple[tuple[int, int], ...] = ()

    @property
    def there(self) -> tuple[tuple[int, int], ...]:
        """The (start, end) ranges that the other side has."""
        return ((0, self.offset),) if self.offset else self.received

    @classmethod
    def parse(cls, argument: str) -> Restart:
        """Read the argument of REST: ``1024`` (RFC 3659, 5) or ``0-29,35-89`` (GFD.020, 4.1).

        Raises:
            InvalidRequest: neither form, or too many ranges.
        """
        text = argument.strip()
        if text.isascii() and text.isdigit() and len(text) < 20:
            return cls(offset=_offset(int(text)))
        parts = text.split(",", MAX_RANGES)
        if len(parts) > MAX_RANGES:
            raise InvalidRequest(f"REST takes at most {MAX_RANGES} ranges")
        return cls(received=tuple(sorted(_parse_range(part) for part in parts)))


def _parse_range(text: str) -> tuple[int, int]:
    match = _RANGE.match(text.strip())
    if match is None:
        raise InvalidRequest("REST takes an offset or ranges a-b,c-d")
    start, end = _offset(int(match[1])), _offset(int(match[2]))
    if end < start:
        raise InvalidRequest("a range ends before it begins")
    return start, end


def parse_offset(text: str) -> int:
    """Read an offset or a length.

    Raises:
        InvalidRequest: not a number of at most 63 bits.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidRequest("offsets and lengths are numbers from 0")
    return _offset(int(text))


def _offset(value: int) -> int:
    if value > MAX_OFFSET:
        raise InvalidRequest("an offset has at most 63 bits")
    return value


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a file: `length` bytes from `offset`, or all that follow when it is None."""

    offset: int = 0
    length: int | None = None

    def to_send(self, size_bytes: int, restart: Restart) -> list[tuple[int, int]]:
        """Return the (start, end) ranges of the file that are to be sent.

        Restart offsets count from the beginning of the section, as offsets in MODE E blocks do.

        Raises:
            InvalidRequest: the section or the restart begins behind the end of the file.
        """
        if self.offset > size_bytes:
            raise InvalidRequest("the offset is behind the end of the file")
        end = size_bytes if self.length is None else min(size_bytes, self.offset + self.length)
        start = self.offset + restart.offset
        if start > end:
            raise InvalidRequest("the restart offset is behind the end of the file")
        received = ((self.offset + first, self.offset + last) for first, last in restart.received)
        return list(_missing(start, end, received))


def _missing(start: int, end: int, received: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for first, last in received:
        if start < min(first, end):
            yield start, min(first, end)
        start = max(start, last)
    if start < end:
        yield start, end


class Received:
    """Which bytes have arrived, in any order: what a restart marker tells (GFD.020, 4.1)."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Note that the bytes from `start` up to `end` are there.

        Raises:
            InvalidRequest: what has arrived lies in more pieces than a marker may hold.
        """
        if start == end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]
        if len(self._starts) > MAX_RANGES:
            raise InvalidRequest(f"the file arrives in more than {MAX_RANGES} pieces")

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The (start, end) pieces, in order."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def first_hole(self) -> tuple[int, int] | None:
        """What is missing (start, end) before the first piece, or behind it and before the next."""
        gaps = zip([0, *self._ends], self._starts, strict=False)
        return next(((end, start) for end, start in gaps if end < start), None)

    @property
    def whole(self) -> int:
        """How much there is from the beginning on."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """Where the last piece ends."""
        return self._ends[-1] if self._ends else 0

    def __str__(self) -> str:
        return ",".join(f"{start}-{end}" for start, end in self.ranges)
