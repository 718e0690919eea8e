"""The end of entropy-coded data: decoders stop when an image is complete and look at nothing behind it.

Where that is, only a decoder could tell. But coded data are as good as random, and do not end in text.
"""

from __future__ import annotations

import re

from srm_plugin_dicom.deidentify.reasons import Reason, refused

_LOOKED_AT = 32
# Flat parts of images are coded by one letter again and again; names have several.
_FEWEST_LETTERS = 5
_TEXT = re.compile(rb"[A-Za-z0-9 ^_.,:;=@/()+-]{12,}")

# There are many intervals in one frame, and what looks like a text by chance would be in one of them.
_NAME_AT_THE_END = re.compile(rb"[A-Za-z ^]{12,}[\0\xff]*\Z")


def check_segment(data: memoryview) -> None:
    """Refuse a segment of numbers that has text in it.

    Raises:
        ObjectRefused: it has.
    """
    if any(len(set(text)) >= _FEWEST_LETTERS for text in _TEXT.findall(data)):
        raise refused(Reason.STREAM, "text in a segment")


def check_end(data: memoryview) -> None:
    """Refuse coded data that end in text, in one byte a letter or in two.

    Raises:
        ObjectRefused: they do.
    """
    end = bytes(data[-4 * _LOOKED_AT :]).rstrip(b"\0\xff")
    ends = [end[-_LOOKED_AT:]]
    if end.count(b"\0") > _LOOKED_AT // 4:
        ends.append(end.replace(b"\0", b"")[-_LOOKED_AT:])
    for each in ends:
        if any(len(set(text)) >= _FEWEST_LETTERS for text in _TEXT.findall(each)):
            raise refused(Reason.STREAM, "text behind the coded data")


def check_interval(data: memoryview) -> None:
    """Refuse a restart interval that ends in a name.

    Raises:
        ObjectRefused: it does.
    """
    found = _NAME_AT_THE_END.search(data[-_LOOKED_AT:])
    if found and len(set(found[0])) >= _FEWEST_LETTERS:
        raise refused(Reason.STREAM, "text behind the coded data")
