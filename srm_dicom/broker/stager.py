"""The stager: claims waiting files, lets plugins plan, stages each batch, publishes what arrives.

It is of the inner zone: it comes to the rows of the outer zone for work, and nobody calls it. What it
holds, it holds by lease; a stager that dies loses nothing, because the lease ends and another claims.
A source that does not answer is asked again with growing pauses until the request's deadline, and the
file's explanation says why it waits; a refusal is final.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.recording import not_staged, staged
from srm_dicom.broker.room import Reservation, Room, full
from srm_dicom.broker.sink import BatchSink, Sealing
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.states import ACTIVE, Event, after, before
from srm_dicom.broker.turns import Turn, Turns
from srm_dicom.broker.views import FileState
from srm_dicom.broker.visits import Visit, size, source_name
from srm_dicom.clock import Clock
from srm_dicom.db.database import FAILURES
from srm_dicom.db.news import Topic
from srm_dicom.errors import (
    InternalError,
    MdmError,
    NoSpace,
    NotDelivered,
    NotFound,
    Overloaded,
    SourceSlow,
    SourceUnavailable,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Batch, FileRef, Source
from srm_dicom.plugin.host import PluginHost
from srm_dicom.scratch.slot import Filled
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import RequestFile
from srm_dicom.store.stores import Stores
from srm_dicom.telemetry import logger

PASSING = (SourceUnavailable, SourceSlow, NoSpace, Overloaded)
"""Failures after which the same visit may succeed: tried again until the request's deadline.

