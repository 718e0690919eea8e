"""Writes DICOM objects byte by byte, right or wrong on purpose (PS3.5 7, PS3.10 7.1).

Independent of the code under test and of pydicom, which would refuse what hostile files contain.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
CT_IMAGE = b"1.2.840.10008.5.1.4.1.1.2"
_LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
_UNDEFINED = 0xFFFFFFFF


@dataclass
class Writer:
    """Writes elements in one transfer syntax."""

    syntax: str = EXPLICIT

    @property
    def order(self) -> str:
        """The byte order for `struct`."""
        return ">" if self.syntax == BIG_ENDIAN else "<"

    def element(self, tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
        """Return an element; `length` lies about the value's."""
        value += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) & 1)
        stated = len(value) if length is None else length
        group, number = tag >> 16, tag & 0xFFFF
        if self.syntax == IMPLICIT:
            return struct.pack("<HHL", group, number, stated) + value
        if vr in _LONG:
            return struct.pack(self.order + "HH2s2xL", group, number, vr.encode(), stated) + value
        return struct.pack(self.order + "HH2sH", group, number, vr.encode(), stated) + value

    def u16(self, tag: int, value: int) -> bytes:
        """Return an unsigned short."""
        return self.element(tag, "US", struct.pack(self.order + "H", value))

    def sequence(self, tag: int, *items: bytes, undefined: bool = False, vr: str = "SQ") -> bytes:
        """Return a sequence of items that are encoded already, of defined or undefined length."""
        if not undefined:
            return self.element(tag, vr, b"".join(self.item(item) for item in items))
        body = b"".join(
            self._delimiter(0xE000, _UNDEFINED) + item + self._delimiter(0xE00D, 0) for item in items
        )
        body += self._delimiter(0xE0DD, 0)
        return self.element(tag, vr, body, _UNDEFINED)

    def item(self, body: bytes) -> bytes:
        """Return an item of defined length."""
        return self._delimiter(0xE000, len(body)) + body

    def fragments(self, *streams: bytes, vr: str = "OB", table: bytes = b"") -> bytes:
        """Return encapsulated pixel data."""
        padded = (stream + b"\0" * (len(stream) & 1) for stream in (table, *streams))
        body = b"".join(map(self.item, padded)) + self._delimiter(0xE0DD, 0)
        return self.element(0x7FE00010, vr, body, _UNDEFINED)

    def _delimiter(self, element: int, length: int) -> bytes:
        return struct.pack(self.order + "HHL", 0xFFFE, element, length)


@dataclass
class TestObject:
    """An image that is small and right, until a test says otherwise.

    Attributes:
        extra: encoded elements by tag; they replace those of the image, or are added.
        behind: bytes after the data set.
    """

    __test__ = False

    writer: Writer = field(default_factory=Writer)
    rows: int = 4
    columns: int = 4
    extra: dict[int, bytes] = field(default_factory=dict)
    pixels: bytes | None = None
    behind: bytes = b""
    preamble: bytes = bytes(128)
    meta: bytes = b""

    def elements(self) -> dict[int, bytes]:
        """Return the encoded elements by tag."""
        write = self.writer
        pixels = self.pixels
        if pixels is None:
            pixels = write.element(0x7FE00010, "OW", bytes(range(self.rows * self.columns * 2)))
        plain = {
            0x00080008: write.element(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
            0x00080016: write.element(0x00080016, "UI", CT_IMAGE),
            0x00080018: write.element(0x00080018, "UI", b"1.2.3.4.5.6"),
            0x00080060: write.element(0x00080060, "CS", b"CT"),
            0x00100010: write.element(0x00100010, "PN", b"Mustermann^Erika"),
            0x00100020: write.element(0x00100020, "LO", b"PID-0815-4711"),
            0x0020000D: write.element(0x0020000D, "UI", b"1.2.3.4.5"),
            0x0020000E: write.element(0x0020000E, "UI", b"1.2.3.4.5.1"),
            0x00280002: write.u16(0x00280002, 1),
            0x00280004: write.element(0x00280004, "CS", b"MONOCHROME2"),
            0x00280010: write.u16(0x00280010, self.rows),
            0x00280011: write.u16(0x00280011, self.columns),
            0x00280100: write.u16(0x00280100, 16),
            0x00280101: write.u16(0x00280101, 16),
            0x00280102: write.u16(0x00280102, 15),
            0x00280103: write.u16(0x00280103, 0),
            0x7FE00010: pixels,
        }
        return plain | self.extra

    def data_set(self) -> bytes:
        """Return the data set, elements in ascending order."""
        return b"".join(encoded for _, encoded in sorted(self.elements().items())) + self.behind

    def file(self) -> bytes:
        """Return the object as a Part 10 file."""
        write = Writer()
        body = self.meta + write.element(0x00020010, "UI", self.writer.syntax.encode())
        length = write.element(0x00020000, "UL", struct.pack("<L", len(body)))
        data = self.data_set()
        if self.writer.syntax == DEFLATED:
            deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = deflate.compress(data) + deflate.flush()
        return self.preamble + b"DICM" + length + body + data
