"""``<directory>.tar``: the sealed files of a directory as one deterministic tar of which nobody keeps a copy.

Names are sorted, times and owners are nothing, so that size, checksum and every offset follow from the
names, sizes and checksums of the members. A server sends the bytes of the members as they lie there, with
a few hundred bytes of its own between them; a client knows from the signed manifests what has to come
where. `Bundle` is all that anybody has to know of the format, which is that of POSIX.1-2001 (pax).
"""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from zlib_ng import zlib_ng

from srm_dicom.ids import SitePath, name

SUFFIX = ".tar"
MOST_MEMBERS = 10_000
"""A directory of more files has no tar."""

_SIZE, _SUM = slice(124, 136), slice(148, 156)
_MOST_OCTAL = 8**11
"""So large a file's size does not fit into its field."""

_ADLER_BASE = 65521
_EMPTY_ADLER = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the directory; `adler32` is eight hexadecimal digits, `size_bytes` of the sealed bytes."""

    name: str
    size_bytes: int
    adler32: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes: those from `start` to `end` of a member, or of `Bundle.filler` where that is None."""

    member: int | None
    start: int
    end: int


class Bundle:
    """A tar before it is made.

    Args:
        directory: whose files these are; members keep its last component before their names.
        members: in any order.

    Attributes:
        members: in the order of their names, which is that of the tar.
        filler: all bytes that are no member's, one after the other: headers, padding, the end.
        offsets: where the bytes of each member begin.
        size_bytes: of the whole tar.
    """

    def __init__(self, directory: SitePath, members: Sequence[Member]) -> None:
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self._pieces: list[Piece] = []
        self._starts: list[int] = []
        self.size_bytes = 0
        filler, used = bytearray(), 0
        for number, member in enumerate(self.members):
            filler += _header(f"{name(directory)}/{member.name}", member.size_bytes)
            self._add(Piece(None, used, len(filler)))
            self._add(Piece(number, 0, member.size_bytes))
            used = len(filler)
            filler += bytes(-member.size_bytes % tarfile.BLOCKSIZE)
        end = self.size_bytes + len(filler) - used + 2 * tarfile.BLOCKSIZE
        filler += bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE)
        self._add(Piece(None, used, len(filler)))
        self.filler = bytes(filler)
        self.offsets = tuple(self._starts[1::2])

    @cached_property
    def adler32(self) -> str:
        """Checksum of the whole tar, from those of the members."""
        value = _EMPTY_ADLER
        for piece in self._pieces:
            if piece.member is None:
                value = zlib_ng.adler32(self.filler[piece.start : piece.end], value)
            else:
                member = self.members[piece.member]
                value = adler32_joined(value, int(member.adler32, 16), member.size_bytes)
        return f"{value:08x}"

    def cut(self, start: int, end: int) -> Iterator[Piece]:
        """Yield where the bytes from `start` to `end` are, in their order."""
        number = max(bisect_right(self._starts, start) - 1, 0)
        while number < len(self._pieces) and self._starts[number] < end:
            piece, at = self._pieces[number], self._starts[number]
            first = piece.start + max(start - at, 0)
            last = min(piece.end, piece.start + end - at)
            if first < last:
                yield Piece(piece.member, first, last)
            number += 1

    def _add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._starts.append(self.size_bytes)
        self.size_bytes += piece.end - piece.start


def adler32_joined(first: int, second: int, second_bytes: int) -> int:
    """Return the Adler-32 (RFC 1950) of two runs of bytes, from the checksum of each.

    Every one of the second's `second_bytes` steps adds to the upper sum what the first left in the lower.
    """
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + second_bytes * ((first & 0xFFFF) - 1)
    return (high % _ADLER_BASE) << 16 | low % _ADLER_BASE


def _header(path: str, size_bytes: int) -> bytes:
    """Return the header of a member; those of a series differ in name and size only, and in their sum."""
    encoded = path.encode("ascii")
    if len(encoded) > tarfile.LENGTH_NAME or size_bytes >= _MOST_OCTAL:
        info = tarfile.TarInfo(path)
        info.size = size_bytes
        return info.tobuf(tarfile.PAX_FORMAT, "ascii", "strict")
    header = bytearray(_plain_header())
    header[: len(encoded)] = encoded
    header[_SIZE] = b"%011o\0" % size_bytes
    header[_SUM] = b" " * 8
    header[_SUM] = b"%06o\0 " % sum(header)
    return bytes(header)


@cache
def _plain_header() -> bytes:
    """Return the header of a file that has no name yet."""
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.PAX_FORMAT, "ascii", "strict"))
    header[0] = 0
    return bytes(header)
