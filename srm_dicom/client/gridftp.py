"""A GridFTP client: log in with GSI, stat, fetch from an offset, read small files and ranges, store.

One session a server is kept and used again. Data connections are passive, in stream mode and clear
(DCAU N): what is moved is ciphertext, checked against its manifest afterwards. Nothing is delegated.
Talks to this project's door and to any Globus server.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import select
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

from srm_dicom.client.ftp_errors import meaning_of
from srm_dicom.errors import (
    Aborted,
    InvalidRequest,
    MdmError,
    NotAuthenticated,
    NotDelivered,
    SourceUnavailable,
    TooLarge,
)
from srm_dicom.identity.credential import Shown
from srm_dicom.wire.gridftp.addresses import parse_passive_port
from srm_dicom.wire.gridftp.facts import parse_facts, parse_timestamp
from srm_dicom.wire.gridftp.gsi import GsiInitiator, SecureChannel
from srm_dicom.wire.gridftp.lines import LineReader
from srm_dicom.wire.gridftp.replies import Reply, ReplyReader

DEFAULT_PORT = 2811
_BUFFER_BYTES = 1024 * 1024
_RECEIVE_BYTES = 64 * 1024
_MAX_TOKENS = 16
_ADLER32 = re.compile(r"[0-9a-fA-F]{1,8}")

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
    """What has been received: bytes of this call, and the adler32 of everything so far, eight digits."""

    size_bytes: int
    adler32: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What MLST tells of a name; None for what the server does not tell."""

    is_directory: bool
    size_bytes: int | None
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, for a reply, and for the next bytes of a file."""

    connect_s: float = 20.0
    reply_s: float = 60.0
    data_s: float = 60.0


class GridFtpClient:
    """Moves files as the owner of a credential; not for several threads.

    Args:
        credential: whose proxy is shown, and the authorities that servers must come from.
        timeouts: deadlines.
        connect: makes the control connection to (host, port) within so many seconds; data connections go
            where that one went.
    """

    def __init__(
        self,
        credential: Shown,
        *,
        timeouts: Timeouts | None = None,
        connect: Connect = socket.create_connection,
    ) -> None:
        self._credential = credential
        self._connect = connect
        self._timeouts = timeouts or Timeouts()
        self._sessions: dict[tuple[str, int], _Session] = {}
        self._lent: _Session | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave every server."""
        while self._sessions:
            self._sessions.popitem()[1].leave()

    def interrupt(self) -> None:
        """Break off what another thread does with this client; nothing can be asked of it afterwards."""
        self._interrupted = True
        lent = self._lent
        if lent is not None:
            lent.break_off()

    def fetch(
        self,
        turl: str,
        sink: Sink,
        *,
        offset: int = 0,
        adler32: int = 1,
        progress: Progress | None = None,
    ) -> Fetched:
        """Write a file into `sink`, from `offset` bytes on.

        Args:
            turl: ``gsiftp://host[:port]/path``.
            sink: gets the bytes in order.
            offset: how many bytes the caller has already.
            adler32: checksum of these bytes, as `zlib.adler32` gives it.
            progress: called with the bytes received by this call so far.

        Raises:
            NotFound: no such file, or none that the caller may learn of.
            RequestExpired: the file is not staged there (any more).
            NotDelivered: the transfer broke off; what is in the sink is good and may be continued.
            SourceUnavailable: the server does not answer.
        """
        where = Turl.parse(turl)
        command = f"RETR {where.path}"
        with self._session(where) as session:
            return session.fetch(command, sink, offset, adler32, progress or _silent)

    def store(self, turl: str, size_bytes: int, pieces: Iterable[bytes]) -> None:
        """Write a whole file (GFD.020, STOR); whether the server has it is told by its final reply.

        Args:
            turl: ``gsiftp://host[:port]/path``.
            size_bytes: of the file, announced with ALLO: the end of a stream alone could be an accident.
            pieces: the file.

        Raises:
            NotDelivered: the transfer broke off; the server has no whole file.
            MdmError: what the server refused, or what `pieces` raises.
        """
        where = Turl.parse(turl)
        with self._session(where) as session:
            session.store(f"STOR {where.path}", size_bytes, pieces)

    def read(self, turl: str, *, limit_bytes: int = 1024 * 1024) -> bytes:
        """Return a small file.

        Raises:
            TooLarge: it has more than `limit_bytes`.
        """
        sink = _BoundedBuffer(limit_bytes)
        self.fetch(turl, sink)
        return sink.getvalue()

    def read_range(self, turl: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start` on, fewer where it ends (GFD.020, 5.7: ERET P).

        Raises:
            NotDelivered: the transfer broke off.
            MdmError: as `fetch`.
        """
        where = Turl.parse(turl)
        sink = _BoundedBuffer(length)
        with self._session(where) as session:
            session.fetch(f"ERET P {start} {length} {where.path}", sink, 0, 1, _silent)
        return sink.getvalue()

    def stat(self, turl: str) -> RemoteFile:
        """Look a name up.

        Raises:
            NotFound: there is none, or none that the caller may learn of.
        """
        where = Turl.parse(turl)
        with self._session(where) as session:
            return _remote_file(session.command(f"MLST {where.path}"))

    def checksum(self, turl: str) -> str | None:
        """Return the adler32 of a file, eight digits, if the server computes it (CKSM).

        Raises:
            SourceUnavailable, NotDelivered: the server does not answer.
        """
        where = Turl.parse(turl)
        try:
            with self._session(where) as session:
                told = session.command(f"CKSM ADLER32 0 -1 {where.path}").text.strip()
        except (SourceUnavailable, NotDelivered):
            raise
        except MdmError:
            return None
        return told.lower().zfill(8) if _ADLER32.fullmatch(told) else None

    @contextmanager
    def _session(self, where: Turl) -> Iterator[_Session]:
        """Lend the session with a server; it is kept unless its use failed in a way that breaks it."""
        if self._interrupted:
            raise Aborted("the transfer was interrupted")
        key = (where.host, where.port)
        session = self._sessions.pop(key, None)
        if session is None or session.stale:
            if session is not None:
                session.leave()
            session = _Session(where, self._credential, self._timeouts, self._connect)
        self._lent = session
        try:
            yield session
        except BaseException as error:
            if isinstance(error, _Refused):
                self._sessions[key] = session
                raise error.meaning from None
            session.leave()
            if isinstance(error, OSError):
                raise NotDelivered("the transfer broke off: " + (error.strerror or str(error))) from error
            raise
        finally:
            self._lent = None
        self._sessions[key] = session


class _Refused(Exception):
    """The server refused a command and the session goes on."""

    def __init__(self, meaning: MdmError) -> None:
        super().__init__(meaning.message)
        self.meaning = meaning


class _BoundedBuffer(io.BytesIO):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, data: object, /) -> int:
        written = super().write(data)  # type: ignore[arg-type]
        if self.tell() > self._limit_bytes:
            raise TooLarge(f"the file has more than {self._limit_bytes} bytes")
        return written


class _Session:
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
        except _Refused as error:
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
            self._send("QUIT")
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
            _Refused: the server refuses it.
            OSError: the connection is lost.
        """
        self._send(line)
        return self._final()

    def fetch(self, command: str, sink: Sink, offset: int, adler32: int, progress: Progress) -> Fetched:
        """Send RETR or ERET and pour what comes into the sink."""
        with self._transfer(command, offset) as data:
            return _pour(data, sink, adler32, progress)

    def store(self, command: str, size_bytes: int, pieces: Iterable[bytes]) -> None:
        """Send STOR and what the file shall be."""
        with suppress(_Refused):
            self.command(f"ALLO {size_bytes}")
        with self._transfer(command) as data:
            try:
                for piece in pieces:
                    data.sendall(piece)
            except BaseException:
                with suppress(OSError):
                    self._send("ABOR")  # before the stream ends: so far is not all
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
            self._send(command)
            first = self._accepted(self._next_reply())
            yield data
        if first.preliminary:
            self._final(broken=NotDelivered)

    def _passive_port(self) -> int:
        try:
            return parse_passive_port(self.command("EPSV"))
        except _Refused:
            return parse_passive_port(self.command("PASV"))

    def _log_in(self, host: str, credential: Shown) -> None:
        self._final()
        self._send("AUTH GSSAPI")
        self._accepted(self._next_reply())
        initiator = GsiInitiator(credential.client_context(), host)
        token = b""
        for _ in range(_MAX_TOKENS):
            answer = initiator.step(token)
            self._send("ADAT " + base64.b64encode(answer).decode())
            reply = self._accepted(self._next_reply())
            if reply.code == 235:
                self._channel = initiator.channel
                break
            token = _token_in(reply)
        else:
            raise NotAuthenticated("the server's login takes too many rounds")
        for line in ("USER :globus-mapping:", "PASS -", "TYPE I", "DCAU N"):
            self.command(line)

    def _send(self, line: str) -> None:
        data = f"{line}\r\n".encode()
        if self._channel is not None:
            data = b"ENC " + base64.b64encode(self._channel.wrap(data)) + b"\r\n"
        self._sock.sendall(data)

    def _final(self, broken: type[MdmError] | None = None) -> Reply:
        """Read to the final reply of a command.

        `broken` says what a refusal after the beginning of a transfer means.
        """
        while True:
            reply = self._next_reply()
            if reply.refused and broken is not None:
                raise _Refused(broken(reply.text))
            if not self._accepted(reply).preliminary:
                return reply

    def _accepted(self, reply: Reply) -> Reply:
        if reply.refused:
            raise _Refused(meaning_of(reply))
        return reply

    def _next_reply(self) -> Reply:
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


def _pour(data: socket.socket, sink: Sink, adler32: int, progress: Progress) -> Fetched:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    total = 0
    while count := data.recv_into(buffer):
        part = buffer[:count]
        sink.write(part)
        adler32 = zlib.adler32(part, adler32)
        total += count
        progress(total)
    return Fetched(total, f"{adler32:08x}")


def _silent(_received_bytes: int) -> None:
    """Take no notice of progress."""


def _token_in(reply: Reply) -> bytes:
    marker, _, token = reply.text.partition("ADAT=")
    if marker.strip() or not token:
        raise NotAuthenticated("the server's reply holds no token")
    try:
        return base64.b64decode(token, validate=True)
    except binascii.Error as error:
        raise NotAuthenticated("the server's token is not base64") from error


def _remote_file(reply: Reply) -> RemoteFile:
    if len(reply.lines) < 2:
        raise InvalidRequest("the server's reply holds no facts")
    facts, _ = parse_facts(reply.lines[1])
    size, modified = facts.get("size", ""), facts.get("modify")
    return RemoteFile(
        is_directory=facts.get("type", "").endswith("dir"),
        size_bytes=int(size) if size.isascii() and size.isdigit() else None,
        modified=parse_timestamp(modified) if modified else None,
    )
