r"""AMGA's line protocol (version 2) without I/O: what a metadata server and its clients say.

    S: <greeting>\nProtocol 2\n<ways in, e.g. "ssl">\n
    C: ssl\n\n                S: OK\n                both: TLS handshake in place
    C: 0 <login>\n[5 <password>\n]\n                 no answer
    C: <command>\n            S: <code>[ <text>]\n<row>\n...<EOT><EOT>

Lines are UTF-8. A value is one line of text without control characters: whoever writes one that is
not gets an error, so rows need no escapes and every client ever written reads them. In a command
white space splits, single quotes group, and inside them ``\'`` and ``\\`` stand for themselves.
Login names and passwords are read and dropped: who is calling was said by the TLS handshake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from srm_dicom.errors import CatalogueUnavailable, InternalError, InvalidRequest, TooLarge

PROTOCOL = 2
EOT = "\x04"
CAN = "\x18"
MAX_LINE_BYTES = 256 * 1024
MAX_WORDS = 20_000
MAX_REPLY_BYTES = 256 * 1024 * 1024
_MAX_PREAMBLE_BYTES = 4096
_END = (EOT * 2).encode()
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Code(IntEnum):
    """First word of a reply. Those below 100 are AMGA's own, the others this server's."""

    OK = 0
    NO_SUCH_ENTRY = 1
    ILLEGAL_COMMAND = 3
    PERMISSION_DENIED = 4
    ILLEGAL_QUERY = 8
    LOCKED = 9
    NO_SUCH_ATTRIBUTE = 10
    ENTRY_EXISTS = 15
    DIRECTORY_EXISTS = 16
    SEQUENCE = 17
    NOT_EMPTY = 100
    TOO_LARGE = 101
    UNAVAILABLE = 102
    INTERNAL = 103


class Refused(Exception):
    """A reply other than OK, where the protocol tells apart what the error tree does not.

    Both ends turn it into or out of a leaf of `srm_dicom.errors`; it never leaves them.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


# --- words ---------------------------------------------------------------------------------------


def is_one_line(value: str) -> bool:
    """Tell whether a value may stand in a row or a command."""
    return _CONTROL.search(value) is None


def split_words(line: str) -> list[str]:
    """Split a command into its words.

    Raises:
        InvalidRequest: a quote is not closed.
        TooLarge: more than `MAX_WORDS` words.
    """
    words: list[str] = []
    position = 0
    while (position := _skip_blanks(line, position)) < len(line):
        word, position = _word(line, position)
        words.append(word)
        if len(words) > MAX_WORDS:
            raise TooLarge(f"a command has at most {MAX_WORDS} words")
    return words


def quote(word: str) -> str:
    """Write a word so that `split_words` reads it back.

    Raises:
        InvalidRequest: it is not one line.
    """
    if not is_one_line(word):
        raise InvalidRequest("a value is one line of text without control characters")
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _skip_blanks(line: str, position: int) -> int:
    while position < len(line) and line[position] in " \t\r":
        position += 1
    return position


_PLAIN = re.compile(r"[^ \t\r']+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")
_ESCAPE = re.compile(r"\\(['\\])")


def _word(line: str, position: int) -> tuple[str, int]:
    parts = []
    while position < len(line) and line[position] not in " \t\r":
        plain = _PLAIN.match(line, position)
        quoted = _QUOTED.match(line, position)
        match = plain or quoted
        if match is None:
            raise InvalidRequest("a quote is not closed")
        parts.append(match[0] if plain else _ESCAPE.sub(r"\1", match[1]))
        position = match.end()
    return "".join(parts), position


# --- the server's side ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """How the client wants in: ``ssl``, ``plain``, ``resume<id>`` or ``resumeSSL<id>``."""

    way: str


@dataclass(frozen=True, slots=True)
class Login:
    """The client has said its login lines; no answer is due."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command, split into words; there may be none."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client asked to stop a command."""


Event = Choice | Login | Command | Cancel


class _Phase(Enum):
    CHOICE = 1
    LOGIN = 2
    COMMANDS = 3


