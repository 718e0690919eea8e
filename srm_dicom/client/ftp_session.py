"""A GridFTP client's control connection: login with GSI, commands and replies, one data connection at a time.

`gridftp.GridFtpClient` keeps one for each server. Data connections are passive, in stream mode and clear.
"""

from __future__ import annotations

import base64
import binascii
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

from srm_dicom.client.ftp_errors import meaning_of
from srm_dicom.errors import InvalidRequest, MdmError, NotAuthenticated, NotDelivered, SourceUnavailable
from srm_dicom.identity.credential import Shown
from srm_dicom.wire.gridftp.addresses import parse_passive_port
from srm_dicom.wire.gridftp.gsi import GsiInitiator, SecureChannel
from srm_dicom.wire.gridftp.lines import LineReader
from srm_dicom.wire.gridftp.replies import Reply, ReplyReader

DEFAULT_PORT = 2811
_BUFFER_BYTES = 1024 * 1024
_RECEIVE_BYTES = 64 * 1024
_MAX_TOKENS = 16

Connect = Callable[[tuple[str, int], float], socket.socket]
Progress = Callable[[int], None]


class Sink(Protocol):
    """What takes the bytes of a file, in order."""

    def write(self, data: memoryview, /) -> object:
        """Take the next bytes, which are valid during the call only."""
        ...


@dataclass(frozen=True, slots=True)
class Turl:
    """Where a file is served: ``gsiftp://host[:port]/path``."""

    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a TURL.

        Raises:
            InvalidRequest: it is not a gsiftp URL.
        """
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError as error:
            raise InvalidRequest("not a gsiftp URL") from error
        path = "/" + unquote(url.path).lstrip("/")
        if url.scheme.lower() != "gsiftp" or not host or not path.isprintable():
            raise InvalidRequest("not a gsiftp URL")
        return cls(host, port or DEFAULT_PORT, path)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What has been received by one call; whoever takes the bytes proves them."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, for a reply, and for the next bytes of a file."""

    connect_s: float = 20.0
    reply_s: float = 60.0
    data_s: float = 60.0


class Refused(Exception):
    """The server refused a command and the session goes on."""

    def __init__(self, meaning: MdmError) -> None:
        super().__init__(meaning.message)
        self.meaning = meaning


