"""What the SRM edge and the user's requests need: submit, status, release, extend, abort, list.

The front calls this; it is the outer zone. It writes rows and reads rows, and never waits for a
source: a stager (`broker.stager`) comes for the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.admission import BrokerSettings, accept, bound_files, bounded, file_to_get
from srm_dicom.broker.areas import Areas
from srm_dicom.broker.copies import Copies
from srm_dicom.broker.listings import Listings, is_staged
from srm_dicom.broker.names import Names
from srm_dicom.broker.numbers import Numbers
from srm_dicom.broker.owned import Owned
from srm_dicom.broker.passing import apply_time
from srm_dicom.broker.puts import Puts
from srm_dicom.broker.soon import MOST_FILES, Soon
from srm_dicom.broker.spaces import SpaceAccounts
from srm_dicom.broker.states import ACTIVE, PUTTING, Event, after, before
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.verdicts import Verdict
from srm_dicom.broker.viewing import Viewer, told_counts
from srm_dicom.broker.views import (
    FileState,
    FileView,
    Listing,
    RequestKind,
    RequestSummary,
    RequestView,
    Wish,
)
from srm_dicom.clock import Clock
from srm_dicom.db.news import Topic
from srm_dicom.errors import (
    InvalidRequest,
    MdmError,
    NotFound,
    NotSupported,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import READ, SEE, STAGE
from srm_dicom.ids import Guid, Surl, Token
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores

__all__ = ["Broker", "BrokerSettings"]

_ASKED = {
    RequestKind.GET: ("srmPrepareToGet", READ),
    RequestKind.BRING_ONLINE: ("srmBringOnline", STAGE),
}
"""What the audit calls a request, and what a token has to leave for it."""


class Broker:
    """Requests of callers over the rows of the store."""

    def __init__(
        self,
        settings: BrokerSettings,
        stores: Stores,
        access: FileAccess,
        clock: Clock,
        areas: Areas | None = None,
    ) -> None:
        areas = areas or Areas()
        self.surls = OwnSurls(settings.host, settings.aliases)
        self.spaces = SpaceAccounts(stores, access, settings.spaces, clock, self.surls, settings.max_tokens)
        self.puts = Puts(settings, stores, access, areas, self.spaces, self.surls, clock)
        self.copies = Copies(settings, stores, access, areas, self.puts, self.surls, clock)
        self.names = Names(stores, access, areas, clock)
        self._settings = settings
        self._viewer = Viewer(settings.nodes, stores.staged, stores.uploads, settings.poll_s)
        self._listings = Listings(self.surls, access, stores)
        self._stores = stores
        self._database = stores.database
        self._access = access
        self._requests = stores.requests
        self._owned = Owned(stores.requests, self.surls)
        self.numbers = Numbers(stores.requests, self._owned)
        self._soon = Soon(stores.database, stores.requests, clock, settings.hold_s)
        self._staged = stores.staged
        self._clock = clock

    def protocols(self) -> tuple[str, ...]:
        """Return the transfer protocols of this site, the preferred one first."""
        return self._settings.protocols

    def submit(self, principal: Principal, wish: Wish) -> RequestView:
        """Accept a prepareToGet or bringOnline; what is staged already is pinned at once.

        Raises:
            InvalidRequest: no file, or a negative time.
            TooLarge: more files than one request may have.
            NotSupported: none of the caller's transfer protocols is spoken here.
        """
        request = accept(self._settings, wish, principal.dn, self._clock.now())
        surls = [self.surls.parse(text) for text in wish.surls]
        known = [surl.path for surl in surls if isinstance(surl, Surl)]
        operation, scope = _ASKED[wish.kind]
        view: RequestView | None = None
        try:
            with self._access.deciding(principal, known, operation, scope) as verdicts:
                decided = iter(self._listings.busy(principal, verdicts))
                answers = [next(decided) if isinstance(surl, Surl) else surl for surl in surls]
                view = self._taken_in(request, wish.surls, answers)
        except MdmError:
            if view is not None:  # nothing is done that the audit does not have
                self._requests.remove(request.token)
            raise
        return self._held(request, view)

    def cover(self, principal: Principal, surls: Sequence[str], operation: str, scope: str) -> None:
        """Refuse what the caller's token does not leave; a SURL that names nothing is no matter of scopes.

        Raises:
            NotAuthorised: see `FileAccess.cover`.
        """
        known = [surl.path for surl in map(self.surls.parse, surls) if isinstance(surl, Surl)]
        self._access.cover(principal, known, operation, scope)

    def status(
        self,
        principal: Principal,
        token: str,
        surls: Sequence[str] | None,
        kind: RequestKind | None = None,
    ) -> RequestView:
        """Return a request as it is now, and of its files those asked for, in that order.

        Raises:
            RequestUnknown: no request (of this kind, if one is given) has this token.
            NotAuthorised: it is somebody else's.
        """
        request = self._owned.request(principal, token, *((kind,) if kind else ()))
        self.apply_time()
        files = self._owned.files(request, surls)
        whole = tuple(file.state for file in files) if surls is None else self._requests.states(request.token)
        return self._viewer.view(request, files, whole, self._clock.now())

    def release(
        self, principal: Principal, token: str | None, surls: Sequence[str] | None
    ) -> tuple[FileView, ...]:
        """Release files of a request, of all the caller's requests, or a whole request.

        Raises:
            InvalidRequest: neither a token nor a SURL.
            RequestUnknown, NotAuthorised: as for `status`.
        """
        if token is not None:
            request = self._owned.request(principal, token, RequestKind.GET, RequestKind.BRING_ONLINE)
            return tuple(self._end(self._owned.files(request, surls), Event.RELEASE))
        if surls:
            return tuple(self._release_everywhere(principal, surls))
        raise InvalidRequest("a request token or SURLs are needed")

    def abort(self, principal: Principal, token: str) -> RequestView:
        """Withdraw a request; its files that have not ended are aborted.

        Raises:
            RequestUnknown, NotAuthorised: as for `status`.
        """
        self._end(self._owned.files(self._owned.request(principal, token), None), Event.ABORT)
        return self.status(principal, token, None)

    def abort_files(self, principal: Principal, token: str, surls: Sequence[str]) -> tuple[FileView, ...]:
        """Withdraw files of a request; one that has ended stays as it is.

        Raises:
            RequestUnknown, NotAuthorised: as for `status`.
        """
        files = self._owned.files(self._owned.request(principal, token), surls)
        views = self._end(files, Event.ABORT)
        # Whatever became of a file before, nobody waits for it now: only one of another request has failed.
        return tuple(
            replace(view, failure=None) if file.id else view for file, view in zip(files, views, strict=True)
        )

    def suspend(self, principal: Principal, token: str) -> None:
        """Let what waits of a request wait until it is resumed; its time runs on.

        Raises:
            RequestUnknown, NotAuthorised: as for `status`.
            NotSupported: it writes.
            InvalidRequest: nothing of it waits.
        """
        self._change(principal, token, Event.SUSPEND, "nothing of this request waits to be staged")

    def resume(self, principal: Principal, token: str) -> None:
        """Queue what was suspended of a request; what others have had staged meanwhile is pinned at once.

        Raises:
            RequestUnknown, NotAuthorised: as for `status`.
            NotSupported: it writes.
            InvalidRequest: nothing of it is suspended.
        """
        with self._database.transaction():
            self._change(principal, token, Event.RESUME, "nothing of this request is suspended")
            files = self._requests.files(Token(token))
            guids = [row.guid for file in files for row in file.rows if row.guid]
            entries, staged = self._stores.namespace.find_guids(guids), self._staged.find(guids)
            there = [guid for guid, entry in entries.items() if is_staged(entry, staged)]
            pinned = after(FileState.QUEUED, Event.PUBLISH)
            self._requests.pin(there, before(Event.PUBLISH), pinned, self._clock.now())
        self._database.tell(Topic.WORK)

    def _change(self, principal: Principal, token: str, event: Event, otherwise: str) -> None:
        request = self._owned.request(principal, token)
        if request.kind not in _ASKED:
            raise NotSupported("only requests to read can wait")
        rows = [row.id for file in self._owned.files(request, None) for row in file.rows]
        (source,) = before(event)
        if not self._requests.move(rows, [source], after(source, event)):
            raise InvalidRequest(otherwise)

    def forget(self, principal: Principal, token: str) -> None:
        """Withdraw a request and drop it: nobody can ask for it again.

        Raises:
            RequestUnknown, NotAuthorised: as for `status`.
        """
        request = self._owned.request(principal, token)
        self._end(self._owned.files(request, None), Event.ABORT)
        self._requests.remove(request.token)

    def extend(
        self, principal: Principal, token: str, surls: Sequence[str], pin_s: int
    ) -> tuple[FileView, ...]:
        """Let files of a request be pinned for `pin_s` from now, within the site's bound; never for less.

        Raises:
            RequestUnknown, NotAuthorised: as for `status`.
        """
        request = self._owned.request(principal, token)
        self.apply_time()
        now = self._clock.now()
        pin_s = bounded(pin_s, self._settings.default_pin_s, self._settings.max_pin_s)
        rows = [row for file in self._owned.files(request, surls) for row in file.rows if row.id]
        ids = [row.id for row in rows]
        self._requests.extend(ids, pin_s, now, waiting=before(Event.FAIL), held=before(Event.EXPIRE))
        puts = [row.id for row in rows if row.state in before(Event.TIME_OUT)]
        self._requests.prolong(puts, now + timedelta(seconds=pin_s))
        return self._viewer.view(request, self._owned.files(request, surls), (), now).files

    def tokens(self, principal: Principal, description: str | None) -> list[Request]:
        """Return the caller's newest requests; those of one description, to the letter, if it is given."""
        return self._requests.of_owner(principal.dn, description, self._settings.max_tokens)

    def summaries(self, principal: Principal, tokens: Sequence[str]) -> list[RequestSummary | None]:
        """Return requests by their numbers, in the order asked; None for what is no request of the caller.

        Raises:
            TooLarge: more tokens than are answered at once.
        """
        if len(tokens) > self._settings.max_tokens:
            raise TooLarge(f"at most {self._settings.max_tokens} requests are summed up at once")
        self.apply_time()
        found = self._requests.find_many(principal.dn, tokens)
        counts = self._requests.state_counts([request.token for request in found.values()])
        summaries = {
            token: RequestSummary(
                request.token,
                request.kind,
                request.created_at,
                told_counts(request.kind, counts[request.token]),
            )
            for token, request in found.items()
        }
        return [summaries.get(token) for token in tokens]

    def entries(
        self, principal: Principal, surls: Sequence[str], operation: str, scope: str = SEE
    ) -> list[Listing]:
        """Tell of names, in their order, and of nothing below them; of `scope` see `FileAccess.seen`."""
        return self._listings.entries(principal, surls, operation, scope)

    def listing(
        self, principal: Principal, surl: str, levels: int, offset: int, count: int | None
    ) -> Listing:
        """List a name and `levels` of what is below it; `offset` and `count` cut the first level."""
        return self._listings.listing(principal, surl, levels, offset, count)

    def apply_time(self) -> None:
        """Fail what is overdue and end pins that are over, whether or not a stager lives."""
        apply_time(self._stores, self._clock.now())

    # --- submit ----------------------------------------------------------------------------------

    def _taken_in(
        self, request: Request, surls: Sequence[str], answers: Sequence[Verdict | NotFound]
    ) -> RequestView:
        """Write a request down, and return how it looks.

        Raises:
            TooLarge: it has more files than a request may have.
        """
        entries = [v.entry for v in answers if isinstance(v, Verdict) and v.entry]
        guids = [file.guid for entry in entries for file in entry.files if file.guid]
        bound_files(self._settings, len(guids))
        with self._database.transaction(lasting=False):  # who lost it asks again
            staged = self._staged.find(guids)
            files = [
                self._new_file(request, surl, answer, staged)
                for surl, answer in zip(surls, answers, strict=True)
            ]
            self._requests.add(request, files)
        states = tuple(file.state for file in files)
        if FileState.QUEUED in states:
            self._database.tell(Topic.WORK)
        return self._viewer.view(request, files, states, self._clock.now(), staged)

    def _held(self, request: Request, view: RequestView) -> RequestView:
        """Return how a request looks after a moment in which its few files may have come."""
        is_worth_it = len(view.files) <= MOST_FILES and any(state in ACTIVE for state in view.states)
        if not is_worth_it or not self._soon.wait(request.token):
            return view
        files = self._requests.files(request.token)
        states = tuple(file.state for file in files)
        return self._viewer.view(request, files, states, self._clock.now())

    def _new_file(
        self, request: Request, surl: str, answer: Verdict | NotFound, staged: Mapping[Guid, Staged]
    ) -> RequestFile:
        if isinstance(answer, NotFound):
            return RequestFile(surl, None, None, FileState.FAILED, answer)
        entry = answer.entry
        if entry is None or entry.is_directory:
            return RequestFile(surl, answer.path, None, FileState.FAILED, answer.error)
        return file_to_get(request, surl, entry.path, entry, staged, self._clock.now())

    # --- files of requests ---------------------------------------------------------------------

    def _release_everywhere(self, principal: Principal, surls: Sequence[str]) -> list[FileView]:
        """Release files in every request of the caller; one view for each SURL."""
        parsed = [self.surls.parse(text) for text in surls]
        paths = [surl.path for surl in parsed if isinstance(surl, Surl)]
        rows = self._requests.files_of_owner(principal.dn, paths)
        held = [row for row in rows if row.state in before(Event.RELEASE)]
        self._end(held, Event.RELEASE)
        done = {row.path for row in held}
        unknown = NotFound("you have no request for this file")
        return [
            FileView(text, FileState.RELEASED)
            if isinstance(surl, Surl) and surl.path in done
            else FileView(text, FileState.FAILED, unknown if isinstance(surl, Surl) else surl)
            for text, surl in zip(surls, parsed, strict=True)
        ]

    def _end(self, files: Sequence[RequestFile], event: Event) -> list[FileView]:
        """Let `event` happen to the files that it can happen to, and tell of all."""
        target = after(FileState.PINNED, event)
        rows = [row for file in files for row in file.rows if row.id and row.state in before(event)]
        with self._database.transaction(lasting=event is not Event.RELEASE):
            self._requests.move([row.id for row in rows], before(event), target)
            for row in rows:
                if row.path is not None and row.state in PUTTING:
                    self._stores.uploads.end(row.token, [row.path])
        # What a source said of a file that waits is no failure.
        return [
            FileView(file.surl, target)
            if file.state in before(event)
            else FileView(file.surl, file.state, file.failure if file.state is FileState.FAILED else None)
            for file in files
        ]
