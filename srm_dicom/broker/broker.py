"""What the SRM edge and the user's requests need: submit, status, release, abort, list.

The front calls this; it is the outer zone. It writes rows and reads rows, and never waits for a
source: a stager (`broker.stager`) comes for the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from srm_dicom.broker.access import FileAccess, Verdict
from srm_dicom.broker.states import ACTIVE, Event, after, before
from srm_dicom.broker.views import FileState, FileView, Listing, RequestKind, RequestView, Wish
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    IntegrityError,
    InvalidRequest,
    MdmError,
    NotAuthorised,
    NotFound,
    NotSupported,
    RequestUnknown,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, Surl, new_token
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Bounds and addresses.

    Attributes:
        nodes: node name to (protocol to base URL, such as ``gsiftp://node:2811``), in the site's
            order of preference.
        host: what SURLs of this site have for a host.
    """

    host: str
    nodes: Mapping[str, Mapping[str, str]]
    max_files: int = 10_000
    max_total_s: int = 24 * 3600
    default_total_s: int = 3600
    max_pin_s: int = 7 * 24 * 3600
    default_pin_s: int = 12 * 3600
    poll_s: int = 2


class Broker:
    """Requests of callers over the rows of the store."""

    def __init__(
        self,
        settings: BrokerSettings,
        stores: Stores,
        access: FileAccess,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._database = stores.database
        self._access = access
        self._requests = stores.requests
        self._staged = stores.staged
        self._clock = clock

    def protocols(self) -> tuple[str, ...]:
        """Return the transfer protocols of this site, the preferred one first."""
        return tuple(dict.fromkeys(protocol for node in self._settings.nodes.values() for protocol in node))

    def submit(self, principal: Principal, wish: Wish) -> RequestView:
        """Accept a prepareToGet or bringOnline; what is staged already is pinned at once.

        Raises:
            InvalidRequest: no file, or a negative time.
            TooLarge: more files than one request may have.
            NotSupported: none of the caller's transfer protocols is spoken here.
        """
        request = self._request(principal, wish)
        surls = [_parse(text) for text in wish.surls]
        known = [surl.path for surl in surls if isinstance(surl, Surl)]
        operation = "srmPrepareToGet" if wish.kind is RequestKind.GET else "srmBringOnline"
        verdicts = iter(self._access.files(principal, known, operation))
        answers = [next(verdicts) if isinstance(surl, Surl) else surl for surl in surls]
        guids = [v.entry.guid for v in answers if isinstance(v, Verdict) and v.entry and v.entry.guid]
        with self._database.transaction():
            staged = self._staged.find(guids)
            files = [
                self._new_file(request, text, answer, staged)
                for text, answer in zip(wish.surls, answers, strict=True)
            ]
            self._requests.add(request, files)
        return self._view(request, files, files)

    def status(self, principal: Principal, token: str, surls: Sequence[str] | None) -> RequestView:
        """Return a request as it is now, and of its files those asked for, in that order.

        Raises:
            RequestUnknown: no request of this caller has this token.
        """
        request = self._own(principal, token)
        self.apply_time()
        files = self._requests.files(request.token)
        return self._view(request, _chosen(files, surls), files)

    def release(
        self, principal: Principal, token: str | None, surls: Sequence[str] | None
    ) -> tuple[FileView, ...]:
        """Release files of a request, of all the caller's requests, or a whole request.

        Raises:
            InvalidRequest: neither a token nor a SURL.
            RequestUnknown: as for `status`.
        """
        if token is not None:
            request = self._own(principal, token)
            files = _chosen(self._requests.files(request.token), surls)
        elif surls:
            files = self._files_of(principal, surls)
        else:
            raise InvalidRequest("a request token or SURLs are needed")
        return tuple(self._end(files, Event.RELEASE))

    def abort(self, principal: Principal, token: str) -> RequestView:
        """Withdraw a request; its files that have not ended are aborted.

        Raises:
            RequestUnknown: as for `status`.
        """
        request = self._own(principal, token)
        files = self._requests.files(request.token)
        self._end([file for file in files if file.state in before(Event.ABORT)], Event.ABORT)
        return self.status(principal, token, None)

    def listing(
        self, principal: Principal, surl: str, levels: int, offset: int, count: int | None
    ) -> Listing:
        """List a name and `levels` of what is below it; `offset` and `count` cut the first level."""
        parsed = _parse(surl)
        if isinstance(parsed, RequestFile):
            return Listing(surl, None, None, parsed.failure)
        try:
            entry = self._access.visible(principal, parsed.path, "srmLs")
        except MdmError as error:
            return Listing(parsed, parsed.path, None, error)
        top = self._listed(parsed, entry)
        if not entry.is_directory or levels < 1:
            return top
        return self._below(principal, top, levels, offset, count)

    def apply_time(self) -> None:
        """Fail what is overdue and end pins that are over, whether or not a stager lives."""
        now = self._clock.now()
        self._requests.fail_overdue(before(Event.FAIL), FileState.FAILED, now)
        self._requests.expire_pins(before(Event.EXPIRE), FileState.EXPIRED, now)

    # --- submit ----------------------------------------------------------------------------------

    def _request(self, principal: Principal, wish: Wish) -> Request:
        settings = self._settings
        if not wish.surls:
            raise InvalidRequest("no file was asked for")
        if len(wish.surls) > settings.max_files:
            raise TooLarge(f"a request has at most {settings.max_files} files")
        now = self._clock.now()
        total_s = _bounded(wish.total_s, settings.default_total_s, settings.max_total_s)
        return Request(
            token=new_token(),
            kind=wish.kind,
            owner=principal.dn,
            protocol=self._protocol(wish),
            created_at=now,
            deadline_at=now + timedelta(seconds=total_s),
            pin_s=_bounded(wish.pin_s, settings.default_pin_s, settings.max_pin_s),
            description=wish.description,
        )

    def _protocol(self, wish: Wish) -> str:
        spoken = self.protocols()
        if wish.kind is RequestKind.BRING_ONLINE or not wish.protocols:
            return spoken[0]
        for protocol in wish.protocols:
            if protocol.lower() in spoken:
                return protocol.lower()
        raise NotSupported(
            "none of the requested transfer protocols is spoken here",
            advice=f"Use one of {', '.join(spoken)}.",
        )

    def _new_file(
        self, request: Request, surl: str, answer: Verdict | RequestFile, staged: Mapping[Guid, Staged]
    ) -> RequestFile:
        if isinstance(answer, RequestFile):
            return answer
        entry = answer.entry
        if entry is None or entry.guid is None:
            return RequestFile(surl, answer.path, None, FileState.FAILED, answer.error)
        fresh = RequestFile(surl, entry.path, entry.guid, FileState.QUEUED, pin_s=request.pin_s)
        if entry.guid in staged and staged[entry.guid].generation == entry.generation:
            until = self._clock.now() + timedelta(seconds=request.pin_s)
            return replace(fresh, state=after(FileState.QUEUED, Event.PUBLISH), pin_until=until)
        return fresh

    # --- status ----------------------------------------------------------------------------------

    def _own(self, principal: Principal, token: str) -> Request:
        request = self._requests.find(token)
        if request is None or request.owner != principal.dn:
            raise RequestUnknown("you have no request with this token")
        return request

    def _view(
        self, request: Request, files: Sequence[RequestFile], all_files: Sequence[RequestFile]
    ) -> RequestView:
        now = self._clock.now()
        guids = [file.guid for file in files if file.guid is not None]
        staged = self._staged.find(guids)
        return RequestView(
            token=request.token,
            kind=request.kind,
            files=tuple(self._file_view(request, file, staged, now) for file in files),
            states=tuple(file.state for file in all_files),
            remaining_s=max(0, int((request.deadline_at - now).total_seconds())),
        )

    def _file_view(
        self, request: Request, file: RequestFile, staged: Mapping[Guid, Staged], now: datetime
    ) -> FileView:
        if file.state in ACTIVE:
            return FileView(file.surl, file.state, explanation=file.explanation, wait_s=self._settings.poll_s)
        if file.state is not FileState.PINNED or file.path is None or file.guid is None:
            failure = file.failure if file.state is FileState.FAILED else None
            return FileView(file.surl, file.state, failure, file.explanation)
        there = staged.get(file.guid)
        left_s = int((file.pin_until - now).total_seconds()) if file.pin_until else 0
        return FileView(
            surl=file.surl,
            state=file.state,
            size_bytes=there.size_bytes if there else None,
            turl=self._turl(request, file.path, there) if there else None,
            pin_left_s=max(0, left_s),
        )

    def _turl(self, request: Request, path: SitePath, staged: Staged) -> str | None:
        if request.kind is not RequestKind.GET:
            return None
        base = self._settings.nodes.get(staged.node, {}).get(request.protocol)
        if base is None:
            raise IntegrityError("a staged file is on a node that this site does not name")
        return f"{base}{path}"

    # --- release and abort -----------------------------------------------------------------------

    def _files_of(self, principal: Principal, surls: Sequence[str]) -> list[RequestFile]:
        found: list[RequestFile] = []
        for text in surls:
            surl = _parse(text)
            path = surl.path if isinstance(surl, Surl) else None
            rows = self._requests.files_of_owner(principal.dn, [path]) if path else []
            live = [row for row in rows if row.state in before(Event.RELEASE)]
            unknown = NotFound("you have no request for this file")
            found += live or [RequestFile(text, path, None, FileState.FAILED, unknown)]
        return found

    def _end(self, files: Sequence[RequestFile], event: Event) -> list[FileView]:
        """Let `event` happen to the files that it can happen to, and tell of all."""
        target = after(FileState.PINNED, event)
        self._requests.move([file.id for file in files if file.id], before(event), target)
        return [
            FileView(file.surl, target if file.state in before(event) else file.state, file.failure)
            for file in files
        ]

    # --- listing ---------------------------------------------------------------------------------

    def _below(
        self, principal: Principal, top: Listing, levels: int, offset: int, count: int | None
    ) -> Listing:
        if top.entry is None:
            return top
        entries = self._access.children(principal, top.entry)
        chosen = entries[offset : None if count is None else offset + count]
        online = self._staged.find([entry.guid for entry in chosen if entry.guid])
        children = []
        for entry in chosen:
            child = self._child(principal, entry, online)
            deeper = levels > 1 and child.entry is not None and entry.is_directory
            children.append(self._below(principal, child, levels - 1, 0, None) if deeper else child)
        more = len(entries) > offset + len(chosen)
        return replace(top, children=tuple(children), more=more)

    def _child(self, principal: Principal, entry: Entry, online: Mapping[Guid, Staged]) -> Listing:
        surl = Surl(f"srm://{self._settings.host}{entry.path}", entry.path)
        if not self._access.may_see(principal, entry):
            return Listing(surl, entry.path, None, NotAuthorised("the file right is missing"))
        return Listing(surl, entry.path, entry, online=entry.guid in online)

    def _listed(self, surl: Surl, entry: Entry) -> Listing:
        online = entry.guid is not None and bool(self._staged.find([entry.guid]))
        return Listing(surl, entry.path, entry, online=online)


def _parse(text: str) -> Surl | RequestFile:
    """Read a SURL; one that names nothing is a file that has failed already."""
    try:
        return Surl.parse(text)
    except InvalidRequest as error:
        return RequestFile(text, None, None, FileState.FAILED, NotFound(error.message))


def _chosen(files: Sequence[RequestFile], surls: Sequence[str] | None) -> list[RequestFile]:
    if surls is None:
        return list(files)
    by_surl = {file.surl: file for file in files}
    by_path = {file.path: file for file in files if file.path}
    chosen = []
    for text in surls:
        surl = _parse(text)
        found = by_surl.get(text) or (by_path.get(surl.path) if isinstance(surl, Surl) else None)
        missing = NotFound("this file is not in the request")
        chosen.append(found or RequestFile(text, None, None, FileState.FAILED, missing))
    return [replace(file, surl=text) for file, text in zip(chosen, surls, strict=True)]


def _bounded(wanted: int | None, default: int, maximum: int) -> int:
    """Return the caller's time within the site's bound; nothing or 0 asks for the default."""
    if wanted is not None and wanted < 0:
        raise InvalidRequest("a time must not be negative")
    return min(wanted or default, maximum)