class Session:
    """One control connection after its login."""

    def __init__(
        self,
        where: Turl,
        credential: Shown,
        timeouts: Timeouts,
        connect: Connect = socket.create_connection,
    ) -> None:
        self._timeouts = timeouts
        self._raw = LineReader()
        self._plain = LineReader()
        self._replies = ReplyReader()
        self._channel: SecureChannel | None = None
        self._data: socket.socket | None = None
        try:
            self._sock = connect((where.host, where.port), timeouts.connect_s)
        except OSError as error:
            raise SourceUnavailable(
                f"{where.host}:{where.port} does not answer: {error.strerror or error}"
            ) from error
        try:
            self._sock.settimeout(timeouts.reply_s)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._log_in(where.host, credential)
        except OSError as error:
            self._sock.close()
            raise SourceUnavailable(f"{where.host}:{where.port} broke off the login") from error
        except Refused as error:
            self._sock.close()
            raise error.meaning from None
        except BaseException:
            self._sock.close()
            raise

    @property
    def stale(self) -> bool:
        """Tell whether the server has spoken unasked or has gone: both end an idle session."""
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def leave(self) -> None:
        """Close, without waiting for the farewell."""
        with suppress(OSError, MdmError):
            self.send("QUIT")
        self._sock.close()

    def break_off(self) -> None:
        """End both connections under the feet of the thread that waits for them."""
        for sock in (self._data, self._sock):
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def command(self, line: str) -> Reply:
        """Send a command and return its final reply.

        Raises:
            Refused: the server refuses it.
            OSError: the connection is lost.
        """
        self.send(line)
        return self._final()

    def fetch(self, command: str, sink: Sink, offset: int, progress: Progress) -> Fetched:
        """Send RETR or ERET and pour what comes into the sink."""
        with self._transfer(command, offset) as data:
            return _pour(data, sink, progress)

    def store(self, command: str, size_bytes: int, pieces: Iterable[bytes]) -> None:
        """Send STOR and what the file shall be."""
        with suppress(Refused):
            self.command(f"ALLO {size_bytes}")
        with self._transfer(command) as data:
            try:
                for piece in pieces:
                    data.sendall(piece)
            except BaseException:
                with suppress(OSError):
                    self.send("ABOR")  # before the stream ends: so far is not all
                raise

    @contextmanager
    def _transfer(self, command: str, offset: int = 0) -> Iterator[socket.socket]:
        """Lend the data connection of a command; in stream mode its end is the end of the file."""
        port = self._passive_port()
        if offset:
            self.command(f"REST {offset}")
        peer = (self._sock.getpeername()[0], port)
        with socket.create_connection(peer, self._timeouts.connect_s) as data:
            self._data = data
            data.settimeout(self._timeouts.data_s)
            self.send(command)
            first = self._accepted(self.next_reply())
            yield data
        if first.preliminary:
            self._final(broken=NotDelivered)

    def _passive_port(self) -> int:
        try:
            return parse_passive_port(self.command("EPSV"))
        except Refused:
            return parse_passive_port(self.command("PASV"))

    def _log_in(self, host: str, credential: Shown) -> None:
        self._final()
        self.send("AUTH GSSAPI")
        self._accepted(self.next_reply())
        initiator = GsiInitiator(credential.client_context(), host)
        token = b""
        for _ in range(_MAX_TOKENS):
            answer = initiator.step(token)
            self.send("ADAT " + base64.b64encode(answer).decode())
            reply = self._accepted(self.next_reply())
            if reply.code == 235:
                self._channel = initiator.channel
                break
            token = _token_in(reply)
        else:
            raise NotAuthenticated("the server's login takes too many rounds")
        for line in ("USER :globus-mapping:", "PASS -", "TYPE I", "DCAU N"):
            self.command(line)

    def send(self, line: str) -> None:
        """Send a command, and wait for nothing."""
        data = f"{line}\r\n".encode()
        if self._channel is not None:
            data = b"ENC " + base64.b64encode(self._channel.wrap(data)) + b"\r\n"
        self._sock.sendall(data)

    def _final(self, broken: type[MdmError] | None = None) -> Reply:
        """Read to the final reply of a command.

        `broken` says what a refusal after the beginning of a transfer means.
        """
        while True:
            reply = self.next_reply()
            if reply.refused and broken is not None:
                raise Refused(broken(reply.text))
            if not self._accepted(reply).preliminary:
                return reply

    def _accepted(self, reply: Reply) -> Reply:
        if reply.refused:
            raise Refused(meaning_of(reply))
        return reply

    def next_reply(self) -> Reply:
        """Wait for the next reply, a preliminary one or one that refuses as well.

        Raises:
            OSError: the connection is lost.
        """
        while True:
            line = self._next_line()
            if line is not None:
                reply = self._replies.feed_line(line)
                if reply is not None:
                    return reply
                continue
            data = self._sock.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionAbortedError("the server closed the session")
            self._raw.feed(data)

    def _next_line(self) -> bytes | None:
        """Return the next line of a reply, opened if it came protected."""
        if self._channel is None:
            return self._raw.next_line()
        line = self._plain.next_line()
        while line is None:
            outer = self._raw.next_line()
            if outer is None:
                return None
            try:
                self._plain.feed(self._channel.unwrap(base64.b64decode(outer[4:], validate=True)))
            except binascii.Error as error:
                raise InvalidRequest("the server sent a reply that is not protected") from error
            line = self._plain.next_line()
        return line


def _pour(data: socket.socket, sink: Sink, progress: Progress) -> Fetched:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    total = 0
    while count := data.recv_into(buffer):
        sink.write(buffer[:count])
        total += count
        progress(total)
    return Fetched(total)


def _token_in(reply: Reply) -> bytes:
    marker, _, token = reply.text.partition("ADAT=")
    if marker.strip() or not token:
        raise NotAuthenticated("the server's reply holds no token")
    try:
        return base64.b64decode(token, validate=True)
    except ValueError as error:
        raise NotAuthenticated("the server's token is not base64") from error
