"""Bytes into lines, with a bound on a line and on what waits unread."""

from __future__ import annotations

from collections import deque

from srm_dicom.errors import TooLarge

MAX_LINE_BYTES = 160 * 1024
"""The longest line: a TLS flight with the largest certificate chain that OpenSSL takes, in base64."""

MAX_WAITING_BYTES = 1024 * 1024
"""How much a client may pipeline before we stop reading from it."""


class LineReader:
    """Splits at LF, drops the CR before it.

    Args:
        max_line_bytes: a longer line is refused.
        max_waiting_bytes: `full` becomes true here; the caller then stops reading.
    """

    def __init__(
        self, max_line_bytes: int = MAX_LINE_BYTES, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._partial = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire.

        Raises:
            TooLarge: a line is longer than the bound; nothing after it can be trusted.
        """
        start = len(self._partial)
        self._partial += data
        end = self._partial.find(b"\n", start)
        begin = 0
        while end >= 0:
            self._add(bytes(self._partial[begin:end]))
            begin = end + 1
            end = self._partial.find(b"\n", begin)
        del self._partial[:begin]
        self._bound(len(self._partial))

    def next_line(self) -> bytes | None:
        """Return the oldest complete line, or None when more bytes are needed."""
        if not self._lines:
            return None
        line = self._lines.popleft()
        self._waiting_bytes -= len(line)
        return line

    @property
    def waits(self) -> bool:
        """Tell whether a complete line waits."""
        return bool(self._lines)

    @property
    def full(self) -> bool:
        """Tell whether enough waits here already."""
        return self._waiting_bytes >= self._max_waiting_bytes

    def _add(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        self._bound(len(line))
        self._lines.append(line)
        self._waiting_bytes += len(line)

    def _bound(self, size_bytes: int) -> None:
        if size_bytes > self._max_line_bytes:
            raise TooLarge(f"a line has at most {self._max_line_bytes} bytes")