class ServerConnection:
    """The server's half of a connection: bytes in, events out.

    Args:
        max_line_bytes: bound of a command; what comes before the first one has a tighter one.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._phase = _Phase.CHOICE
        self._buffer = bytearray()
        self._searched = 0

    @property
    def unread_bytes(self) -> int:
        """How much has arrived that is not an event yet; before a handshake it has to be 0."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """Return the next event, or None while more bytes are needed.

        Raises:
            TooLarge: a line is longer than the bound.
            InvalidRequest: not UTF-8, or a quote is not closed; the line is consumed.
        """
        if self._phase is _Phase.COMMANDS:
            return self._command()
        block = self._take(b"\n\n", _MAX_PREAMBLE_BYTES)
        if block is None:
            return None
        if self._phase is _Phase.CHOICE:
            self._phase = _Phase.LOGIN
            return Choice(block.strip())
        self._phase = _Phase.COMMANDS
        return Login()

    def _command(self) -> Command | Cancel | None:
        if self._buffer.startswith(CAN.encode()):
            del self._buffer[:1]
            return Cancel()
        line = self._take(b"\n", self._max_line_bytes)
        return None if line is None else Command(tuple(split_words(line)))

    def _take(self, end: bytes, max_bytes: int) -> str | None:
        position = self._buffer.find(end, max(0, self._searched - len(end)))
        self._searched = len(self._buffer)
        if (self._searched if position < 0 else position) > max_bytes:
            raise TooLarge(f"a line has at most {max_bytes} bytes")
        if position < 0:
            return None
        block = bytes(self._buffer[:position])
        del self._buffer[: position + len(end)]
        self._searched = 0
        return _text(block)


def greeting(server: str, ways: Sequence[str]) -> bytes:
    """Return the first thing that a server says."""
    return f"{server}\nProtocol {PROTOCOL}\n{' '.join(ways)}\n".encode()


def reply(code: Code, text: str = "", rows: Iterable[str] = ()) -> bytes:
    """Return one whole reply.

    Raises:
        InternalError: a row or the text is not one line, which must have been refused when it was written.
    """
    status = f"{code.value} {text}".rstrip()
    lines = [status, *rows]
    if not all(map(is_one_line, lines)):
        raise InternalError("a stored value is not one line of text")
    return "".join(f"{line}\n" for line in lines).encode() + _END


CANCELLED = CAN.encode() + reply(Code.OK)
"""What a server says to `Cancel`: there is nothing left to stop, commands end before the next one."""


# --- the client's side ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says first."""

    server: str
    protocol: int
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answers to a command."""

    code: int
    text: str
    rows: tuple[str, ...]


class ClientConnection:
    """The client's half of a connection, to a server of protocol 2.

    Args:
        max_reply_bytes: bound of one reply.
    """

    def __init__(self, *, max_reply_bytes: int = MAX_REPLY_BYTES) -> None:
        self._max_reply_bytes = max_reply_bytes
        self._buffer = bytearray()
        self._searched = 0

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire.

        Raises:
            TooLarge: the reply is longer than the bound.
        """
        self._buffer += data
        if len(self._buffer) > self._max_reply_bytes:
            raise TooLarge("the reply of the metadata server is too long")

    def greeting(self) -> Greeting | None:
        """Return the server's greeting, or None while more bytes are needed.

        Raises:
            CatalogueUnavailable: what is there is not an AMGA server of protocol 2.
        """
        lines = bytes(self._buffer).split(b"\n")
        if len(lines) < 4:
            if len(self._buffer) > _MAX_PREAMBLE_BYTES:
                raise CatalogueUnavailable("not a metadata server")
            return None
        server, protocol, ways = (_text(line) for line in lines[:3])
        self._buffer = bytearray(b"\n".join(lines[3:]))
        if protocol != f"Protocol {PROTOCOL}":
            raise CatalogueUnavailable("not a metadata server of protocol 2")
        return Greeting(server, PROTOCOL, tuple(ways.split()))

    def ready_for_handshake(self) -> bool | None:
        """Tell whether the server agreed to a handshake; None while more bytes are needed."""
        if b"\n" not in self._buffer:
            return None
        agreed = bytes(self._buffer) == b"OK\n"
        self._buffer.clear()
        return agreed

    def reply(self) -> Reply | None:
        """Return the reply to the command that was sent, or None while more bytes are needed.

        Raises:
            CatalogueUnavailable: what came is not a reply.
        """
        first = self._buffer.find(EOT.encode(), max(0, self._searched - 1))
        self._searched = max(first, 0) if first >= 0 else len(self._buffer)
        last = self._buffer.find(EOT.encode(), first + 1) if first >= 0 else -1
        if last < 0:
            return None
        lines = _text(bytes(self._buffer[:first])).split("\n")
        del self._buffer[: last + 1]
        self._searched = 0
        code, _, text = lines[0].partition(" ")
        if not re.fullmatch(r"-?[0-9]{1,6}", code, re.ASCII):
            raise CatalogueUnavailable("the metadata server does not speak the protocol")
        return Reply(int(code), text, tuple(lines[1:-1]))


def command(words: Sequence[str]) -> bytes:
    """Return one command; the first word is its name."""
    return " ".join([words[0], *map(quote, words[1:])]).encode() + b"\n"


def choice(way: str) -> bytes:
    """Return what a client says after the greeting."""
    return f"{way}\n\n".encode()


def login(name: str = "") -> bytes:
    """Return the login lines; the name decides nothing when a certificate was shown."""
    return f"0 {name}\n\n".encode()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("not UTF-8") from error
