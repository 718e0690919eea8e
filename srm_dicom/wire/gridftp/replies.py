"""Replies: a code and one or more lines (RFC 959, 4.2), written by servers and read by clients."""

from __future__ import annotations

import re
from dataclasses import dataclass

from srm_dicom.errors import InvalidRequest, TooLarge

MAX_REPLY_LINES = 10_000
_LINE_BREAKS = re.compile(r"[\r\n\0]+")
_FIRST = re.compile(r"([1-6][0-9]{2})([ -])(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: `lines` has at least one; of several the first and the last carry the code."""

    code: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, *lines: str) -> Reply:
        """Build a reply; line breaks inside a line become spaces, so that none can be forged."""
        return cls(code, tuple(_LINE_BREAKS.sub(" ", line) for line in lines))

    @property
    def preliminary(self) -> bool:
        """Tell whether another reply to the same command follows."""
        return 100 <= self.code < 200

    @property
    def refused(self) -> bool:
        """Tell whether the command failed."""
        return self.code >= 400

    @property
    def text(self) -> str:
        """All lines as one text, for people."""
        return " ".join(line.strip() for line in self.lines)

    def encode(self) -> list[bytes]:
        """Return the lines of the wire, each with its CRLF.

        Inner lines of refusals carry the code, as Globus writes them and its clients parse them;
        those of other replies are indented (RFC 2389, 3.2; RFC 3659, 7.2).
        """
        if len(self.lines) == 1:
            return [f"{self.code} {self.lines[0]}\r\n".encode()]
        inner = f"{self.code}-" if self.refused else " "
        return [
            f"{self.code}-{self.lines[0]}\r\n".encode(),
            *(f"{inner}{line}\r\n".encode() for line in self.lines[1:-1]),
            f"{self.code} {self.lines[-1]}\r\n".encode(),
        ]


class ReplyReader:
    """Puts lines together into replies; the client's half."""

    def __init__(self, max_lines: int = MAX_REPLY_LINES) -> None:
        self._max_lines = max_lines
        self._code = 0
        self._lines: list[str] = []

    def feed_line(self, line: bytes) -> Reply | None:
        """Take a line without its CRLF; return the reply that it completes, if it does.

        Raises:
            InvalidRequest: the line cannot begin a reply.
            TooLarge: a reply with more lines than the bound.
        """
        text = line.decode("utf-8", "replace")
        match = _FIRST.match(text)
        if not self._lines:
            return self._begin(match)
        if match is not None and int(match[1]) == self._code:
            self._lines.append(match[3])
            if match[2] == " ":
                return self._finish()
        else:
            self._lines.append(text)
        if len(self._lines) > self._max_lines:
            raise TooLarge(f"a reply has at most {self._max_lines} lines")
        return None

    def _begin(self, match: re.Match[str] | None) -> Reply | None:
        if match is None:
            raise InvalidRequest("the server sent a line that is not a reply")
        self._code, self._lines = int(match[1]), [match[3]]
        return self._finish() if match[2] == " " else None

    def _finish(self) -> Reply:
        reply = Reply(self._code, tuple(self._lines))
        self._lines = []
        return reply
