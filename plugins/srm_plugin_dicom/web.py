"""An archive that is asked over DICOMweb: QIDO-RS for questions, WADO-RS for images (PS3.18, 10.4 and 10.6).

Images are asked for as they are held (``transfer-syntax=*``). A whole series is one request when most of
it is wanted, else each image is one on a connection that is kept. Parts are read as they come, each held
in memory within the budget that all arriving objects share, and those that nobody waits for are dropped.
"""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from math import inf
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec

from srm_dicom.clock import Clock
from srm_dicom.errors import (
    ConfigError,
    NotDelivered,
    SourceRefused,
    SourceSlow,
    SourceUnavailable,
)
from srm_plugin_dicom.archive import Wanted, nobody_waits
from srm_plugin_dicom.kept import Kept
from srm_plugin_dicom.moves import Deliver, MoveDesk, Visit
from srm_plugin_dicom.multipart import MultipartError, MultipartReader, boundary_of
from srm_plugin_dicom.selector import UNIQUE, Level, sound
from srm_plugin_dicom.stores import Handler
from srm_plugin_dicom.tls import TlsCredential, client_context
from srm_plugin_dicom.webjson import texts_of
from srm_plugin_dicom.webparts import PartTaker

CHUNK_BYTES = 262_144
MAX_ANSWER_BYTES = 64 << 20
PAGE = 1000
MAX_PAGES = 10_000
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_NOT_NOW = frozenset({408, 425, 429, 500, 502, 503, 504})
_HOST_LEVELS = {
    Level.STUDY: "/studies",
    Level.SERIES: "/studies/{StudyInstanceUID}/series",
    Level.IMAGE: "/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}/instances",
}


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the services are and how patient we are; `name` is the site's word for it."""

    name: str
    url: str
    connect_s: float = 10.0
    answer_s: float = 60.0
    tls: TlsCredential | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def read_headers(path: Path) -> dict[str, str]:
    """Return the header lines of a secrets file.

    Raises:
        ConfigError: it cannot be read, others can read it, or a line is no header.
    """
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path} can be read by others", advice=f"chmod 600 {path}")
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read as header lines") from None
    pairs = [line.partition(":") for line in lines if line.strip()]
    if not all(name.strip() and colon and value.strip() for name, colon, value in pairs):
        raise ConfigError(f"a line of {path} is no header", advice="Write Name: value.")
    return {name.strip(): value.strip() for name, _, value in pairs}


