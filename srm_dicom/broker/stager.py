"""The stager: claims waiting files, lets plugins plan, stages each batch, publishes what arrives.

It is of the inner zone: it comes to the rows of the outer zone for work, and nobody calls it. What it
holds, it holds by lease; a stager that dies loses nothing, because the lease ends and another claims.
A source that does not answer is asked again with growing pauses until the request's deadline, and the
file's explanation says why it waits; a refusal is final.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta

from srm_dicom.audit.event import Action
from srm_dicom.audit.event import Event as AuditEvent
from srm_dicom.audit.event import Outcome as AuditOutcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.sink import BatchSink, Sealing
from srm_dicom.broker.states import ACTIVE, Event, after, before
from srm_dicom.broker.views import FileState
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    InternalError,
    MdmError,
    NoSpace,
    NotDelivered,
    NotFound,
    Overloaded,
    SourceUnavailable,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Batch, FileRef
from srm_dicom.plugin.host import PluginHost
from srm_dicom.scratch.slot import Filled
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import RequestFile
from srm_dicom.store.stores import Stores
from srm_dicom.telemetry import logger

PASSING = (SourceUnavailable, NoSpace, Overloaded)
"""Failures after which the same visit may succeed: tried again until the request's deadline.

`NotDelivered` is tried again too, but a source that keeps saying that it is done without sending a file
has lost it: `StagerSettings.deliveries` tries are enough.
"""

log = logger("stager")


@dataclass(frozen=True, slots=True)
class StagerSettings:
    """Bounds of one stager.

    Attributes:
        worker: name of this stager, unique and the same after a restart.
        visit_s: the longest visit to a source; leases last a little longer.
    """

    worker: str
    visits: int = 4
    claim: int = 500
    visit_s: float = 600.0
    deliveries: int = 3
    idle_s: float = 0.1
    drain_s: float = 0.5
    gather_s: float = 0.1
    first_pause_s: float = 2.0
    longest_pause_s: float = 120.0

    @property
    def lease_s(self) -> float:
        """How long a claim holds: a visit, and what is left to publish after it."""
        return self.visit_s * 1.1


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
    ) -> None:
        self._settings = settings
        self._hosts = hosts
        self._namespace = stores.namespace
        self._requests = stores.requests
        self._publisher = publisher
        self._sealing = sealing
        self._audit = audit
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; visits under way are finished."""
        self._requests.free_leases(self._settings.worker)
        visits: set[Future[None]] = set()
        with ThreadPoolExecutor(self._settings.visits, "visit") as pool:
            while not stop.is_set():
                batches = self.claim() if len(visits) < self._settings.visits else []
                visits |= {pool.submit(self.visit, batch, rows) for batch, rows in batches}
                if visits:
                    _, visits = wait(visits, self._settings.idle_s, FIRST_COMPLETED)
                elif not batches:
                    stop.wait(self._settings.idle_s)

    def claim(self) -> list[tuple[Batch, list[RequestFile]]]:
        """Claim waiting files and return them as batches, each with the rows that want it."""
        rows = self._requests.claim(
            self._settings.worker,
            ACTIVE,
            after(FileState.QUEUED, Event.CLAIM),
            now=self._clock.now(),
            lease_s=self._settings.lease_s,
            limit=self._settings.claim,
        )
        by_guid: dict[Guid, list[RequestFile]] = {}
        for row in rows:
            if row.guid is not None:
                by_guid.setdefault(row.guid, []).append(row)
        return [
            (batch, [row for ref in batch.files for row in by_guid[ref.guid]])
            for batch in self._plan(by_guid)
        ]

    def visit(self, batch: Batch, rows: Sequence[RequestFile]) -> None:
        """Stage one batch; a defect of ours fails its files and never the stager."""
        try:
            self._visit(batch, rows)
        except Exception as error:
            log.exception("visit_broke", error=type(error).__name__)
            self._fail(rows, InternalError("staging broke; the site's log has the details"))

    def _visit(self, batch: Batch, rows: Sequence[RequestFile]) -> None:
        """Publish what comes, group by group, and tell those who wait for what did not."""
        entries = self._entries(batch)
        sink = BatchSink(list(entries.values()), self._sealing, self._publisher.begin)
        until_s = self._clock.monotonic_s() + self._settings.lease_s
        worker = threading.Thread(target=self._stage, args=(batch, entries, sink), daemon=True)
        worker.start()
        waiting = set(entries)
        while waiting and self._clock.monotonic_s() < until_s:
            group = dict(sink.drain(self._settings.drain_s, self._settings.gather_s))
            waiting -= set(group)
            self._settle(group, entries, rows)
        if waiting:
            late = NotDelivered("staging was not over when its time was up")
            self._settle(dict.fromkeys(waiting, late), entries, rows)
        worker.join(self._settings.drain_s)

    def _plan(self, by_guid: Mapping[Guid, Sequence[RequestFile]]) -> list[Batch]:
        refs: dict[str, list[FileRef]] = {}
        for guid, rows in by_guid.items():
            entry = self._namespace.find_guid(guid)
            if entry is None or entry.release is None or entry.plugin not in self._hosts:
                self._fail(rows, NotFound("no such file or directory"))
                continue
            refs.setdefault(entry.plugin, []).append(FileRef(guid, entry.plugin_ref, entry.release))
        batches: list[Batch] = []
        for plugin, files in refs.items():
            try:
                batches += self._hosts[plugin].plan(files)
            except MdmError as error:
                self._fail([row for ref in files for row in by_guid[ref.guid]], error)
        return batches

    def _entries(self, batch: Batch) -> dict[Guid, Entry]:
        found = ((ref.guid, self._namespace.find_guid(ref.guid)) for ref in batch.files)
        return {guid: entry for guid, entry in found if entry is not None}

    def _stage(self, batch: Batch, entries: Mapping[Guid, Entry], sink: BatchSink) -> None:
        """Run the plugin; whatever happens, every file of the batch has an outcome afterwards."""
        plugin = next(iter(entries.values())).plugin
        errors: Mapping[Guid, MdmError | None] = {}
        otherwise: MdmError = NotDelivered("the source did not deliver this file")
        try:
            errors = self._hosts[plugin].stage(batch, sink, self._settings.visit_s)
        except MdmError as caught:
            otherwise = caught
        finally:
            sink.close(errors, otherwise)

    def _settle(
        self,
        group: Mapping[Guid, Filled | MdmError],
        entries: Mapping[Guid, Entry],
        rows: Sequence[RequestFile],
    ) -> None:
        filled = [outcome for outcome in group.values() if isinstance(outcome, Filled)]
        failed = {guid: outcome for guid, outcome in group.items() if isinstance(outcome, MdmError)}
        if filled:
            try:
                self._publisher.publish(filled, entries)
            except MdmError as error:
                failed |= dict.fromkeys((item.guid for item in filled), error)
        for guid, reason in failed.items():
            self._disappoint([row for row in rows if row.guid == guid], reason)
        self._record(group, failed, entries)

    def _disappoint(self, rows: Sequence[RequestFile], error: MdmError) -> None:
        """Let rows wait for another visit where one may help, else fail them."""
        lost = isinstance(error, NotDelivered)
        patient = [row for row in rows if lost and row.attempts + 1 < self._settings.deliveries]
        waiting = list(rows) if isinstance(error, PASSING) else patient
        self._fail([row for row in rows if row not in waiting], error)
        for row in waiting:
            pause_s = min(
                self._settings.first_pause_s * 2 ** min(row.attempts, 10), self._settings.longest_pause_s
            )
            again = self._clock.now() + timedelta(seconds=pause_s)
            self._requests.move(
                [row.id],
                before(Event.RETRY),
                after(FileState.IN_PROGRESS, Event.RETRY),
                failure=error,
                explanation=error.message,
                not_before=again,
                lease_until=0,
            )

    def _fail(self, rows: Sequence[RequestFile], error: MdmError) -> None:
        target = after(FileState.QUEUED, Event.FAIL)
        self._requests.move([row.id for row in rows], before(Event.FAIL), target, failure=error)

    def _record(
        self,
        group: Mapping[Guid, Filled | MdmError],
        failed: Mapping[Guid, MdmError],
        entries: Mapping[Guid, Entry],
    ) -> None:
        for outcome, guids in (
            (AuditOutcome.ALLOWED, [guid for guid in group if guid not in failed]),
            (AuditOutcome.FAILED, list(failed)),
        ):
            if guids:
                releases = [entries[guid].release for guid in guids]
                self._audit.record(
                    AuditEvent(
                        action=Action.STAGING,
                        outcome=outcome,
                        operation="stage",
                        project=",".join(sorted({release.project for release in releases if release})),
                        objects=tuple(guids),
                        rule="; ".join(
                            sorted({type(failed[guid]).__name__ for guid in guids if guid in failed})
                        ),
                    )
                )
