"""Moves a file between this server and another one, as the user: by https or gsiftp, in either direction.

It is what third-party copies are made of (COPY at the HTTPS door, srmCopy). It knows nothing of names and
rights here: who calls it has opened what is sent, or begun what shall receive, and audited it. One call
is one transfer in the caller's thread; another thread may look at its `Progress` and end it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote, urljoin, urlsplit

from zlib_ng import zlib_ng

from srm_dicom.client.ftp_session import Timeouts
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.http import Connect, HttpClient, Response
from srm_dicom.errors import (
    IntegrityError,
    InvalidRequest,
    MdmError,
    NotAuthenticated,
    NotAuthorised,
    NotDelivered,
    NotFound,
    NotSupported,
    SourceUnavailable,
)
from srm_dicom.identity.credential import Shown
from srm_dicom.identity.principal import Principal
from srm_dicom.transfer.files import OpenedFile, read_bytes
from srm_dicom.transfer.hosts import CopyHosts
from srm_dicom.transfer.progress import Progress

SCHEMES: Mapping[str, str] = {"https": "https", "davs": "https", "gsiftp": "gsiftp"}

_PIECE_BYTES = 128 * 1024
_ADLER32 = re.compile(r"(?:^|,)\s*adler32=([0-9a-fA-F]{1,8})\s*(?:,|$)", re.IGNORECASE)
_REDIRECTS = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)
_SECRET = re.compile(r"auth|cookie|token|secret|key|passw|sign|credential", re.IGNORECASE)
"""What a header that proves something has in its name; ``Authorization`` is one of many."""

_MOST_ANSWER_BYTES = 256 * 1024
"""Of an answer that is not the file."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Remote:
    """The other side of a copy.

    Attributes:
        principal: for whom; decides which hosts there are.
        url: https, davs or gsiftp.
        shown: the credential that the user has delegated, or none.
        headers: of https, what the user wants the other side told; its token, if there is one.
    """

    principal: Principal
    url: str
    shown: Shown
    headers: Headers = ()

    @property
    def is_encrypted(self) -> bool:
        """Whether the bytes certainly are, on their way."""
        return _scheme(self.url) == "https"


@dataclass(frozen=True, slots=True)
class MoverSettings:
    """Bounds of one transfer.

    Attributes:
        silence_s: that the other side may say nothing.
        invitation_s: for its answer to ``Expect: 100-continue``.
        redirects: that are followed.
    """

    silence_s: float = 60.0
    invitation_s: float = 10.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Moved:
    """What has been moved; `verified` says that the other side told the same checksum."""

    size_bytes: int
    adler32: str
    verified: bool


class Landing(Protocol):
    """What takes the bytes of a file that is fetched; a `files.NewFile` does."""

    def write(self, offset: int, data: memoryview, /) -> object:
        """Take bytes at an offset."""


