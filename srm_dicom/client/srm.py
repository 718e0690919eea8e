"""An SRM v2.2 client for what `mdm`, the library and copies between servers need: look, fetch, write.

Envelopes are made and read by hand with lxml: no WSDL is loaded and spyne stays on the server. What a
server answers other than success is raised as an error of the tree, with its status and its words.
One object holds one connection and is used by one thread at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from lxml import etree

from srm_dicom.client.http import Connect, HttpClient, Response
from srm_dicom.client.srm_messages import Fields, envelope, response
from srm_dicom.client.srm_views import FileInfo, FileStatus, GetRequest, ServerInfo, Status
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.errors import InvalidRequest, RequestExpired, SourceUnavailable
from srm_dicom.identity.credential import Shown

DEFAULT_PORT = 8446
DEFAULT_PATH = "/srm/managerv2"
FIRST_POLL_S = 0.05
LAST_POLL_S = 2.0
LATE = 0.2
"""Of the wait so far: so much later than it happened we may learn that a file is there."""

LOOKS_AHEAD = 3
"""Where a server tells how much is staged: so often we look in what would be left at that rate."""

_HEADERS = (("Content-Type", "text/xml; charset=utf-8"), ("SOAPAction", '""'))
_REPEATABLE = frozenset(
    (
        "srmPing",
        "srmLs",
        "srmStatusOfGetRequest",
        "srmStatusOfPutRequest",
        "srmReleaseFiles",
        "srmAbortRequest",
    )
)
"""Operations that may be sent twice: not those that begin a request, which would leave one behind."""

Progress = Callable[[GetRequest], None]


class Http(Protocol):
    """One kept connection: what is used of `client.http.HttpClient`."""

    def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        *,
        repeatable: bool | None = None,
    ) -> Response:
        """Send a request and read the whole answer."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class SrmClient:
    """Speaks to one SRM endpoint.

    Args:
        http: the connection.
        path: of the endpoint.
        clock: for the intervals and the deadline of `wait`.
    """

    def __init__(self, http: Http, path: str = DEFAULT_PATH, clock: Clock | None = None) -> None:
        self._http = http
        self._path = path
        self._clock = clock or SystemClock()

    @classmethod
    def connect(
        cls,
        url: str,
        credential: Shown,
        *,
        timeout_s: float = 30.0,
        connect: Connect = socket.create_connection,
    ) -> SrmClient:
        """Return a client of the server that a SURL or an endpoint URL (``httpg://``) names.

        Args:
            url: of the server, or of anything on it.
            credential: what it is shown.
            timeout_s: for connecting, and again for an answer.
            connect: makes the TCP connection to (host, port) within so many seconds.

        Raises:
            InvalidRequest: the URL names no server.
        """
        base, path = endpoint_of(url)
        http = HttpClient(
            base, credential, timeout_s=timeout_s, unavailable=SourceUnavailable, connect=connect
        )
        return cls(http, path)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> SrmClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ping(self) -> ServerInfo:
        """Ask who is there."""
        return ServerInfo.read(self._call("srmPing", {}))

    def ls(
        self,
        surl: str,
        levels: int = 1,
        offset: int | None = None,
        count: int | None = None,
        *,
        detailed: bool = True,
    ) -> FileInfo:
        """Describe a name, and `levels` of what is below it; without details by name, type and size only.

        Raises:
            NotFound: there is no such name, or none that the caller may learn of.
            TooLarge: the directory has more entries than one answer may have; ask for parts.
        """
        fields = {
            "arrayOfSURLs": {"urlArray": [surl]},
            "fullDetailedList": detailed,
            "numOfLevels": levels,
            "offset": offset,
            "count": count,
        }
        answer = self._call("srmLs", fields)
        details = answer.find("{*}details/{*}pathDetailArray")
        if details is None:
            raise Status.read(answer.find("{*}returnStatus")).error()
        info = FileInfo.read(details)
        if not info.status.is_success:
            raise info.status.error()
        return info

    def entries(self, surl: str, page: int = 999, *, detailed: bool = True) -> Iterator[FileInfo]:
        """Yield the entries of a directory of any size, page by page; see `ls`."""
        offset = 0
        while True:
            children = self.ls(surl, offset=offset, count=page, detailed=detailed).children
            yield from children
            if len(children) < page:
                return
            offset += len(children)

    def prepare_to_get(
        self,
        surls: Sequence[str],
        protocols: Sequence[str] = ("https", "gsiftp"),
        *,
        total_s: int | None = None,
        pin_s: int | None = None,
        description: str | None = None,
    ) -> GetRequest:
        """Ask for files to be staged and pinned.

        Args:
            surls: the files.
            protocols: for the transfer, the preferred one first.
            total_s: for how long the server may try.
            pin_s: for how long a staged file is kept for us.
            description: to find the request again.
        """
        fields = {
            "arrayOfFileRequests": {"requestArray": [{"sourceSURL": surl} for surl in surls]},
            "userRequestDescription": description,
            "desiredTotalRequestTime": total_s,
            "desiredPinLifeTime": pin_s,
            "transferParameters": {"arrayOfTransferProtocols": {"stringArray": list(protocols)}},
        }
        return GetRequest.read(self._call("srmPrepareToGet", fields))

    def status(self, token: str, surls: Sequence[str] | None = None) -> GetRequest:
        """Ask how far a request is, or some of its files.

        Raises:
            InvalidRequest: no request has this token.
            NotAuthorised: it is somebody else's.
        """
        asked = {"urlArray": list(surls)} if surls else None
        answer = self._call("srmStatusOfGetRequest", {"requestToken": token, "arrayOfSourceSURLs": asked})
        return GetRequest.read(answer, token)

    def prepare_to_put(
        self,
        sizes: Mapping[str, int],
        protocols: Sequence[str] = ("https", "gsiftp"),
        *,
        overwrite: bool = False,
        total_s: int | None = None,
    ) -> GetRequest:
        """Ask for room for files; see `follow_put` and `put_done`.

        Args:
            sizes: bytes of each file by its SURL.
            protocols: schemes of TURLs that can be written to, the preferred one first.
            overwrite: whether files that are there may be replaced.
            total_s: how long the request may take; None leaves it to the server.
        """
        files = [{"targetSURL": surl, "expectedFileSize": size} for surl, size in sizes.items()]
        fields = {
            "arrayOfFileRequests": {"requestArray": files},
            "overwriteOption": "ALWAYS" if overwrite else "NEVER",
            "desiredTotalRequestTime": total_s,
            "transferParameters": {"arrayOfTransferProtocols": {"stringArray": list(protocols)}},
        }
        return GetRequest.read(self._call("srmPrepareToPut", fields))

    def put_status(self, token: str) -> GetRequest:
        """Ask how far a put is.

        Raises:
            InvalidRequest: no put has this token.
            NotAuthorised: it is somebody else's.
        """
        return GetRequest.read(self._call("srmStatusOfPutRequest", {"requestToken": token}), token)

    def put_done(self, token: str, surls: Sequence[str]) -> tuple[FileStatus, ...]:
        """Have what was written stored under its names; says of each whether it is.

        SRM_INTERNAL_ERROR of a file: the server needs more time for it; ask again, for all of them.

        Raises:
            MdmError: the server says nothing of any file, but why.
        """
        return self._changed("srmPutDone", {"requestToken": token, "arrayOfSURLs": {"urlArray": list(surls)}})

    def make_directory(self, surl: str) -> None:
        """Make a directory.

        Raises:
            AlreadyExists: there is one.
            MdmError: why there is none now.
        """
        Status.read(self._call("srmMkdir", {"SURL": surl}).find("{*}returnStatus")).check()

    def remove(self, surls: Sequence[str]) -> tuple[FileStatus, ...]:
        """Remove files; says of each whether it is gone.

        Raises:
            MdmError: the server says nothing of any file, but why.
        """
        return self._changed("srmRm", {"arrayOfSURLs": {"urlArray": list(surls)}})

    def wait(self, request: GetRequest, deadline_s: float, progress: Progress | None = None) -> GetRequest:
        """Poll until no file of the request waits any more; each file's status tells what became of it.

        Args:
            request: from `prepare_to_get` or `status`.
            deadline_s: seconds from now after which to give up; the request goes on at the server.
            progress: called with every answer.

        Raises:
            RequestExpired: the deadline has passed.
        """
        for latest in self.follow(request, deadline_s):
            request = latest
            if progress is not None:
                progress(latest)
        return request

    def follow(self, request: GetRequest, deadline_s: float) -> Iterator[GetRequest]:
        """Yield the request as it is told now, then after every poll, until no file of it waits.

        Raises:
            RequestExpired: the deadline has passed; the request goes on at the server.
        """
        return self._follow(request, deadline_s, self.status)

    def follow_put(self, request: GetRequest, deadline_s: float) -> Iterator[GetRequest]:
        """Yield a put until its files have their TURLs; as `follow`."""
        return self._follow(request, deadline_s, self.put_status)

    def _follow(
        self, request: GetRequest, deadline_s: float, ask: Callable[[str], GetRequest]
    ) -> Iterator[GetRequest]:
        since = self._clock.monotonic_s()
        yield request
        while request.waiting:
            waited_s = self._clock.monotonic_s() - since
            left_s = deadline_s - waited_s
            if left_s <= 0:
                raise RequestExpired(f"{len(request.waiting)} files were not ready in {deadline_s:.0f} s")
            self._clock.sleep(min(_pause_s(waited_s, request.done), left_s))
            request = ask(request.token)
            yield request

    def release(self, token: str | None = None, surls: Sequence[str] | None = None) -> tuple[FileStatus, ...]:
        """Give pins back: all of a request, some of it, or these SURLs in all our requests."""
        asked = {"urlArray": list(surls)} if surls else None
        return self._changed("srmReleaseFiles", {"requestToken": token, "arrayOfSURLs": asked})

    def abort(self, token: str) -> None:
        """Withdraw a request.

        Raises:
            InvalidRequest: no request has this token.
            NotAuthorised: it is somebody else's.
        """
        Status.read(self._call("srmAbortRequest", {"requestToken": token}).find("{*}returnStatus")).check()

    def _changed(self, operation: str, fields: Fields) -> tuple[FileStatus, ...]:
        """Call an operation that answers with a status for each SURL."""
        answer = self._call(operation, fields)
        statuses = answer.findall("{*}arrayOfFileStatuses/{*}statusArray")
        if not statuses:
            Status.read(answer.find("{*}returnStatus")).check()
        return tuple(FileStatus.read(status) for status in statuses)

    def _call(self, operation: str, fields: Fields) -> etree._Element:
        body = envelope(operation, fields)
        answer = self._http.request("POST", self._path, body, _HEADERS, repeatable=operation in _REPEATABLE)
        return response(operation, answer)


