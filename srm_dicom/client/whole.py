"""An answer of HTTP/1.1 that has arrived whole, read without a state machine. Pure.

Nearly every answer to a small question is one piece: ``200``, a few plain headers, among them one
Content-Length, and so many bytes. What fits here means in HTTP what is read here. What does not (another
status, another framing, a word about the connection, a piece that is too short or too long, anything odd)
is h11's to read or to refuse.
"""

from __future__ import annotations

import re

Headers = tuple[tuple[str, str], ...]

_HEAD = re.compile(rb"HTTP/1\.1 200 [ -~]*+\r\n((?>(?:[A-Za-z-]++: [!-~][ -~]*+\r\n)+))\r\n")
_HEADER = re.compile(r"([A-Za-z-]+): ([^\r]*[^\r ]) *\r\n")
_LENGTH = re.compile(r"[0-9]{1,18}\Z")
_OF_THE_CONNECTION = frozenset({"connection", "trailer", "transfer-encoding", "upgrade"})


def read(data: bytes, max_bytes: int) -> tuple[Headers, bytes] | None:
    """Return headers (names in lower case) and body of a whole answer ``200``; None for any other."""
    head = _HEAD.match(data)
    if head is None:
        return None
    headers = [(name.lower(), value) for name, value in _HEADER.findall(head[1].decode("ascii"))]
    lengths = [value for name, value in headers if name == "content-length"]
    if len(lengths) != 1 or not _LENGTH.match(lengths[0]):
        return None
    if not _OF_THE_CONNECTION.isdisjoint(name for name, _ in headers):
        return None
    body = data[head.end() :]
    return (tuple(headers), body) if len(body) == int(lengths[0]) <= max_bytes else None
