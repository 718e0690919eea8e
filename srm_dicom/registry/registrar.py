"""The registrar: takes arrivals from plugins, lets a group settle, walks the saga, warms the file.

`full` registration is no second path: the registrar puts a bringOnline of its own in the queue, a
stager serves it like anybody's, and size, checksum and manifest are known afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Literal

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.db.database import FAILURES
from srm_dicom.errors import ConfigError, MdmError, Overloaded
from srm_dicom.ids import Token, new_token
from srm_dicom.plugin.api import Arrived, Discovered
from srm_dicom.plugin.host import PluginHost
from srm_dicom.registry.journal import Arrival, Group, Journal
from srm_dicom.registry.saga import Saga
from srm_dicom.registry.unregistering import Unregistering
from srm_dicom.rights.project import Project, Release
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind, Requests
from srm_dicom.telemetry import logger

SERVICE = "registrar"
"""Owner of the requests that the registrar makes; no DN looks like it."""

MOST_DOUBLED = 20
"""So often the pause between two attempts is doubled, at most: a group may wait for years."""

log = logger("registrar")


@dataclass(frozen=True, slots=True)
class RegistrarSettings:
    """Bounds of the registrar; see `config.Registrar`."""

    settle_s: float
    publish_s: float
    level: Literal["index", "full"]
    batch: int
    lease_s: float = 600.0
    idle_s: float = 0.5
    longest_pause_s: float = 600.0
    warm_total_s: int = 3600
    warm_pin_s: int = 1


@dataclass(frozen=True, slots=True)
class Feed:
    """One plugin instance, and the ids of the projects, of all, that its objects are released to."""

    host: PluginHost
    ids: tuple[str, ...]
    projects: Mapping[str, Project]
    sealed: bool

    def releases(self, now: datetime) -> tuple[Release, ...]:
        """Return the releases of today, of projects that have not ended."""
        named = (self.projects.get(one) for one in self.ids)
        return tuple(
            Release(project.id, project.profile, self.host.profile_version(project.profile))
            for project in named
            if project is not None and project.valid(now)
        )


def arrivals(journal: Journal, plugin: str, releases: Iterable[Release], clock: Clock) -> Arrived:
    """Return whom a plugin tells what has arrived: the journal, in which it is durable at once."""

    def tell(release: Release, found: Discovered) -> None:
        try:
            journal.add([Arrival(plugin, release, found)], clock.now())
        except FAILURES:
            raise Overloaded("the registrar's journal does not answer") from None

    return {release: partial(tell, release) for release in releases}


class Registrar:
    """One registering process; several may run, each group is leased to one."""

    def __init__(
        self,
        settings: RegistrarSettings,
        feeds: Mapping[str, Feed],
        journal: Journal,
        saga: Saga,
        requests: Requests,
        audit: AuditLog,
        clock: Clock,
        *,
        unregistering: Unregistering,
    ) -> None:
        """Take the parts; `unregistering` undoes what has lost its name, before each step and meanwhile."""
        self._settings = settings
        self._feeds = feeds
        self._journal = journal
        self._saga = saga
        self._requests = requests
        self._audit = audit
        self._clock = clock
        self._unregistering = unregistering

    def run(self, stop: threading.Event) -> None:
        """Listen for arrivals and register what has settled, until `stop` is set."""
        with ExitStack() as listening:
            for name, feed in self._feeds.items():
                told = arrivals(self._journal, name, feed.releases(self._clock.now()), self._clock)
                listening.enter_context(feed.host.listen(told))
            while not stop.is_set():
                if not self.step(self.settled()):
                    stop.wait(self._settings.idle_s)

    def discover(self, plugin: str, selector: str) -> Iterator[int]:
        """Put everything under a selector in the journal; yields the count so far, batch by batch.

        Raises:
            ConfigError: there is no such plugin.
        """
        if plugin not in self._feeds:
            known = ", ".join(sorted(self._feeds)) or "none"
            raise ConfigError(f"plugins.d has no {plugin}.toml", advice=f"It has {known}.")
        feed = self._feeds[plugin]
        total = 0
        for release in feed.releases(self._clock.now()):
            found = iter(feed.host.discover(selector, release))
            while batch := list(islice(found, self._settings.batch)):
                arrivals = [Arrival(plugin, release, item) for item in batch]
                self._journal.add(arrivals, self._clock.now())
                total += len(batch)
                yield total

    def settled(self) -> datetime:
        """Return since when a group has to be quiet to be registered now.

        Groups become due together, at multiples of `publish_s`: when a file appears must not tell when
        its patient was examined (DESIGN: no time tells).
        """
        edge = self._clock.now().timestamp() // self._settings.publish_s * self._settings.publish_s
        return datetime.fromtimestamp(edge, UTC) - timedelta(seconds=self._settings.settle_s)

    def step(self, quiet_since: datetime | None = None) -> bool:
        """Register one group that is quiet since a moment, or now; tells whether there was one."""
        self._unregistering.step()
        now = self._clock.now()
        group = self._journal.claim(now, quiet_since or now, self._settings.lease_s)
        if group is None:
            return False
        try:
            while dropped := self._journal.arrivals(group, self._settings.batch, dropped=True):
                self._unregistering.catch_up(dropped)
                self._journal.done([arrival.found.guid for arrival in dropped])
            while arrivals := self._journal.arrivals(group, self._settings.batch):
                if self._saga.has_ended(group):
                    self._leave(group, arrivals)
                else:
                    self._register(group, arrivals)
        except MdmError as error:
            self._postpone(group, error)
        return True

    def pending(self) -> int:
        """Return how many arrivals are not registered everywhere yet."""
        return self._journal.pending()

    def warm(self, entries: Sequence[Entry]) -> Token:
        """Have files staged once, so that size, checksum and manifest are known."""
        now = self._clock.now()
        settings = self._settings
        request = Request(
            token=new_token(),
            kind=RequestKind.BRING_ONLINE,
            owner=SERVICE,
            protocol="",
            created_at=now,
            deadline_at=now + timedelta(seconds=settings.warm_total_s),
            pin_s=settings.warm_pin_s,
        )
        files = [RequestFile(entry.path, entry.path, entry.guid, FileState.QUEUED) for entry in entries]
        self._requests.add(request, files)
        return request.token

    def _register(self, group: Group, arrivals: Sequence[Arrival]) -> None:
        feed = self._feeds.get(group.plugin)
        if feed is None:
            raise ConfigError(f"plugins.d has no {group.plugin}.toml any more")
        self._unregistering.wait_for(arrivals)
        try:
            entries = self._saga.register(group, arrivals, sealed=feed.sealed)
        finally:
            self._unregistering.catch_up(arrivals)
        if self._settings.level == "full":
            cold = [entry for entry in entries if entry.facts is None]
            if cold:
                self.warm(cold)
        self._audit.record(
            Event(
                action=Action.ADMINISTRATIVE,
                outcome=Outcome.ALLOWED,
                operation="register",
                project=group.release.project,
                objects=tuple(arrival.found.guid for arrival in arrivals),
            )
        )
        self._journal.done([arrival.found.guid for arrival in arrivals])
        log.info("registered", plugin=group.plugin, release=group.release.label, count=len(arrivals))

    def _leave(self, group: Group, arrivals: Sequence[Arrival]) -> None:
        """Forget what came for a project that has ended: nobody would see it, and more comes every day."""
        self._journal.done([arrival.found.guid for arrival in arrivals])
        log.warning("project_has_ended", release=group.release.label, count=len(arrivals))

    def _postpone(self, group: Group, error: MdmError) -> None:
        doubled = min(self._journal.attempts(group), MOST_DOUBLED)
        pause_s = min(2.0**doubled, self._settings.longest_pause_s)
        self._journal.postpone(group, self._clock.now() + timedelta(seconds=pause_s))
        log.warning(
            "registration_postponed", reason=error.message, error=type(error).__name__, seconds=pause_s
        )
