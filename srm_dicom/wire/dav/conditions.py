"""Conditions of a request (RFC 9110, 13), by entity tag alone.

Times that this server shows are coarse on purpose (`clock.coarse`), so a file may change without its
Last-Modified changing: no date is a validator here, and conditions by date are as if they were not there
(If-Range with a date: not met).
"""

from __future__ import annotations

import re

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def entity_tag(adler32: str | None, size_bytes: int | None) -> str | None:
    """Return the strong tag of a file's bytes; None while its checksum is not known."""
    return None if adler32 is None or size_bytes is None else f'"{adler32}-{size_bytes}"'


def fails_if_match(header: str | None, tag: str | None, *, there: bool = True) -> bool:
    """Tell whether If-Match forbids the answer (412); `there` says whether something has the name."""
    if header is None:
        return False
    if header.strip() == "*":
        return not there
    return tag is None or tag not in _tags(header, weak=False)


def meets_if_none_match(header: str | None, tag: str | None, *, there: bool = True) -> bool:
    """Tell whether If-None-Match speaks of these bytes: had by the caller (304), or to be kept (412)."""
    if header is None:
        return False
    if header.strip() == "*":
        return there
    return tag is not None and tag in _tags(header, weak=True)


def meets_if_range(header: str | None, tag: str | None) -> bool:
    """Tell whether a Range header counts: it comes without If-Range, or with the tag of these bytes."""
    return header is None or (tag is not None and header.strip() == tag)


def _tags(header: str, *, weak: bool) -> set[str]:
    return {tag for marked, tag in _TAG.findall(header) if weak or not marked}
