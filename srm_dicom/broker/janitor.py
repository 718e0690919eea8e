"""Keeps scratch and the rows in agreement: sweeps now and then, lets time and space pass always.

It belongs to the outer zone: the node that owns the directory looks after it, whoever fills it. The
database is believed. A file that it calls staged and that is not there in full length is forgotten, and
whoever held it waits for it again; a file that it does not know is dropped once it is `grace_s` old, and
one whose name is lost, or whose upload has ended, before long (`store.leftovers`).
Stagers go on meanwhile: they make a file ready first and announce it then, so nothing that a sweep may
drop is going to be announced unless its stager slept for longer than that.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta

from srm_dicom.broker.passing import apply_time
from srm_dicom.broker.states import TRANSITIONS, Event, after, before
from srm_dicom.broker.views import FileState
from srm_dicom.clock import Clock
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.telemetry import logger

log = logger("janitor")


@dataclass(frozen=True, slots=True)
class SpaceSettings:
    """How a scratch area is kept.

    Attributes:
        high_bytes: of what is staged or being uploaded; above it unpinned files go until ...
        low_bytes: ... this is reached.
        quota_bytes: what stagers and users may fill; 0 for all that the file system takes. `spare_bytes` of
            it are kept free too, so that who waits for room finds some.
        spare_bytes: so much the file system is to take still, or a sixth of its size if that is less:
            otherwise unpinned files go too, whoever has filled it.
        grace_s: age of a file that nobody knows before it is dropped; far longer than publishing takes.
        sweep_s: time between two sweeps.
        tidy_s: time between two looks at deadlines, pins and space.
        retention_s: how long a request is remembered after its time and its pins are over, and a space that
            was reserved after its lifetime.
    """

    high_bytes: int = 200 * 1024**3
    low_bytes: int = 160 * 1024**3
    quota_bytes: int = 0
    spare_bytes: int = 1024**3
    grace_s: float = 3600.0
    sweep_s: float = 3600.0
    tidy_s: float = 30.0
    retention_s: float = 30 * 24 * 3600.0


class Janitor:
    """Looks after the scratch area of one node."""

    def __init__(
        self,
        node: str,
        area: ScratchArea,
        stores: Stores,
        space: SpaceSettings,
        clock: Clock,
    ) -> None:
        self._node = node
        self._area = area
        self._database = stores.database
        self._requests = stores.requests
        self._staged = stores.staged
        self._uploads = stores.uploads
        self._stores = stores
        self._space = space
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Look after the area until `stop` is set, beginning with a sweep."""
        sweep_at_s = self._clock.monotonic_s()
        while not stop.is_set():
            try:
                if self._clock.monotonic_s() >= sweep_at_s:
                    self.sweep()
                    sweep_at_s = self._clock.monotonic_s() + self._space.sweep_s
                self.tidy()
            except Exception as error:
                log.exception("janitor_broke", error=type(error).__name__)
            stop.wait(self._space.tidy_s)

    def sweep(self) -> None:
        """Make disk and database agree; may run at any time, beside everybody else."""
        before_at = self._clock.now() - timedelta(seconds=self._space.grace_s)
        known = list(self._staged.on_node(self._node))
        lost = [item for item in known if not self._has(item)]
        for item in lost:
            self._forget(item)
        uploads = set(self._uploads.on_node(self._node))
        dropped = self._area.sweep((_name(item) for item in known), before_at, uploads)
        log.info("swept", count=dropped)
        self.forget_requests()
        self.forget_spaces()

    def forget_requests(self) -> None:
        """Drop what is over of the queue: nobody asks for a request that ended a month ago."""
        ended_at = self._clock.now() - timedelta(seconds=self._space.retention_s)
        log.info("requests_forgotten", count=self._requests.prune(tuple(TRANSITIONS), ended_at))

    def forget_spaces(self) -> None:
        """Drop reservations that have been over for as long; what stands in them stays."""
        ended_at = self._clock.now() - timedelta(seconds=self._space.retention_s)
        log.info("spaces_forgotten", count=self._stores.spaces.prune(ended_at))

    def tidy(self) -> None:
        """Let time pass for requests and pins, drop what has ended, then make room if there is too little."""
        apply_time(self._stores, self._clock.now())
        self._drop_leftovers()
        self._evict(self._surplus_bytes())

    def _drop_leftovers(self) -> None:
        """Remove the bytes of files that lost their names, and of uploads that have ended."""
        files = self._stores.leftovers.on_node(self._node)
        for file in files:
            self._area.drop(file)
        self._stores.leftovers.done(self._node, files)

    def _surplus_bytes(self) -> int:
        """Return how much is to go, 0 or less if nothing is."""
        used, _ = self._stores.lying(self._node)
        surplus = used - self._space.low_bytes if used > self._space.high_bytes else 0
        quota = self._space.quota_bytes
        beyond = used + min(self._space.spare_bytes, quota // 6) - quota if quota else 0
        return max(surplus, beyond, self._area.lacking_bytes(self._space.spare_bytes))

    def _evict(self, surplus_bytes: int) -> None:
        """Remove the least recently used files that nobody holds."""
        if surplus_bytes <= 0:
            return
        pinned = self._requests.pinned()
        for item in list(self._staged.on_node(self._node)):
            if surplus_bytes <= 0:
                return
            if item.guid not in pinned and self._unstage(item):
                surplus_bytes -= item.size_bytes

    def _unstage(self, item: Staged) -> bool:
        """Remove a file, unless somebody has just pinned it.

        Its bytes go before anybody hears of it: who does may stage it again, under the same name.
        """
        with self._database.transaction():
            if item.guid in self._requests.pinned():
                return False
            self._staged.remove(item.guid, self._node)
            self._area.remove(_name(item))
        return True

    def _has(self, item: Staged) -> bool:
        return self._area.has(_name(item), item.size_bytes)

    def _forget(self, item: Staged) -> None:
        with self._database.transaction():
            if self._staged.find_on(item.guid, self._node) != item or self._has(item):
                return
            self._staged.remove(item.guid, self._node)
            self._requests.lose(item.guid, before(Event.LOSE), after(FileState.PINNED, Event.LOSE))
        log.warning("staged_file_lost", guid=item.guid)


def _name(item: Staged) -> StagedName:
    return StagedName(item.guid, item.generation)