class Mover:
    """Makes transfers.

    Args:
        hosts: where connections may go.
        settings: bounds.
    """

    def __init__(self, hosts: CopyHosts, settings: MoverSettings | None = None) -> None:
        self.hosts = hosts
        self._settings = settings or MoverSettings()

    def check(self, remote: Remote) -> None:
        """Refuse what will not be possible, before anything is begun for it.

        Raises:
            NotAuthorised: the host is not listed for the caller.
            NotSupported, InvalidRequest: not a URL that is spoken here.
        """
        _scheme(remote.url)
        self.hosts.check(remote.principal, urlsplit(remote.url).hostname or "")

    def pull(self, remote: Remote, landing: Landing, progress: Progress | None = None) -> Moved:
        """Fetch a file from another server. Whoever calls finishes what was landed, or gives it up.

        Raises:
            NotAuthorised: the host or its network is not allowed.
            IntegrityError: the bytes are not what the other side says of them.
            Aborted: the transfer was cancelled.
            MdmError: what the other side refused, or that it does not answer.
        """
        self.check(remote)
        progress = progress or Progress()
        landed = _Landed(landing, progress)
        connect = self._connecting(remote, progress)
        if _scheme(remote.url) == "gsiftp":
            with self._gridftp(remote, connect) as client, progress.ending(client.interrupt):
                client.fetch(remote.url, landed)
                return landed.moved(_digest(client, remote.url))
        answer = self._follow("GET", remote, connect, landed.get)
        moved = landed.moved(answer.header("digest") or "")
        if not moved.verified and not _says_its_end(answer):
            raise NotDelivered("the other server does not say where the file ends", advice="Copy it again.")
        return moved

    def push(self, file: OpenedFile, remote: Remote, progress: Progress | None = None) -> Moved:
        """Send an open file to another server and see that it has arrived.

        A credential may be for writing alone: whom the other side does not let look has not verified.

        Raises:
            NotAuthorised: the host or its network is not allowed.
            IntegrityError: the other side has other bytes.
            Aborted: the transfer was cancelled.
            MdmError: what the other side refused, or that it does not answer.
        """
        self.check(remote)
        progress = progress or Progress()
        sent = _Sent(file, progress, self._settings.invitation_s)
        connect = self._connecting(remote, progress)
        if _scheme(remote.url) == "gsiftp":
            with self._gridftp(remote, connect) as client, progress.ending(client.interrupt):
                client.store(remote.url, file.size_bytes, sent.pieces())
                return sent.moved(_digest(client, remote.url))
        self._follow("PUT", remote, connect, sent.put)
        try:
            seen = self._follow("HEAD", remote, connect, _head)
        except (NotAuthenticated, NotAuthorised):
            return sent.moved("")
        return sent.moved(seen.header("digest") or "")

    def exists(self, remote: Remote) -> bool:
        """Tell whether another server has a file of this name.

        Raises:
            NotAuthorised: the host or its network is not allowed.
            MdmError: what the other side refused, or that it does not answer.
        """
        self.check(remote)
        connect = self._connecting(remote, Progress())
        try:
            if _scheme(remote.url) == "gsiftp":
                with self._gridftp(remote, connect) as client:
                    client.stat(remote.url)
            else:
                self._follow("HEAD", remote, connect, _head)
        except NotFound:
            return False
        return True

    def _connecting(self, remote: Remote, progress: Progress) -> Connect:
        allowed = self.hosts.connect_for(remote.principal)

        def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
            connected = allowed(address, timeout_s)
            progress.peer = connected.getpeername()[:2]
            return connected

        return connect

    def _gridftp(self, remote: Remote, connect: Connect) -> GridFtpClient:
        wait_s = self._settings.silence_s
        return GridFtpClient(remote.shown, timeouts=Timeouts(wait_s, wait_s, wait_s), connect=connect)

    def _follow(self, method: str, remote: Remote, connect: Connect, ask: Asking) -> Response:
        """Ask a server, and those that it points to."""
        url, headers = remote.url, remote.headers
        for _ in range(self._settings.redirects + 1):
            parts = urlsplit(url)
            client = HttpClient(
                f"https://{parts.netloc}",
                remote.shown,
                timeout_s=self._settings.silence_s,
                unavailable=SourceUnavailable,
                connect=connect,
                max_answer_bytes=_MOST_ANSWER_BYTES,
            )
            try:
                answer = ask(client, _target(url), headers)
            finally:
                client.close()
            if answer.status not in _REDIRECTS:
                return _accepted(method, answer)
            url, headers = _redirected(url, answer.header("location"), headers)
        raise NotDelivered("the other server points elsewhere again and again")


class Asking(Protocol):
    """One request of a transfer."""

    def __call__(self, client: HttpClient, target: str, headers: Headers, /) -> Response:
        """Make it."""


class _Landed:
    """The bytes that come in."""

    def __init__(self, landing: Landing, progress: Progress) -> None:
        self._landing = landing
        self._progress = progress
        self._offset = 0
        self._adler32 = 1

    def get(self, client: HttpClient, target: str, headers: Headers) -> Response:
        wanted = (("Want-Digest", "adler32"), *headers)
        return client.request("GET", target, headers=wanted, repeatable=False, into=self.write)

    def write(self, data: bytes | memoryview) -> None:
        self._progress.moved(len(data))
        self._landing.write(self._offset, memoryview(data))
        self._offset += len(data)
        self._adler32 = zlib_ng.adler32(data, self._adler32)

    def moved(self, digest: str) -> Moved:
        return _moved(self._offset, f"{self._adler32:08x}", digest)


