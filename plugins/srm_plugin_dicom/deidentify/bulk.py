"""Looks at pixel data that are about to leave: whether their parts are elements of them and nothing else.

Part of the independent check: it shares nothing with what made them. It holds no more than a header at once,
so that pixels which are made while they are written are checked while they are written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

from srm_plugin_dicom.deidentify.originals import CODECS, LITTLE_EXPLICIT, Codec
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.view import Part

_PIXELS = range(0x7FE00008, 0x7FE00011)
_ITEM = 0xFFFEE000
P = TypeVar("P", bound=Part)


def passing(bulk: Iterable[P], syntax: str) -> Iterator[P]:
    """Yield pixel data as they are checked: that the parts are elements of them and nothing else.

    Args:
        bulk: one or more elements, or one in items; each header a part of its own.
        syntax: transfer syntax of what leaves.

    Raises:
        ObjectRefused: they are not; only when all have been yielded is it known that they are.
    """
    codec = CODECS.get(syntax, LITTLE_EXPLICIT)
    left = 0
    in_items = False
    for part in bulk:
        if left:
            if len(part) > left:
                raise refused(Reason.CHECK, "pixel data")
            left -= len(part)
        elif len(part):
            try:
                left, in_items = _bulk_header(bytes(part[:16]), codec, in_items)
            except struct.error:
                raise refused(Reason.CHECK, "cut") from None
        yield part
    if left or in_items:
        raise refused(Reason.CHECK, "pixel data")


@lru_cache(maxsize=256)
def _bulk_header(header: bytes, codec: Codec, in_items: bool) -> tuple[int, bool]:
    """Return the length that a header announces, and whether items follow or go on."""
    group, element, length = codec.implicit.unpack_from(header, 0)
    tag = group << 16 | element
    if in_items:
        if tag == 0xFFFEE0DD:
            return 0, False
        if tag != _ITEM:
            raise refused(Reason.CHECK, "pixel data")
        return length, True
    if tag not in _PIXELS:
        raise refused(Reason.CHECK, "pixel data")
    if codec.explicit is not None:
        (length,) = codec.u32.unpack_from(header, 8)
    return (0, True) if length == 0xFFFFFFFF else (length, False)