class WebSession:
    """A connection to the services, opened at the first request."""

    def __init__(self, settings: WebSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        parts = urlsplit(settings.url)
        self._prefix = parts.path.rstrip("/")
        self._connection = _connection(settings)
        self._socket: socket.socket | None = None

    def find(self, level: Level, keys: Mapping[str, str], end_s: float = inf) -> list[dict[str, str]]:
        """Return the answers to one QIDO-RS search, page by page, until a monotonic time; not filtered."""
        query = _query(level, keys)
        found: dict[str, dict[str, str]] = {}
        for page in range(MAX_PAGES):
            turn = [*query, ("limit", str(PAGE)), ("offset", str(page * PAGE))]
            answers = self._page(f"{_target(level, keys)}?{urlencode(turn)}", end_s)
            told = {each.get(UNIQUE[level], ""): each for each in answers}
            fresh = told.keys() - found.keys()
            found |= told
            # A server that knows no pages answers the same again.
            if len(answers) < PAGE or not fresh:
                return sound(found.values())
        raise SourceRefused(f"{self._settings.name} has more answers than may be asked for at once")

    @contextmanager
    def get(self, target: str, accept: str, timeout_s: float) -> Iterator[HTTPResponse]:
        """Ask for something; a connection whose answer was not read to its end is closed.

        Raises:
            SourceUnavailable, SourceRefused: no answer, or none that is a success.
        """
        name = self._settings.name
        try:
            response = self._send(target, accept, timeout_s)
            if response.status not in {200, 204, 206, 404}:
                kind = SourceUnavailable if response.status in _NOT_NOW else SourceRefused
                raise kind(f"{name} answered with HTTP status {response.status}")
            yield response
        except TimeoutError:
            raise SourceUnavailable(f"{name} did not answer in time") from None
        except (OSError, HTTPException):
            raise SourceUnavailable(f"{name} does not answer, or broke off") from None
        finally:
            self._settle()

    def be_patient(self, timeout_s: float) -> None:
        """Wait so long from now on for each piece of the answer."""
        if self._socket is not None:
            self._socket.settimeout(timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def is_open(self) -> bool:
        """Whether it is connected, and has been left after whole answers."""
        return self._connection.sock is not None

    def _send(self, target: str, accept: str, timeout_s: float) -> HTTPResponse:
        """Ask on the connection that is there; one that was idle may have died unseen, and is replaced."""
        if self.is_open:
            try:
                return self._send_once(target, accept, timeout_s)
            except (ConnectionError, BadStatusLine, ssl.SSLError):
                self._connection.close()
        return self._send_once(target, accept, timeout_s)

    def _send_once(self, target: str, accept: str, timeout_s: float) -> HTTPResponse:
        headers = {"Accept": accept, "Accept-Encoding": "identity", **self._settings.headers}
        self._response: HTTPResponse | None = None
        if self._connection.sock is None:
            self._connection.timeout = min(timeout_s, self._settings.connect_s)
            self._connection.connect()
        self._socket = self._connection.sock
        self._socket.settimeout(timeout_s)
        self._connection.request("GET", self._prefix + target, headers=headers)
        self._response = self._connection.getresponse()
        return self._response

    def _settle(self) -> None:
        response = self._response
        # `read1` leaves an answer open at whose end it is.
        if response is None or not (response.isclosed() or response.length == 0):
            self._connection.close()
        else:
            response.close()

    def _page(self, target: str, end_s: float) -> list[dict[str, str]]:
        now_s = self._clock.monotonic_s()
        end_s = min(end_s, now_s + self._settings.answer_s)
        body = bytearray()
        with self.get(target, "application/dicom+json", max(0.001, end_s - now_s)) as response:
            while len(body) <= MAX_ANSWER_BYTES and (chunk := response.read1(CHUNK_BYTES)):
                body += chunk
                if self._clock.monotonic_s() > end_s:
                    raise TimeoutError
            if not chunk and response.length:
                raise IncompleteRead(b"", response.length)
        if response.status in {204, 404}:
            return []
        if len(body) > MAX_ANSWER_BYTES:
            raise SourceRefused(f"{self._settings.name} answered with more than is read")
        try:
            return texts_of(bytes(body))
        except (msgspec.DecodeError, ValueError):
            raise SourceRefused(f"{self._settings.name} answered with what is no DICOM JSON") from None


class WebArchive:
    """See the module."""

    def __init__(self, settings: WebSettings, desk: MoveDesk, clock: Clock) -> None:
        """Take a desk for its bounds: what is asked for comes in the answer to who asked."""
        self._settings = settings
        self._desk = desk
        self._clock = clock
        self._kept = Kept(WebSession.close, clock)

    @property
    def name(self) -> str:
        """The site's word for it."""
        return self._settings.name

    def close(self) -> None:
        """Close the connections that are kept."""
        self._kept.close()

    def echo(self) -> None:
        """Ask whether it is there: a search for one study."""
        with self.session() as session, session.get("/studies?limit=1", "application/dicom+json", 10.0):
            return

    @contextmanager
    def session(self) -> Iterator[WebSession]:
        """Take a connection for questions, one that is kept or a new one."""
        session = self._kept.take() or WebSession(self._settings, self._clock)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        if session.is_open:
            self._kept.put(session)

    def fetch(self, wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        """Fetch by WADO-RS; see `archive.Archive`."""
        end_s = self._clock.monotonic_s() + deadline_s
        for each in wanted:
            self._fetch(each, deliver, end_s)

    def _fetch(self, wanted: Wanted, deliver: Deliver, end_s: float) -> None:
        sender = frozenset({self.name})
        visit = Visit(sender, wanted.instances, deliver, self._clock, not_held=wanted.not_held)
        series = f"/studies/{wanted.study}/series/{wanted.series}"
        handler = self._desk.only(visit)
        with self.session() as session:
            every = 2 * len(wanted.instances) > self._count(session, wanted, end_s)
            first_end_s = self._clock.monotonic_s() + wanted.first_s
            with self._impatient(visit, first_end_s):
                if every:
                    self._take(session, series, handler, wanted, min(end_s, first_end_s), end_s)
                for instance in visit.missing():
                    until_s = end_s if visit.has_begun else min(end_s, first_end_s)
                    self._take(session, f"{series}/instances/{instance}", handler, wanted, until_s, end_s)

    @contextmanager
    def _impatient(self, visit: Visit, first_end_s: float) -> Iterator[None]:
        """Say of what was broken off because nothing had come that it was slow."""
        try:
            yield
        except (SourceUnavailable, NotDelivered):
            if not visit.has_begun and self._clock.monotonic_s() >= first_end_s:
                raise SourceSlow(f"{self.name} has not begun to send: it may be fetching the study") from None
            raise

    def _count(self, session: WebSession, wanted: Wanted, end_s: float) -> int:
        """Return how many images the series has; 0 when the archive does not tell."""
        keys = {"StudyInstanceUID": wanted.study, "SeriesInstanceUID": wanted.series}
        answers = session.find(Level.SERIES, keys | {"NumberOfSeriesRelatedInstances": ""}, end_s)
        told = [each.get("NumberOfSeriesRelatedInstances", "") for each in answers[:1]]
        return int(told[0]) if told and told[0].isdigit() else 0

    def _take(
        self,
        session: WebSession,
        target: str,
        handler: Handler,
        wanted: Wanted,
        until_s: float,
        end_s: float,
    ) -> None:
        """Take what the answer has, which begins until `until_s` and is over at `end_s`."""
        if not wanted.is_wanted():
            raise nobody_waits()
        with session.get(target, _AS_STORED, self._left(until_s)) as response:
            if response.status in {204, 404}:
                response.read(CHUNK_BYTES)
                return
            taker = PartTaker(self.name, handler)
            try:
                reader = MultipartReader(boundary_of(response.headers.get("Content-Type", "")))
                while chunk := response.read1(CHUNK_BYTES):
                    if not wanted.is_wanted():
                        raise nobody_waits()
                    session.be_patient(self._left(end_s))
                    for event in reader.feed(chunk):
                        taker.take(event)
                reader.finish()
            except MultipartError:
                raise SourceUnavailable(f"{self.name} answered with what is no whole message") from None
            finally:
                taker.close()

    def _left(self, end_s: float) -> float:
        left_s = end_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise NotDelivered(f"WADO-RS from {self.name} was not over at the deadline")
        return left_s


def _connection(settings: WebSettings) -> HTTPConnection:
    parts = urlsplit(settings.url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=settings.connect_s)
    context = client_context(settings.tls) if settings.tls else None
    return HTTPSConnection(host, parts.port, timeout=settings.connect_s, context=context)


def _target(level: Level, keys: Mapping[str, str]) -> str:
    return _HOST_LEVELS[level].format_map(keys)


def _query(level: Level, keys: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the parameters: what is matched, and what is wanted back (PS3.18, 8.3.4).

    A list of values is left out, and filtered here: QIDO-RS has lists for UIDs only.
    """
    above = {UNIQUE[each] for each in Level if each is not level} & set(keys)
    own = {keyword: value for keyword, value in keys.items() if keyword not in above}
    matched = [(keyword, value) for keyword, value in own.items() if value and "\\" not in value]
    return matched + [("includefield", keyword) for keyword in own]