class _Sent:
    """The bytes that go out."""

    def __init__(self, file: OpenedFile, progress: Progress, invitation_s: float) -> None:
        self._file = file
        self._progress = progress
        self._invitation_s = invitation_s
        self._adler32 = 1

    def put(self, client: HttpClient, target: str, headers: Headers) -> Response:
        size_bytes = self._file.size_bytes
        upload = client.upload(
            target, (("Expect", "100-continue"), *headers), method="PUT", size_bytes=size_bytes
        )
        if upload.invited(self._invitation_s):
            for piece in self.pieces():
                upload.write(piece)
        return upload.finish()

    def pieces(self) -> Iterable[bytes]:
        self._progress.again()
        self._adler32 = 1
        for piece in read_bytes(self._file, 0, self._file.size_bytes, _PIECE_BYTES):
            self._progress.moved(len(piece))
            self._adler32 = zlib_ng.adler32(piece, self._adler32)
            yield piece

    def moved(self, digest: str) -> Moved:
        return _moved(self._file.size_bytes, f"{self._adler32:08x}", digest)


def _digest(client: GridFtpClient, url: str) -> str:
    """Return what a GridFTP server tells of a file's checksum, as https would: nothing if it cannot."""
    with suppress(NotDelivered, SourceUnavailable):
        told = client.checksum(url)
        return f"adler32={told}" if told else ""
    return ""


def _head(client: HttpClient, target: str, headers: Headers) -> Response:
    return client.request("HEAD", target, headers=(("Want-Digest", "adler32"), *headers))


def _moved(size_bytes: int, adler32: str, digest: str) -> Moved:
    """Compare with what the other side says, if it says anything (RFC 3230)."""
    told = _ADLER32.search(digest)
    if told and told[1].lower().zfill(8) != adler32:
        raise IntegrityError("the other server has other bytes than were moved", advice="Copy it again.")
    return Moved(size_bytes, adler32, verified=told is not None)


def _accepted(method: str, answer: Response) -> Response:
    """Return an answer that is what was asked for.

    Raises:
        MdmError: as the other side says.
    """
    if answer.status == HTTPStatus.ACCEPTED and method == "GET":
        raise NotDelivered("the other server has the file on tape and is staging it; try again later")
    try:
        answer.raise_for_problem()
    except MdmError as error:
        raise type(error)(f"the other server: {error.message}", advice=error.advice) from error
    # Of a GET everything but 200 is a part of the file, or something else (RFC 9110, 15.3).
    done = (HTTPStatus.OK,) if method == "GET" else range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)
    if answer.status not in done:
        raise NotDelivered(f"the other server answered {answer.status}")
    return answer


def _says_its_end(answer: Response) -> bool:
    """Tell whether more than the end of a connection, which may be an accident, ended the answer."""
    return any(answer.header(name) is not None for name in ("content-length", "transfer-encoding"))


def _scheme(url: str) -> str:
    try:
        parts = urlsplit(url)
        found, host, _ = SCHEMES.get(parts.scheme.lower()), parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest("the other side of the copy is not a URL") from error
    if found is None:
        raise NotSupported("copies go by https, davs or gsiftp", advice=f"Use one of {', '.join(SCHEMES)}.")
    if not host or parts.username is not None or not url.isprintable():
        raise InvalidRequest("the other side of the copy is not a URL")
    return found


def _target(url: str) -> str:
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/%:@!$&'()+*,;=~-._")
    return f"{path}?{parts.query}" if parts.query else path


def _redirected(url: str, location: str | None, headers: Headers) -> tuple[str, Headers]:
    """Return where an answer points to; secrets of one server are not for another."""
    wanted = urljoin(url, location or "")
    if not location or _scheme(wanted) != "https":
        raise NotDelivered("the other server points to a place that is no https URL")
    if urlsplit(wanted).netloc == urlsplit(url).netloc:
        return wanted, headers
    return wanted, tuple((name, value) for name, value in headers if not _SECRET.search(name))
