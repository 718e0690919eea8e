"""A GridFTP client: log in with GSI, stat, fetch from an offset, read small files and ranges, store.

One session a server is kept and used again. Data connections are passive, in stream mode and clear
(DCAU N): what is moved is ciphertext, checked against its manifest afterwards. Nothing is delegated.
Talks to this project's door and to any Globus server.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from srm_dicom.client.ftp_session import Connect, Fetched, Progress, Refused, Session, Sink, Timeouts, Turl
from srm_dicom.errors import (
    Aborted,
    InvalidRequest,
    MdmError,
    NotDelivered,
    SourceUnavailable,
    TooLarge,
)
from srm_dicom.identity.credential import Shown
from srm_dicom.wire.gridftp.facts import parse_facts, parse_timestamp
from srm_dicom.wire.gridftp.replies import Reply

DEFAULT_PORT = 2811
_BUFFER_BYTES = 1024 * 1024
_RECEIVE_BYTES = 64 * 1024
_MAX_TOKENS = 16
_ADLER32 = re.compile(r"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What MLST tells of a name; None for what the server does not tell."""

    is_directory: bool
    size_bytes: int | None
    modified: datetime | None


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
        self._sessions: dict[tuple[str, int], Session] = {}
        self._lent: Session | None = None
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

    def log_in(self, url: str) -> None:
        """Log in at a server, so that the first transfer need not.

        Raises:
            InvalidRequest: it is not a gsiftp URL.
            MdmError: the server does not answer, or refuses.
        """
        with self._session(Turl.parse(url)):
            pass

    def fetch(
        self,
        turl: str,
        sink: Sink,
        *,
        offset: int = 0,
        size_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """Write a file into `sink`, from `offset` bytes on.

        Args:
            turl: ``gsiftp://host[:port]/path``.
            sink: gets the bytes in order.
            offset: how many bytes the caller has already.
            size_bytes: how many are wanted, if not all that follow (GFD.020, 5.7: ERET P).
            progress: called with the bytes received by this call so far.

        Raises:
            NotFound: no such file, or none that the caller may learn of.
            RequestExpired: the file is not staged there (any more).
            NotDelivered: the transfer broke off; what is in the sink is good and may be continued.
            SourceUnavailable: the server does not answer.
        """
        where = Turl.parse(turl)
        with self._session(where) as session:
            if size_bytes is None:
                return session.fetch(f"RETR {where.path}", sink, offset, progress or _silent)
            command = f"ERET P {offset} {size_bytes} {where.path}"
            return session.fetch(command, sink, 0, progress or _silent)

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
        sink = _BoundedBuffer(length)
        self.fetch(turl, sink, offset=start, size_bytes=length)
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
    def _session(self, where: Turl) -> Iterator[Session]:
        """Lend the session with a server; it is kept unless its use failed in a way that breaks it."""
        if self._interrupted:
            raise Aborted("the transfer was interrupted")
        key = (where.host, where.port)
        session = self._sessions.pop(key, None)
        if session is None or session.stale:
            if session is not None:
                session.leave()
            session = Session(where, self._credential, self._timeouts, self._connect)
        self._lent = session
        try:
            yield session
        except BaseException as error:
            if isinstance(error, Refused):
                self._sessions[key] = session
                raise error.meaning from None
            session.leave()
            if isinstance(error, OSError):
                raise NotDelivered("the transfer broke off: " + (error.strerror or str(error))) from error
            raise
        finally:
            self._lent = None
        self._sessions[key] = session


class _BoundedBuffer(io.BytesIO):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, data: object, /) -> int:
        written = super().write(data)  # type: ignore[arg-type]
        if self.tell() > self._limit_bytes:
            raise TooLarge(f"the file has more than {self._limit_bytes} bytes")
        return written


def _silent(_received_bytes: int) -> None:
    """Take no notice of progress."""


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
