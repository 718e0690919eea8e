"""srmCopy: copies of files within this site, to other servers and from them.

A copy within an area is a put whose bytes a plugin stages. One from another server is a put whose bytes
come from there, one to another server a get whose bytes go there. These two are errands for a `Carrier`:
it shows the other server the credential that the caller has delegated, which is in the memory of one
process. When that process ends, so do its errands. A copy of a registered file is one, too: what is copied
is the sealed file that everybody gets, read and written with the caller's own rights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Protocol

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.admission import BrokerSettings, accept, bound_files, file_to_get
from srm_dicom.broker.areas import UPLOADS, Areas
from srm_dicom.broker.passing import apply_time
from srm_dicom.broker.puts import STORE_WITHIN, Line, Puts
from srm_dicom.broker.states import PINNED, SPACE_AVAILABLE, Event, after, before
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.verdicts import Verdict
from srm_dicom.broker.viewing import Viewer
from srm_dicom.broker.views import FileState, PutWish, RequestView
from srm_dicom.clock import Clock
from srm_dicom.db.news import Topic
from srm_dicom.errors import MdmError, NotAuthenticated, NotFound, NotSupported
from srm_dicom.identity.delegation import GONE, DelegatedCredential
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, Surl, Token, join
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.stores import Stores


class Way(Enum):
    """Which way the bytes of an errand go."""

    FETCH = "from the other server to here"
    WITHIN = "from a name here that an archive is behind to another"
    SEND = "from here to the other server"


class Standing(Enum):
    """What is to be done about an errand now."""

    WAIT = "the file is not staged yet"
    GO = "it can be done"
    END = "nobody waits for it any more"


@dataclass(frozen=True, slots=True)
class Errand:
    """A file that is to be moved between this site and another server.

    Attributes:
        principal: for whom, with the rights of the session that asked.
        credential: to show to the other side; none where that is here.
        url: of the other side: srm, gsiftp, https or davs; of a file here its SURL.
        path: here: where the doors take the bytes, or the name of the file that is sent.
        overwrite: whether a file at the other side may be replaced.
        position: of the file in its request.
        rows: of the file in the queue.
    """

    principal: Principal
    credential: DelegatedCredential | None
    way: Way
    url: str
    path: SitePath
    overwrite: bool
    token: Token
    position: int
    rows: tuple[int, ...]
    deadline_at: datetime


class Carrier(Protocol):
    """What moves bytes between this site and others; it calls `Copies` back when it is done."""

    @property
    def name(self) -> str:
        """Unique among all carriers of the site, the same after a restart."""

    def check(self, principal: Principal, url: str) -> None:
        """Refuse another side that can never do.

        Raises:
            NotAuthorised: its host is not listed for the caller.
            NotSupported, InvalidRequest: not a URL that is spoken here.
        """

    def delegated(self, principal: Principal) -> DelegatedCredential | None:
        """Return what the caller has delegated apart from a session, if there is something."""

    def carry(self, errand: Errand) -> None:
        """Take an errand; returns at once."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one pair of a copy asks for: both sides, where each is, and what is wrong with it."""

    source: str
    target: str
    way: Way | None = None
    entry: Entry | None = None
    verdict: Verdict | None = None
    failure: MdmError | None = None

    @property
    def other_side(self) -> str:
        """The URL that is not here."""
        return self.target if self.way is Way.SEND else self.source


