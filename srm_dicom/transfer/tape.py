"""The WLCG Tape REST API over the broker: a stage request is a bringOnline, as the SRM's are.

What one door accepts, the other can poll and release. A WSGI application that stands beside the WebDAV
door, on its port, for its callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote

import msgspec

from srm_dicom.broker.views import FileState, FileView, Listing, RequestKind, RequestView, Wish
from srm_dicom.errors import InvalidRequest, MdmError, NotFound, TooLarge
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import POLL, STAGE
from srm_dicom.ids import Surl, parse_guid, parse_path
from srm_dicom.rights.declare import requires
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.problems import Problem
from srm_dicom.wire.tape import (
    BASE,
    CALLS,
    MAX_BODY_BYTES,
    Discovery,
    Endpoint,
    FileInfo,
    FileProgress,
    Locality,
    Paths,
    Progress,
    Stage,
    Staging,
    State,
    call_of,
    read,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

STATES: Mapping[FileState, State] = {
    FileState.QUEUED: State.SUBMITTED,
    FileState.SUSPENDED: State.SUBMITTED,
    FileState.IN_PROGRESS: State.STARTED,
    FileState.PINNED: State.COMPLETED,
    FileState.RELEASED: State.COMPLETED,
    FileState.EXPIRED: State.COMPLETED,
    FileState.FAILED: State.FAILED,
    FileState.ABORTED: State.CANCELLED,
}
"""A file whose pin is over has been staged all the same: archiveinfo tells whether it is still there."""


class Broker(Protocol):
    """The part of `broker.broker.Broker` that this API calls; every method checks its own right."""

    def submit(self, principal: Principal, wish: Wish) -> RequestView:
        """Take a request in."""

    def status(
        self, principal: Principal, token: str, surls: Sequence[str] | None, kind: RequestKind | None = None
    ) -> RequestView:
        """Tell of a request, or of some of its files."""

    def release(
        self, principal: Principal, token: str | None, surls: Sequence[str] | None
    ) -> tuple[FileView, ...]:
        """Give pins back."""

    def abort_files(self, principal: Principal, token: str, surls: Sequence[str]) -> tuple[FileView, ...]:
        """End files of a request."""

    def forget(self, principal: Principal, token: str) -> None:
        """End a request and drop it."""

    def cover(self, principal: Principal, surls: Sequence[str], operation: str, scope: str) -> None:
        """Refuse what a token does not leave."""

    def entries(
        self, principal: Principal, surls: Sequence[str], operation: str, scope: str
    ) -> list[Listing]:
        """Tell of names."""


@dataclass(frozen=True, slots=True)
class TapeSettings:
    """What discovery tells, and a bound.

    Attributes:
        site: the identifier of this site in `targetedMetadata`.
        url: ``https://host:port`` of the door.
        max_files: that one archiveinfo answers for; what is beyond is left out, as the API has it.
    """

    site: str
    url: str
    max_files: int = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """What a call is given."""

    principal: Principal
    id: str
    body: IO[bytes]

    def read(self) -> bytes:
        """Return the body.

        Raises:
            TooLarge: it exceeds the bound.
        """
        content = self.body.read(MAX_BODY_BYTES + 1)
        if len(content) > MAX_BODY_BYTES:
            raise TooLarge(f"a request has at most {MAX_BODY_BYTES} bytes")
        return content


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call answers."""

    message: object = None
    status: HTTPStatus = HTTPStatus.OK
    location: str = ""


