"""Does the errands of srmCopy as their owners: fetches files from other servers, sends and copies them.

It runs in the process that took the credentials. Errands take turns, so that nobody waits behind
somebody else's thousand files; one that its owner withdrew, whose time is over, or whose owner may not be
here any more is broken off at its next bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from srm_dicom.broker.copies import Copies, Errand, Standing, Way
from srm_dicom.broker.turns import Turn, Turns
from srm_dicom.clock import Clock
from srm_dicom.errors import InternalError, MdmError, NotAuthenticated, NotSupported, RequestExpired
from srm_dicom.identity.credential import Nobody
from srm_dicom.identity.delegation import GONE, Delegate, DelegatedCredential
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.watch import Watch
from srm_dicom.plugin.api import Source
from srm_dicom.telemetry import logger
from srm_dicom.transfer.copyinghere import pour
from srm_dicom.transfer.delegations import Delegations
from srm_dicom.transfer.files import WrittenFiles
from srm_dicom.transfer.mover import Mover, Remote
from srm_dicom.transfer.otherside import OtherSide, host_of, is_srm
from srm_dicom.transfer.ownside import OwnSide
from srm_dicom.transfer.progress import Progress

log = logger("transfer")

_EVERYWHERE = "other servers"
_LOOK_AT = 500
"""So many of those that wait are looked at in one look; each comes to it in its turn."""


@dataclass(frozen=True, slots=True)
class CarryingSettings:
    """Bounds.

    Attributes:
        name: see `broker.copies.Carrier.name`.
        trust: directory of the authorities that other servers must come from.
        at_once: errands that are under way at the same time.
        look_s: from one look at what has become of errands to the next.
    """

    name: str
    trust: Path
    at_once: int = 20
    look_s: float = 0.5


@dataclass(eq=False, slots=True)
class _Task:
    """An errand in hand; `failure` is what its thread ended with, which its owner is still to be told."""

    errand: Errand
    watch: Watch
    progress: Progress = field(default_factory=Progress)
    failure: MdmError | None = None


class Carrying:
    """A `broker.copies.Carrier`; `run` until stopped."""

    def __init__(
        self,
        settings: CarryingSettings,
        copies: Copies,
        own: OwnSide,
        writing: WrittenFiles,
        mover: Mover | None,
        delegations: Delegations,
        gate: Gate,
        clock: Clock,
    ) -> None:
        """Take over from the process of this name that died, if one did: its credentials are gone.

        Without a mover nothing is copied to and from other servers.
        """
        self._settings = settings
        self._copies = copies
        self._writing = writing
        self._mover = mover
        self._own = own
        self._delegations = delegations
        self._gate = gate
        self._clock = clock
        self._waiting: deque[_Task] = deque()
        self._turns: Turns[_Task] = Turns()
        self._running: dict[Turn[_Task], threading.Thread] = {}
        self._ways = {Way.FETCH: self._fetch, Way.SEND: self._send, Way.WITHIN: self._copy}
        log.info("copies_abandoned", count=copies.abandon(settings.name))

    @property
    def name(self) -> str:
        """See `broker.copies.Carrier.name`."""
        return self._settings.name

    def check(self, principal: Principal, url: str) -> None:
        """Refuse another side that can never do; see `broker.copies.Carrier.check`."""
        mover = self._moves()
        if is_srm(url):
            mover.hosts.check(principal, host_of(url))
        else:
            mover.check(Remote(principal, url, self._trusting()))

    def delegated(self, principal: Principal) -> DelegatedCredential | None:
        """Return what lives longest of what the caller has delegated to this process."""
        return self._delegations.best(principal)

    def carry(self, errand: Errand) -> None:
        """Take an errand; returns at once."""
        self._waiting.append(_Task(errand, Watch(self._gate, errand.principal, self._clock)))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then break off what is under way."""
        while not stop.wait(self._settings.look_s):
            try:
                self.look()
            except Exception as error:
                log.exception("copies_broke", error=type(error).__name__)
        for turn in self._running:
            turn.visit.progress.cancel()

    def look(self) -> None:
        """See what has become of errands in hand, and begin those whose turn it is.

        Where the database cannot be asked now, nothing is forgotten: the next look comes to it again.
        """
        for ended in [turn for turn, thread in self._running.items() if not thread.is_alive()]:
            if ended.visit.failure is not None:
                self._copies.broke_off(ended.visit.errand, ended.visit.failure)
            del self._running[ended]
            self._turns.done(ended)
        running = [turn.visit for turn in self._running]
        wanted = self._wanted(running)
        for task in running:
            if task not in wanted:
                task.progress.cancel()
        self._line_up()
        bears = {_EVERYWHERE: Source(_EVERYWHERE, self._settings.at_once, lambda: None)}
        while (turn := self._turns.next(bears, self._clock.monotonic_s())) is not None:
            self._begin(turn)

    def _line_up(self) -> None:
        """Let those wait for their turn that can be done now; the others wait on."""
        tasks = [self._waiting[at] for at in range(min(len(self._waiting), _LOOK_AT))]
        wanted = self._wanted(tasks)
        for _ in tasks:
            self._waiting.popleft()
        for task, standing in wanted.items():
            if standing is Standing.WAIT:
                self._waiting.append(task)
            else:
                self._turns.add(Turn(task, _EVERYWHERE, task.errand.principal.dn, 1, 0.0))

    def _begin(self, turn: Turn[_Task]) -> None:
        thread = threading.Thread(target=self._carry, args=(turn.visit,), name="copy", daemon=True)
        try:
            if not self._wanted([turn.visit]):  # its turn came late
                self._turns.done(turn)
                return
            thread.start()
        except Exception as error:  # noqa: BLE001 - no database, or no more threads: later, perhaps
            log.warning("copy_not_begun", error=type(error).__name__)
            self._turns.done(turn)
            self._waiting.append(turn.visit)
        else:
            self._running[turn] = thread

    def _wanted(self, tasks: Sequence[_Task]) -> dict[_Task, Standing]:
        """Return how those stand that still make sense; the owner of another has been told why not."""
        if not tasks:
            return {}
        standings = self._copies.standing([task.errand for task in tasks])
        return {
            task: standing
            for task, standing in zip(tasks, standings, strict=True)
            if standing is not Standing.END and self._may_go_on(task)
        }

    def _may_go_on(self, task: _Task) -> bool:
        try:
            task.watch()
            _check_time(task.errand, self._clock.now())
        except (NotAuthenticated, RequestExpired) as error:
            self._copies.broke_off(task.errand, error)
            return False
        return True

    # --- one errand ------------------------------------------------------------------------------

    def _carry(self, task: _Task) -> None:
        errand, begun_s = task.errand, self._clock.monotonic_s()
        failure: MdmError | None = None
        try:
            self._ways[errand.way](errand, task.progress)
        except MdmError as error:
            failure = error
        except Exception as error:
            log.exception("copy_failed", error=type(error).__name__)
            failure = InternalError("the copy broke off")
        task.failure = failure
        log.info(
            "file_not_copied" if failure else "file_copied",
            dn=errand.principal.dn,
            path=errand.path if errand.way is Way.SEND else None,  # the other is a TURL, its owner's alone
            peer=urlsplit(errand.url).hostname,
            bytes=task.progress.moved_bytes,
            seconds=round(self._clock.monotonic_s() - begun_s, 3),
            error=type(failure).__name__ if failure else None,  # its words may be the other server's
        )

    def _fetch(self, errand: Errand, progress: Progress) -> None:
        with self._other_side(errand, progress).offered() as offer:
            remote = self._remote(errand, offer.url)
            with self._writing.create(errand.principal, errand.path, expected_bytes=offer.size_bytes) as file:
                offer.check(self._moves().pull(remote, file, progress))
                file.finish()
        self._copies.fetched(errand)

    def _send(self, errand: Errand, progress: Progress) -> None:
        with self._own.files.open(errand.principal, errand.path) as file:
            file.charge(file.size_bytes)
            other = self._other_side(errand, progress)
            with other.room(file.size_bytes, overwrite=errand.overwrite) as url:
                self._moves().push(file, self._remote(errand, url), progress)
        self._copies.sent(errand)

    def _copy(self, errand: Errand, progress: Progress) -> None:
        left_s = int((errand.deadline_at - self._clock.now()).total_seconds())
        with self._own.offered(errand.principal, errand.url, progress, left_s) as source:
            source.charge(size_bytes := source.size_bytes)
            with self._writing.create(errand.principal, errand.path, expected_bytes=size_bytes) as file:
                pour(source, file, progress.moved)
                file.finish()
        self._copies.fetched(errand)

    def _moves(self) -> Mover:
        if self._mover is None:
            raise NotSupported("this site copies to and from no other", advice="[copies.hosts] is empty.")
        return self._mover

    def _other_side(self, errand: Errand, progress: Progress) -> OtherSide:
        left_s = (errand.deadline_at - self._clock.now()).total_seconds()
        until_s = self._clock.monotonic_s() + left_s
        return OtherSide(self._moves(), self._remote(errand, errand.url), progress, until_s, self._clock)

    def _remote(self, errand: Errand, url: str) -> Remote:
        if errand.credential is None:
            raise NotAuthenticated(GONE)
        return Remote(errand.principal, url, Delegate(errand.credential, self._settings.trust))

    def _trusting(self) -> Nobody:
        return Nobody(self._settings.trust)


def _check_time(errand: Errand, now: datetime) -> None:
    if now >= errand.deadline_at:
        raise RequestExpired("the request's time is over")
