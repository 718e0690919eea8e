"""Reads encoded data sets into element positions, without decoding or copying a value.

Bounds are constructor arguments; what does not follow PS3.5 section 7 to the letter is refused, never
repaired. Nothing of the buffer is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Syntax,
)

_FRAGMENTED = frozenset((b"OB", b"OW"))

Buffer = bytes | bytearray | memoryview


class Element(NamedTuple):
    """Where an element is: header at `start`, value at `value` up to `stop`.

    Attributes:
        vr: as encoded; empty where the encoding is implicit.
        items: the elements of each item, for a sequence of undefined length; else None.
    """

    tag: int
    vr: bytes
    start: int
    value: int
    stop: int
    items: Sequence[Sequence[Element]] | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is read: nesting of sequences, elements and items in all, bytes after inflating."""

    depth: int = 24
    elements: int = 4_000_000
    inflated_bytes: int = 256 << 20


class Reader:
    """Reads one buffer; counts what it reads against the limits."""

    def __init__(self, data: Buffer, limits: Limits, size: int | None = None) -> None:
        """Take a buffer; of one that is cut within the pixel data, `size` is how long it would be."""
        self._data = data
        self._size = len(data) if size is None else size
        self._limits = limits
        self._left = limits.elements

    def data_set(self, start: int, syntax: Syntax) -> list[Element]:
        """Return the top level from `start`; what follows the pixel data is not looked at.

        Raises:
            ObjectRefused: not well-formed, or beyond a limit.
        """
        try:
            return self._elements(start, len(self._data), syntax, 0, open_end=False)[0]
        except struct.error:
            raise refused(Reason.TRUNCATED) from None

    def items(self, start: int, stop: int, syntax: Syntax, depth: int) -> list[list[Element]]:
        """Return the items of a sequence of defined length.

        Raises:
            ObjectRefused: not well-formed, or beyond a limit.
        """
        try:
            return self._items(start, stop, syntax, depth, open_end=False)[0]
        except struct.error:
            raise refused(Reason.TRUNCATED) from None

    def undefined(
        self, tag: int, vr: bytes, start: int, syntax: Syntax
    ) -> tuple[Sequence[Sequence[Element]], int]:
        """Return the items of a top-level value of undefined length, and where it ends.

        Raises:
            ObjectRefused: not well-formed, or beyond a limit.
        """
        try:
            return self._undefined(tag, vr, start, len(self._data), syntax, 1)
        except struct.error:
            raise refused(Reason.TRUNCATED) from None

    def _elements(
        self, at: int, end: int, syntax: Syntax, depth: int, *, open_end: bool
    ) -> tuple[list[Element], int]:
        if depth > self._limits.depth:
            raise refused(Reason.TOO_DEEP)
        read = self._explicit if syntax.explicit else self._implicit
        found, at = read(at, end, syntax, depth, open_end)
        self._left -= len(found) + 1
        if self._left < 0:
            raise refused(Reason.TOO_LARGE)
        return found, at

    def _explicit(
        self, at: int, end: int, syntax: Syntax, depth: int, open_end: bool
    ) -> tuple[list[Element], int]:
        data, unpack = self._data, syntax.codec.explicit.unpack_from
        u32 = syntax.codec.u32.unpack_from
        found: list[Element] = []
        append, new = found.append, tuple.__new__  # a third of the loop is the making of tuples
        while at < end:
            group, element, vr, length = unpack(data, at)
            tag = group << 16 | element
            value = at + 8
            if vr not in SHORT_VRS:
                if vr not in LONG_VRS:
                    if group == ITEM >> 16 or vr.isalnum():
                        return self._ended(found, tag, at, open_end)
                    vr = b"UN"  # blanks, as an old writer left them: no representation at all
                else:
                    (length,) = u32(data, value)
                    value += 4
                if tag == PIXEL_DATA and depth == 0:
                    append(self._pixel_data(vr, at, value, length))
                    return found, end
                if length == UNDEFINED:
                    items, stop = self._undefined(tag, vr, value, end, syntax, depth + 1)
                    append(Element(tag, vr, at, value, stop, items))
                    at = stop
                    continue
            stop = value + length
            if stop > end:
                raise refused(Reason.TRUNCATED)
            append(new(Element, (tag, vr, at, value, stop, None)))
            at = stop
        return self._closed(found, at, open_end)

    def _implicit(
        self, at: int, end: int, syntax: Syntax, depth: int, open_end: bool
    ) -> tuple[list[Element], int]:
        data, unpack = self._data, syntax.codec.implicit.unpack_from
        found: list[Element] = []
        while at < end:
            group, element, length = unpack(data, at)
            tag = group << 16 | element
            value = at + 8
            if group == ITEM >> 16:
                return self._ended(found, tag, at, open_end)
            if tag == PIXEL_DATA and depth == 0:
                found.append(self._pixel_data(b"", at, value, length))
                return found, end
            if length == UNDEFINED:
                items, stop = self._undefined(tag, b"", value, end, syntax, depth + 1)
                found.append(Element(tag, b"", at, value, stop, items))
            else:
                stop = value + length
                if stop > end:
                    raise refused(Reason.TRUNCATED)
                found.append(Element(tag, b"", at, value, stop, None))
            at = stop
        return self._closed(found, at, open_end)

    def _pixel_data(self, vr: bytes, at: int, value: int, length: int) -> Element:
        """Return the pixel data; of undefined length they reach to the end, which `frames` reads."""
        stop = self._size if length == UNDEFINED else value + length
        if stop > self._size:
            raise refused(Reason.TRUNCATED)
        return Element(PIXEL_DATA, vr, at, value, stop, () if length == UNDEFINED else None)

    def _undefined(
        self, tag: int, vr: bytes, at: int, end: int, syntax: Syntax, depth: int
    ) -> tuple[Sequence[Sequence[Element]], int]:
        """Return the items of undefined length and where they end; of fragments (PS3.5 A.4) no item."""
        if tag == PIXEL_DATA or vr in _FRAGMENTED:
            return (), self._beyond_fragments(at, end, syntax)
        inner = IMPLICIT_LITTLE if vr == b"UN" else syntax
        return self._items(at, end, inner, depth, open_end=True)

    def _beyond_fragments(self, at: int, end: int, syntax: Syntax) -> int:
        while at < end:
            group, element, length = syntax.codec.implicit.unpack_from(self._data, at)
            at += 8
            if group << 16 | element == SEQUENCE_END:
                return at
            if group << 16 | element != ITEM:
                raise refused(Reason.MALFORMED)
            at += length
        raise refused(Reason.TRUNCATED)

    def _ended(self, found: list[Element], tag: int, at: int, open_end: bool) -> tuple[list[Element], int]:
        if tag == ITEM_END and open_end:
            return found, at + 8
        raise refused(Reason.MALFORMED)

    def _closed(self, found: list[Element], at: int, open_end: bool) -> tuple[list[Element], int]:
        if open_end:
            raise refused(Reason.TRUNCATED)
        return found, at

    def _items(
        self, at: int, end: int, syntax: Syntax, depth: int, *, open_end: bool
    ) -> tuple[list[list[Element]], int]:
        data, unpack = self._data, syntax.codec.implicit.unpack_from
        items: list[list[Element]] = []
        while at < end:
            group, element, length = unpack(data, at)
            tag = group << 16 | element
            at += 8
            if tag == SEQUENCE_END and open_end:
                return items, at
            if tag != ITEM:
                raise refused(Reason.MALFORMED)
            if length == UNDEFINED:
                inside, at = self._elements(at, end, syntax, depth, open_end=True)
            else:
                stop = at + length
                if stop > end:
                    raise refused(Reason.TRUNCATED)
                inside, at = self._elements(at, stop, syntax, depth, open_end=False)
            items.append(inside)
        if open_end:
            raise refused(Reason.TRUNCATED)
        return items, at