def _pause_s(waited_s: float, done: float) -> float:
    """Return how long to wait for the next poll: a part of the wait so far, and of what may be left."""
    pause_s = LATE * waited_s
    if 0 < done < 1:
        pause_s = min(pause_s, waited_s * (1 - done) / done / LOOKS_AHEAD)
    return min(max(pause_s, FIRST_POLL_S), LAST_POLL_S)


def endpoint_of(url: str) -> tuple[str, str]:
    """Return (base URL, path) of the endpoint that serves a SURL, or that an endpoint URL names.

    ``srm://host[:port]/path`` is served at ``/srm/managerv2``, ``srm://host:port/path?SFN=/x`` at its
    path; 8446 is the port where none is given.

    Raises:
        InvalidRequest: the URL names no server.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise InvalidRequest("not the URL of a server") from error
    if parts.scheme not in ("srm", "httpg", "https") or not parts.hostname:
        raise InvalidRequest("srm://host/path or httpg://host:port was expected")
    scheme = "httpg" if parts.scheme == "srm" else parts.scheme
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    names_endpoint = parts.scheme != "srm" or "SFN=" in parts.query.upper()
    path = parts.path if names_endpoint and parts.path not in ("", "/") else DEFAULT_PATH
    return f"{scheme}://{host}:{port}", path