class Copies:
    """Copies of callers, over the rows of the store."""

    def __init__(
        self,
        settings: BrokerSettings,
        stores: Stores,
        access: FileAccess,
        areas: Areas,
        puts: Puts,
        surls: OwnSurls,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._access = access
        self._areas = areas
        self._puts = puts
        self._surls = surls
        self._clock = clock
        self._carrier: Carrier | None = None
        self._viewer = Viewer(settings.nodes, stores.staged, stores.uploads, settings.poll_s)

    def employ(self, carrier: Carrier) -> None:
        """Let a carrier take what goes to other servers and comes from them."""
        self._carrier = carrier

    def sources(self, token: Token) -> list[str]:
        """Return what the files of a copy are copied from, in their order."""
        return self._stores.copies.of(token)

    def submit(
        self, principal: Principal, wish: PutWish, credential: DelegatedCredential | None = None
    ) -> RequestView:
        """Accept a copy; what is wrong with one file is told in its view.

        Args:
            principal: who asks.
            wish: `surls` are the targets, `sources` what they are copied from; either may be elsewhere.
            credential: what the caller has delegated in this session.

        Raises:
            InvalidRequest, TooLarge, NotSupported: as for a put.
        """
        request = _patient(accept(self._settings, wish, principal.dn, self._clock.now()))
        if self._carrier is not None:
            credential = credential or self._carrier.delegated(principal)
        plans = self._plans(principal, wish, credential)
        bound_files(self._settings, sum(len(one.entry.files) for one in plans if one.entry))
        apply_time(self._stores, self._clock.now())
        errands: list[Errand] = []
        with self._stores.database.transaction():
            files = self._new_files(principal, request, wish, plans)
            self._stores.requests.add(request, files)
            self._stores.copies.add(request.token, wish.sources)
            away = [
                at
                for at, (plan, file) in enumerate(zip(plans, files, strict=True))
                if plan.way is not None and file.state is not FileState.FAILED
            ]
            if self._carrier is not None and away:
                self._stores.errands.add(request.token, away, self._carrier.name)
                errands = self._errands(principal, request, wish, plans, away, credential)
        if self._carrier is not None:
            for errand in errands:
                self._carrier.carry(errand)
        states = tuple(file.state for file in files)
        if FileState.QUEUED in states:
            self._stores.database.tell(Topic.WORK)
        return self._viewer.view(request, files, states, self._clock.now())

    # --- what a carrier calls --------------------------------------------------------------------

    def standing(self, errands: Sequence[Errand]) -> list[Standing]:
        """Tell of each errand what is to be done about it now."""
        apply_time(self._stores, self._clock.now())
        rows = [row for errand in errands for row in errand.rows]
        states = {file.id: file.state for file in self._stores.requests.find_files(rows)}
        return [_standing(errand, [states.get(row) for row in errand.rows]) for errand in errands]

    def fetched(self, errand: Errand) -> None:
        """Have the inner zone store what was fetched."""
        with self._stores.database.transaction():
            self._stores.requests.move(
                errand.rows,
                [SPACE_AVAILABLE],
                after(SPACE_AVAILABLE, Event.PUT_DONE),
                deadline_at=self._clock.now() + STORE_WITHIN,
            )
            self._stores.errands.end(errand.token, errand.position)

    def sent(self, errand: Errand) -> None:
        """Note that the other server has the file."""
        with self._stores.database.transaction():
            self._stores.requests.move(errand.rows, [PINNED], after(PINNED, Event.DELIVER))
            self._stores.errands.end(errand.token, errand.position)

    def broke_off(self, errand: Errand, error: MdmError) -> None:
        """Fail what was not moved, unless it has ended already."""
        self._fail(errand.token, errand.position, errand.rows, error)

    def abandon(self, carrier: str) -> int:
        """Fail what a carrier of this name had taken and not ended when it died; returns how many."""
        left = self._stores.errands.of(carrier)
        gone = NotAuthenticated(GONE)
        for token, position in left:
            files = self._stores.requests.files(token)
            self._fail(token, position, [row.id for row in files[position].rows], gone)
        return len(left)

    def _fail(self, token: Token, position: int, rows: Sequence[int], error: MdmError) -> None:
        requests = self._stores.requests
        with self._stores.database.transaction():
            for event, state in ((Event.FAIL, FileState.QUEUED), (Event.BREAK_OFF, PINNED)):
                requests.move(rows, before(event), after(state, event), failure=error)
            failed = after(SPACE_AVAILABLE, Event.REFUSE)
            if requests.move(rows, [SPACE_AVAILABLE], failed, failure=error):
                paths = [file.path for file in requests.find_files(rows) if file.path is not None]
                self._stores.uploads.end(token, paths)
            self._stores.errands.end(token, position)

    # --- what is asked for -----------------------------------------------------------------------

    def _plans(
        self, principal: Principal, wish: PutWish, credential: DelegatedCredential | None
    ) -> list[_Plan]:
        """Look at both sides of every pair; rights on both are decided here."""
        targets = [self._surls.parse(text) for text in wish.surls]
        here = [surl.path for surl in targets if isinstance(surl, Surl) and self._surls.has(surl.text)]
        verdicts = iter(self._access.writable(principal, here, "srmCopy"))
        plans = []
        for source, target, surl in zip(wish.sources, wish.surls, targets, strict=True):
            plan = _Plan(source, target)
            if self._surls.has(target):
                verdict = next(verdicts) if isinstance(surl, Surl) else None
                failure = surl if isinstance(surl, NotFound) else None
                plan = replace(plan, verdict=verdict, failure=failure)
            plans.append(self._planned(principal, plan, credential))
        return plans

    def _planned(self, principal: Principal, plan: _Plan, credential: DelegatedCredential | None) -> _Plan:
        if plan.failure is not None:
            return plan
        try:
            if not self._surls.has(plan.target):
                plan = replace(plan, way=Way.SEND)
            elif not self._surls.has(plan.source):
                plan = replace(plan, way=Way.FETCH)
            if plan.way is not Way.FETCH:
                plan = replace(plan, entry=self._source(principal, plan))
            if plan.way is not None:
                self._check(principal, plan.other_side, credential)
            elif plan.entry is not None and not self._areas.take(plan.entry.path):
                self._employed()
                plan = replace(plan, way=Way.WITHIN)
        except MdmError as error:
            return replace(plan, failure=error)
        return plan

    def _source(self, principal: Principal, plan: _Plan) -> Entry:
        """Return what is copied: any file that the caller may read."""
        if not self._surls.has(plan.source):
            raise NotSupported("neither side of this copy is here", advice="Ask one of the two sites.")
        surl = self._surls.parse(plan.source)
        if not isinstance(surl, Surl):
            raise surl
        entry, _ = self._access.file(principal, surl.path, "srmCopy")
        return entry

    def _check(self, principal: Principal, url: str, credential: DelegatedCredential | None) -> None:
        self._employed().check(principal, url)
        if credential is None:
            raise NotAuthenticated(
                "nothing was delegated to show to the other server",
                advice="Delegate at the beginning of the httpg session, or at /.gridsite-delegation here.",
            )

    def _employed(self) -> Carrier:
        if self._carrier is None:
            raise NotSupported("this site copies no such files")
        return self._carrier

    def _new_files(
        self, principal: Principal, request: Request, wish: PutWish, plans: Sequence[_Plan]
    ) -> list[RequestFile]:
        there = self._stores.namespace.find_many([plan.verdict.path for plan in plans if plan.verdict])
        sent = [plan.entry for plan in plans if plan.way is Way.SEND and plan.entry]
        staged = self._stores.staged.find([file.guid for one in sent for file in one.files if file.guid])
        files = []
        for plan in plans:
            if plan.failure is not None:
                files.append(RequestFile(plan.target, None, None, FileState.FAILED, plan.failure))
            elif plan.verdict is not None:
                facts = plan.entry.facts if plan.entry else None
                by_plugin = plan.entry if plan.way is None else None
                line = Line(plan.target, plan.verdict, facts.size_bytes if facts else 0, by_plugin)
                files.append(self._puts.new_file(principal, request, line, there, wish))
            elif plan.entry is not None:
                files.append(file_to_get(request, plan.target, None, plan.entry, staged, self._clock.now()))
        return files

    def _errands(
        self,
        principal: Principal,
        request: Request,
        wish: PutWish,
        plans: Sequence[_Plan],
        away: Sequence[int],
        credential: DelegatedCredential | None,
    ) -> list[Errand]:
        files = self._stores.requests.files(request.token)
        uploads = self._stores.uploads.of_request(request.token)
        errands = []
        for at in away:
            plan, file = plans[at], files[at]
            upload = uploads.get(file.path) if file.path is not None else None
            path = join(UPLOADS, upload.name) if upload else plan.entry.path if plan.entry else None
            if plan.way is not None and path is not None:
                errands.append(
                    Errand(
                        principal=principal,
                        credential=credential,
                        way=plan.way,
                        url=plan.other_side,
                        path=path,
                        overwrite=wish.overwrite,
                        token=request.token,
                        position=at,
                        rows=tuple(row.id for row in file.rows),
                        deadline_at=request.deadline_at,
                    )
                )
        return errands


def _patient(request: Request) -> Request:
    """Return a request whose files stay staged until its own time is over."""
    total_s = int((request.deadline_at - request.created_at).total_seconds())
    return replace(request, pin_s=max(request.pin_s, total_s))


def _standing(errand: Errand, states: Sequence[FileState | None]) -> Standing:
    wanted = PINNED if errand.way is Way.SEND else SPACE_AVAILABLE
    if all(state is wanted for state in states):
        return Standing.GO
    waits = (*before(Event.FAIL), PINNED)
    if errand.way is Way.SEND and all(state in waits for state in states):
        return Standing.WAIT
    return Standing.END
