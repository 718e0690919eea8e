"""How data sets are encoded: the transfer syntaxes that can be walked, and element headers (PS3.5 7.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
SHORT_VRS = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
        *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
LONGEST_SHORT = 0xFFFF


class Codec:
    """The structs of one byte order."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.explicit = Struct(order + "HH2sH")
        self.explicit_long = Struct(order + "HH2s2xL")
        self.implicit = Struct(order + "HHL")
        self.tag = Struct(order + "HH")
        self.u16 = Struct(order + "H")
        self.u32 = Struct(order + "L")


LITTLE = Codec("<")
BIG = Codec(">")


@dataclass(frozen=True, slots=True)
class Syntax:
    """One way to encode a data set.

    Attributes:
        pixels: how pixel data are encoded: empty for native, else the name of the stream format.
    """

    uid: str
    explicit: bool = True
    codec: Codec = LITTLE
    deflated: bool = False
    pixels: str = ""

    @property
    def encoding(self) -> str:
        """How elements are encoded: the same for syntaxes that differ in pixel data alone."""
        return f"{self.codec.order}{'explicit' if self.explicit else 'implicit'}"

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        """Return an element's header in its canonical form.

        Raises:
            ValueError: the length does not fit the representation.
        """
        group, element = tag >> 16, tag & 0xFFFF
        if not self.explicit:
            return self.codec.implicit.pack(group, element, length)
        if vr in LONG_VRS:
            return self.codec.explicit_long.pack(group, element, vr, length)
        if length > LONGEST_SHORT:
            raise ValueError("too long for its value representation")
        return self.codec.explicit.pack(group, element, vr, length)

    def headers(self, tag: int, vr: bytes) -> Callable[[int], bytes]:
        """Return what makes the headers of one attribute, by length: as above, and faster."""
        long = vr in LONG_VRS or not self.explicit
        length = self.codec.u32 if long else self.codec.u16
        same = self.header(tag, vr, 0)[: -length.size]
        return lambda size: same + length.pack(size)

    def item(self, tag: int, length: int) -> bytes:
        """Return the header of an item or delimiter."""
        return self.codec.implicit.pack(tag >> 16, tag & 0xFFFF, length)


IMPLICIT_LITTLE = Syntax("1.2.840.10008.1.2", explicit=False)
EXPLICIT_LITTLE = Syntax("1.2.840.10008.1.2.1")
EXPLICIT_BIG = Syntax("1.2.840.10008.1.2.2", codec=BIG)
_JPEG_LOSSY = (".50", ".51", ".52", ".53", ".54", ".55", ".56")
_JPEG_LOSSLESS = (".57", ".58", ".59", ".60", ".61", ".62", ".63", ".64", ".65", ".66", ".70")
_JPEG_2000 = (".90", ".91", ".92", ".93", ".201", ".202", ".203")
_STREAMS = {
    "jpeg": (*_JPEG_LOSSY, *_JPEG_LOSSLESS),
    "jpeg-ls": (".80", ".81"),
    "jpeg2000": _JPEG_2000,
}

SYNTAXES: dict[str, Syntax] = {
    syntax.uid: syntax
    for syntax in (
        IMPLICIT_LITTLE,
        EXPLICIT_LITTLE,
        Syntax("1.2.840.10008.1.2.1.99", deflated=True),
        EXPLICIT_BIG,
        Syntax("1.2.840.10008.1.2.5", pixels="rle"),
        Syntax("1.2.840.10008.1.2.8.1", pixels="deflate"),
        Syntax("1.2.840.10008.1.2.1.98", pixels="plain"),
        *(
            Syntax(f"1.2.840.10008.1.2.4{suffix}", pixels=name)
            for name, suffixes in _STREAMS.items()
            for suffix in suffixes
        ),
    )
}