`NotDelivered` is tried again too, but a source that keeps saying that it is done without sending a file
has lost it: `StagerSettings.deliveries` tries are enough.
"""

log = logger("stager")


class Stager:
    """One staging process; `run` until stopped."""

    def __init__(
        self,
        settings: StagerSettings,
        hosts: Mapping[str, PluginHost],
        stores: Stores,
        publisher: Publisher,
        sealing: Sealing,
        audit: AuditLog,
        clock: Clock,
        room: Room | None = None,
    ) -> None:
        self._room = room or Room()
        self._settings = settings
        self._hosts = hosts
        self._database = stores.database
        self._namespace = stores.namespace
        self._requests = stores.requests
        self._leases = stores.leases
        self._publisher = publisher
        self._sealing = sealing
        self._audit = audit
        self._clock = clock
        self._left: deque[tuple[str, Sequence[int]]] = deque()
        """What is leased and in nobody's hands, by source: given back as soon as the database takes it."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; visits under way are finished."""
        self._leases.free(self._settings.worker)
        turns: Turns[Visit] = Turns()
        running: dict[Future[None], Turn[Visit]] = {}
        seen, look_at_s, rest_until_s, told = -1, self._clock.monotonic_s(), 0.0, False
        with (
            ThreadPoolExecutor(self._settings.visits, "visit") as pool,
            self._database.news(Topic.WORK) as news,
        ):
            while not stop.is_set():
                now_s = self._clock.monotonic_s()
                if told or not running or now_s >= rest_until_s:
                    rest_until_s = now_s + (
                        self._settings.heard_s if news.is_heard else self._settings.busy_s
                    )
                    try:
                        state = self._database.state()
                        if state != seen or now_s >= look_at_s:
                            seen, look_at_s = state, now_s + self._settings.look_s
                            self._line_up(turns, now_s)
                    except FAILURES as error:
                        log.warning("database_failed", error=type(error).__name__)
                        seen = -1
                        stop.wait(self._settings.look_s)
                sources = self.sources() if turns.held() else {}
                while len(running) < self._settings.visits and (turn := turns.next(sources, now_s)):
                    future = pool.submit(self.visit, turn.visit)
                    future.add_done_callback(self._tell_of_end)
                    running[future] = turn
                if running and not news.is_heard:
                    wait(running, self._settings.idle_s, FIRST_COMPLETED)
                else:
                    told = news.wait(self._settings.heard_s if news.is_heard else self._settings.idle_s)
                for future in [each for each in running if each.done()]:
                    turns.done(running.pop(future))
            self._give_back([turn.visit for turn in turns.drop(lambda _: True)])

    def _tell_of_end(self, _visit: Future[None]) -> None:
        """Have `run` hear that a visit is over: it waits for work, and there is a place for some now."""
        self._database.tell(Topic.WORK)

    def sources(self) -> dict[str, Source]:
        """Return what the sources of all plugins bear now; of a plugin that cannot say, none is known."""
        found: dict[str, Source] = {}
        for name, host in self._hosts.items():
            with suppress(MdmError):
                found |= {source_name(name, source.name): source for source in host.sources()}
        return found

    def _line_up(self, turns: Turns[Visit], now_s: float) -> None:
        """Let those wait who have come; what has waited long goes back, and is planned anew.

        What nobody waits for any more has no turn: the source would rest for it, and others would wait.
        """
        self._give_back([])
        turns.drop(lambda turn: not self._wanted(turn.visit))
        self._give_back([turn.visit for turn in turns.drop(lambda turn: turn.until_s <= now_s)])
        for visit in self.claim(turns.held()):
            batch, until_s = visit.batch, now_s + self._settings.visit_s
            turns.add(
                Turn(visit, visit.source, visit.owner, len(batch.files), until_s, slow=batch.waited > 0)
            )

    def _give_back(self, visits: Sequence[Visit]) -> None:
        """Let files wait where they are until there is room for them."""
        by_source: dict[str, list[int]] = {}
        for visit in visits:
            by_source.setdefault(visit.source, []).extend(row.id for row in visit.waiting(visit.rows))
        self._left += by_source.items()
        while self._left:
            source, ids = self._left[0]
            self._leases.give_back(ids, source)
            self._left.popleft()

    def claim(self, held: Mapping[tuple[str, str], int] | None = None) -> list[Visit]:
        """Claim waiting files and return them as visits.

        Where a file is, only the plugin knows, once it was claimed. What is of a source that bears nothing
        now, or of which its owner has enough in hand, goes back and is not looked at until that changes: it
        keeps nobody from what is elsewhere.

        Args:
            held: files in hand already, by owner and source.
        """
        in_hand, sources = Counter(held or {}), self.sources()

        def room(owner: str, source: str) -> int:
            known = sources.get(source)
            if known is None:
                return self._settings.claim - in_hand[owner, source]
            most = self._settings.claim if known.user_files is None else known.user_files
            return most - in_hand[owner, source] if known.max_visits else 0

        taken: list[Visit] = []
        left: list[Visit] = []
        for visit in self._claimed(room):
            fits = room(visit.owner, visit.source) > 0
            (taken if fits else left).append(visit)
            in_hand[visit.owner, visit.source] += len(visit.batch.files)
        with suppress(*FAILURES):  # later then, and these are in hand
            self._give_back(left)
        return taken

    def _claimed(self, room: Callable[[str, str], int]) -> list[Visit]:
        rows = self._leases.claim(
            self._settings.worker,
            ACTIVE,
            after(FileState.QUEUED, Event.CLAIM),
            now=self._clock.now(),
            lease_s=self._settings.lease_s,
            room=room,
        )
        by_guid: dict[Guid, list[RequestFile]] = {}
        for row in rows:
            if row.guid is not None:
                by_guid.setdefault(row.guid, []).append(row)
        try:
            entries = self._namespace.find_guids(list(by_guid))
            return [Visit.of(batch, entries, by_guid) for batch in self._plan(entries, by_guid)]
        except FAILURES:
            self._left.append(("", [row.id for row in rows]))
            raise

    def visit(self, visit: Visit) -> None:
        """Stage one batch; a defect of ours fails its files and never the stager.

        What could not be written to the database is no defect: who waits goes on waiting.
        """
        try:
            self._guarded(visit)
        except FAILURES as error:
            log.warning("visit_left", error=type(error).__name__)
            self._left.append((visit.source, [row.id for row in visit.waiting(visit.rows)]))

    def _guarded(self, visit: Visit) -> None:
        try:
            self._visit(visit)
        except FAILURES:
            raise
        except Exception as error:
            log.exception("visit_broke", error=type(error).__name__)
            failure = InternalError("staging broke; the site's log has the details")
            self._fail(visit.waiting(visit.rows), failure)

    def _wanted(self, visit: Visit) -> set[Guid]:
        """Return the files that somebody still waits for: requests are aborted, and expire."""
        waiting = self._leases.waiting([row.id for row in visit.waiting(visit.rows)], ACTIVE)
        return {guid for guid, rows in visit.rows.items() if any(row.id in waiting for row in rows)}

    def _visit(self, visit: Visit) -> None:
        """Reserve room, then go for as many files as there is room for; the others wait."""
        visit = visit.only(self._wanted(visit))
        if not visit.rows:
            return
        try:
            reservation = self._room.reserve([size(visit.entries[ref.guid]) for ref in visit.batch.files])
        except NoSpace as error:
            self._disappoint(visit.waiting(visit.rows), error, visit.source)
            return
        try:
            guids = [ref.guid for ref in visit.batch.files]
            self._disappoint(visit.waiting(guids[reservation.files :]), full(), visit.source)
            self._bring(visit.only(frozenset(guids[: reservation.files])), reservation)
        finally:
            reservation.close()

    def _bring(self, visit: Visit, reservation: Reservation) -> None:
        """Publish what comes, group by group, and tell those who wait for what did not."""
        entries = list(visit.entries.values())
        sink = BatchSink(entries, self._sealing, self._publisher.begin, reservation.take)
        began_s = self._clock.monotonic_s()
        worker = threading.Thread(target=self._stage, args=(visit, sink), daemon=True)
        worker.start()
        try:
            self._settle_all(visit, sink, reservation, worker, began_s)
        finally:
            sink.leave()
            worker.join(self._settings.drain_s)

    def _settle_all(
        self,
        visit: Visit,
        sink: BatchSink,
        reservation: Reservation,
        worker: threading.Thread,
        began_s: float,
    ) -> None:
        """Settle what comes, until all has come or the time is up.

        A write to a disk that hangs cannot be ended, and may end well: it is waited for while anybody waits.
        """
        until_s, is_left = began_s + self._settings.settled_s, False
        waiting, look_at_s = set(visit.entries), began_s + self._settings.look_s
        while waiting and not is_left and (now_s := self._clock.monotonic_s()) < until_s:
            is_left = not sink.is_wanted() and not worker.is_alive()
            if now_s >= look_at_s:
                look_at_s = now_s + self._settings.look_s
                if not self._wanted(visit) & waiting:
                    sink.leave()
            gather_s = min(self._settings.longest_gather_s, (now_s - began_s) / 5)
            group = dict(sink.drain(self._settings.drain_s, max(self._settings.gather_s, gather_s)))
            waiting -= set(group)
            reservation.settle(self._settle(group, visit))
        if waiting:
            late = NotDelivered("staging was not over when its time was up")
            self._settle(dict.fromkeys(waiting, late), visit)

    def _plan(
        self, entries: Mapping[Guid, Entry], by_guid: Mapping[Guid, Sequence[RequestFile]]
    ) -> list[Batch]:
        refs: dict[str, list[FileRef]] = {}
        for guid, rows in by_guid.items():
            entry = entries.get(guid)
            if entry is None or entry.release is None or entry.plugin not in self._hosts:
                self._fail(rows, NotFound("no such file or directory"))
                continue
            refs.setdefault(entry.plugin, []).append(
                FileRef(guid, entry.plugin_ref, entry.release, entry.public_key)
            )
        batches: list[Batch] = []
        for plugin, files in refs.items():
            try:
                batches += self._hosts[plugin].plan(files)
            except MdmError as error:
                self._fail([row for ref in files for row in by_guid[ref.guid]], error)
        return batches

    def _stage(self, visit: Visit, sink: BatchSink) -> None:
        """Run the plugin; whatever happens, every file of the batch has an outcome afterwards."""
        plugin = next(iter(visit.entries.values())).plugin
        errors: Mapping[Guid, MdmError | None] = {}
        otherwise: MdmError = NotDelivered("the source did not deliver this file")
        try:
            errors = self._hosts[plugin].stage(visit.batch, sink, self._settings.visit_s)
        except MdmError as caught:
            otherwise = caught
        finally:
            sink.close(errors, otherwise)

    def _settle(self, group: Mapping[Guid, Filled | MdmError], visit: Visit) -> int:
        """Tell those who wait what became of a group; returns how many bytes of it lie in scratch now."""
        filled = [outcome for outcome in group.values() if isinstance(outcome, Filled)]
        failed = {guid: outcome for guid, outcome in group.items() if isinstance(outcome, MdmError)}
        if filled:
            try:
                recording = self._audit.recording(*staged(filled, visit.entries))
                self._publisher.publish(filled, visit.entries, recording)
            except MdmError as error:
                failed |= dict.fromkeys((item.guid for item in filled), error)
        for guid, reason in failed.items():
            self._disappoint(visit.rows[guid], reason, visit.source)
        if failed:
            self._audit.record(not_staged(failed, visit.entries))
        return sum(item.size_bytes for item in filled if item.guid not in failed)

    def _disappoint(self, rows: Sequence[RequestFile], error: MdmError, source: str) -> None:
        """Let rows wait for another visit where one may help, else fail them."""
        lost = isinstance(error, NotDelivered)
        patient = [row for row in rows if lost and row.lost + 1 < self._settings.deliveries]
        waiting = list(rows) if isinstance(error, PASSING) else patient
        waiting_ids = {row.id for row in waiting}
        self._fail([row for row in rows if row.id not in waiting_ids], error)
        alike: dict[tuple[int, int], list[int]] = {}
        for row in waiting:
            alike.setdefault((row.attempts, row.lost), []).append(row.id)
        for (attempts, before_lost), ids in alike.items():
            self._put_off(ids, attempts, before_lost + lost, error, source)

    def _put_off(self, ids: Sequence[int], attempts: int, lost: int, error: MdmError, source: str) -> None:
        """Let rows wait; that we had no room is no attempt of the source's."""
        ours = isinstance(error, NoSpace)
        first_s, longest_s = self._settings.first_pause_s, self._settings.longest_pause_s
        known = None if ours else self.sources().get(source)
        if known is not None:
            first_s = first_s if known.first_pause_s is None else known.first_pause_s
            longest_s = longest_s if known.longest_pause_s is None else known.longest_pause_s
        pause_s = first_s * (1 if ours else 2 ** min(attempts, 10))
        again = self._clock.now() + timedelta(seconds=min(pause_s, longest_s))
        self._requests.move(
            ids,
            before(Event.RETRY),
            after(FileState.IN_PROGRESS, Event.RETRY),
            failure=error,
            explanation=error.message,
            not_before=again,
            lease_until=0,
            attempts=attempts + (0 if ours else 1),
            lost=lost,
        )

    def _fail(self, rows: Sequence[RequestFile], error: MdmError) -> None:
        target = after(FileState.QUEUED, Event.FAIL)
        if self._requests.move([row.id for row in rows], before(Event.FAIL), target, failure=error):
            self._database.tell(Topic.READY)