class TapeApi:
    """The WSGI application; `handlers` has one method for each call of `wire.tape`."""

    def __init__(self, broker: Broker, settings: TapeSettings) -> None:
        self._broker = broker
        self._settings = settings
        self._names = _Names(settings.url)
        self.handlers: Mapping[str, Callable[[Request], Answer]] = {
            "discover": self.discover,
            "stage": self.stage,
            "poll": self.poll,
            "cancel": self.cancel,
            "delete": self.delete,
            "release": self.release,
            "archiveinfo": self.archiveinfo,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        found = call_of(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        try:
            if found is None:
                raise NotFound("the Tape REST API has no such call")
            call, token = found
            request = Request(environ[PRINCIPAL], token, environ["wsgi.input"])
            answer = self.handlers[call.name](request)
        except MdmError as error:
            return Problem.of(error).answer(start_response)
        body = b"" if answer.message is None else msgspec.json.encode(answer.message)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if answer.location:
            headers.append(("Location", answer.location))
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return [body]

    @requires(CALLS["discover"].right)
    def discover(self, request: Request) -> Answer:  # noqa: ARG002 - one answer for everybody
        """Tell where the API is."""
        endpoint = Endpoint(self._settings.url + BASE, "v1")
        return Answer(Discovery(self._settings.site, "Stages files out of a PACS", (endpoint,)))

    @requires(CALLS["stage"].right)
    def stage(self, request: Request) -> Answer:
        """Ask for files on disk; what is wrong with one of them is told by poll.

        Raises:
            InvalidRequest, TooLarge: see `broker.broker.Broker.submit`.
            NotAuthorised: the caller's token is not for staging.
        """
        wanted = read(request.read(), Stage)
        surls = self._names.surls(tuple(dict.fromkeys(file.path for file in wanted.files)))
        self._broker.cover(request.principal, surls, "stage", STAGE)
        wish = Wish(RequestKind.BRING_ONLINE, surls, pin_s=wanted.lifetime_s)
        token = self._broker.submit(request.principal, wish).token
        location = f"{self._settings.url}{BASE}/stage/{token}"
        return Answer(Staging(token), HTTPStatus.CREATED, location)

    @requires(CALLS["poll"].right)
    def poll(self, request: Request) -> Answer:
        """Tell how far the files of a request are.

        Raises:
            RequestUnknown: the caller has no such request.
            NotAuthorised: the caller's token does not cover all of it.
        """
        view = self._viewed(request, "poll", POLL)
        created = _seconds(view.created_at)
        files = tuple(self._progress(file) for file in view.files)
        return Answer(Progress(view.token, created, created, files))

    @requires(CALLS["cancel"].right)
    def cancel(self, request: Request) -> Answer:
        """Withdraw files of a request, all that are named or none.

        Raises:
            RequestUnknown: the caller has no such request.
            InvalidRequest: a file is not in the request.
            NotAuthorised: the caller's token is not for staging what is named.
        """
        paths = read(request.read(), Paths).paths
        self._broker.cover(request.principal, self._names.surls(paths), "cancel", STAGE)
        view = self._broker.status(request.principal, request.id, None, RequestKind.BRING_ONLINE)
        there = {_normal(self._names.path(file.surl)) for file in view.files}
        missing = sum(_normal(path) not in there for path in paths)
        if missing:
            raise InvalidRequest(f"{missing} of the files are not in this request; nothing has changed")
        self._broker.abort_files(request.principal, request.id, self._names.surls(paths))
        return Answer()

    @requires(CALLS["delete"].right)
    def delete(self, request: Request) -> Answer:
        """Withdraw a request and forget it.

        Raises:
            RequestUnknown: the caller has no such request.
            NotAuthorised: the caller's token is not for staging all of it.
        """
        self._viewed(request, "delete", STAGE)
        self._broker.forget(request.principal, request.id)
        return Answer()

    @requires(CALLS["release"].right)
    def release(self, request: Request) -> Answer:
        """Give up what was staged; naming a file that is not held is no error.

        Raises:
            RequestUnknown: the caller has no such request.
            NotAuthorised: the caller's token is not for staging what is named.
        """
        surls = self._names.surls(read(request.read(), Paths).paths)
        self._broker.cover(request.principal, surls, "release", STAGE)
        self._broker.release(request.principal, request.id if _is_token(request.id) else None, surls)
        return Answer()

    @requires(CALLS["archiveinfo"].right)
    def archiveinfo(self, request: Request) -> Answer:
        """Tell where the bytes of files are."""
        surls = self._names.surls(read(request.read(), Paths).paths[: self._settings.max_files])
        listings = self._broker.entries(request.principal, surls, "archiveinfo", POLL)
        return Answer([self._info(listing) for listing in listings])

    def _viewed(self, request: Request, operation: str, permission: str) -> RequestView:
        """Return a request whose files a token leaves a permission on, each of them."""
        view = self._broker.status(request.principal, request.id, None, RequestKind.BRING_ONLINE)
        self._broker.cover(request.principal, [file.surl for file in view.files], operation, permission)
        return view

    def _progress(self, file: FileView) -> FileProgress:
        error = file.failure.message if file.failure else None
        return FileProgress(self._names.path(file.surl), STATES[file.state], error)

    def _info(self, listing: Listing) -> FileInfo:
        path = self._names.path(listing.text)
        if listing.entry is None:
            return FileInfo(path, error=listing.failure.message if listing.failure else "no such file")
        if listing.entry.is_directory:
            return FileInfo(path, error="this is a directory")
        return FileInfo(path, Locality.DISK_AND_TAPE if listing.online else Locality.TAPE)


class _Names:
    """Paths as SURLs and back: answers have a path as the caller wrote it, for clients match by it."""

    def __init__(self, url: str) -> None:
        self._prefix = "srm:" + url.partition(":")[2]

    def surls(self, paths: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._prefix + quote(_absolute(path)) for path in paths)

    def path(self, surl: str) -> str:
        """Return the path of a SURL; of one that came by the SRM, the normalised one."""
        if surl.startswith(self._prefix):
            return unquote(surl.removeprefix(self._prefix))
        try:
            return Surl.parse(surl).path
        except InvalidRequest:
            return surl


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _normal(path: str) -> str:
    try:
        return parse_path(path)
    except InvalidRequest:
        return _absolute(path)


def _is_token(text: str) -> bool:
    try:
        parse_guid(text)
    except InvalidRequest:
        return False
    return True


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
