"""The body of a multipart message (RFC 2046, 5.1) as chunks in, events out; no I/O.

Memory is bounded by one chunk: the content of a part is passed on as it comes. A delimiter that is cut by
the end of a chunk is found all the same. Header lines have a bound, everything else is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from enum import Enum, auto

MAX_HEADER_BYTES = 8192
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")


class MultipartError(Exception):
    """The message breaks a rule; says nothing of its content."""


@dataclass(frozen=True, slots=True)
class PartBegins:
    """The headers of a part are read; its content follows as `bytes`."""

    headers: Message


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The content of a part is complete."""


Event = PartBegins | PartEnds | bytes


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names.

    Raises:
        MultipartError: it is no multipart type, or names none.
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        raise MultipartError("the answer is no multipart message")
    if not _BOUNDARY.match(boundary):
        raise MultipartError("the boundary of the message is malformed")
    return boundary.encode("ascii")


class MultipartReader:
    """Reads one message."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter has no line before it when there is no preamble.
        self._buffer = bytearray(b"\r\n")
        self._state = _State.PREAMBLE

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Event]:
        """Yield what the next bytes of the message complete.

        Raises:
            MultipartError: the message breaks a rule.
        """
        self._buffer += data
        while True:
            before = self._state, len(self._buffer)
            yield from self._advance()
            if before == (self._state, len(self._buffer)):
                return

    def finish(self) -> None:
        """Say that there are no more bytes.

        Raises:
            MultipartError: the last delimiter has not come.
        """
        if self._state is not _State.EPILOGUE:
            raise MultipartError("the message is cut short")

    def _advance(self) -> Iterator[Event]:
        if self._state is _State.EPILOGUE:
            self._buffer.clear()
        elif self._state is _State.DELIMITER:
            self._read_delimiter()
        elif self._state is _State.HEADERS:
            yield from self._read_headers()
        else:
            yield from self._read_content()

    def _read_content(self) -> Iterator[Event]:
        wanted = self._state is _State.CONTENT
        at = self._buffer.find(self._delimiter)
        whole = at >= 0
        end = at if whole else max(0, len(self._buffer) - len(self._delimiter) + 1)
        if wanted and end:
            yield bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + (len(self._delimiter) if whole else 0)]
        if whole:
            self._state = _State.DELIMITER
            if wanted:
                yield PartEnds()

    def _read_delimiter(self) -> None:
        """Read the rest of the delimiter's line: two hyphens when it is the last, and padding."""
        if self._buffer.startswith(b"--"):
            self._state = _State.EPILOGUE
            return
        line, found, _ = self._buffer.partition(b"\r\n")
        if len(line) > MAX_HEADER_BYTES or (found and line.strip(b" \t")):
            raise MultipartError("a delimiter of the message is malformed")
        if found:
            # One line end stays, so that a part without headers has its empty line.
            del self._buffer[: len(line)]
            self._state = _State.HEADERS

    def _read_headers(self) -> Iterator[Event]:
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._buffer) > MAX_HEADER_BYTES):
            raise MultipartError("the headers of a part are too long")
        if end < 0:
            return
        headers = HeaderParser().parsestr(self._buffer[2:end].decode("latin-1"), headersonly=True)
        # The line end before the content may be the first of an empty part's delimiter.
        del self._buffer[: end + 4]
        self._state = _State.CONTENT
        yield PartBegins(headers)
