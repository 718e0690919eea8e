"""Keeps scratch and the rows in agreement: sweep at start, time and space while running.

The database is believed. A file that it calls staged and that is not there in full length is
forgotten, and whoever held it waits for it again; a file that it does not know is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom.broker.states import Event, after, before
from srm_dicom.broker.views import FileState
from srm_dicom.clock import Clock
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.telemetry import logger

log = logger("janitor")


@dataclass(frozen=True, slots=True)
class SpaceSettings:
    """Water marks of a scratch area: above `high_bytes` unpinned files go until `low_bytes`."""

    high_bytes: int = 200 * 1024**3
    low_bytes: int = 160 * 1024**3


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
        self._space = space
        self._clock = clock

    def sweep(self) -> None:
        """Make disk and database agree; only at start, before anything is staged."""
        known = list(self._staged.on_node(self._node))
        lost = [item for item in known if not self._area.has(_name(item), item.size_bytes)]
        for item in lost:
            self._forget(item)
        dropped = self._area.sweep(_name(item) for item in known)
        log.info("swept", count=dropped)

    def tidy(self) -> None:
        """Let time pass for requests and pins, then make room if there is too little."""
        now = self._clock.now()
        self._requests.fail_overdue(before(Event.FAIL), FileState.FAILED, now)
        self._requests.expire_pins(before(Event.EXPIRE), FileState.EXPIRED, now)
        used = self._staged.used_bytes(self._node)
        if used > self._space.high_bytes:
            self._evict(used - self._space.low_bytes)

    def _evict(self, surplus_bytes: int) -> None:
        """Remove the least recently used files that nobody holds."""
        pinned = self._requests.pinned(FileState.PINNED)
        for item in list(self._staged.on_node(self._node)):
            if surplus_bytes <= 0:
                return
            if item.guid not in pinned and self._unstage(item):
                surplus_bytes -= item.size_bytes

    def _unstage(self, item: Staged) -> bool:
        """Forget a file in the database, unless somebody has just pinned it, then remove its bytes."""
        with self._database.transaction():
            if item.guid in self._requests.pinned(FileState.PINNED):
                return False
            self._staged.remove(item.guid, self._node)
        self._area.remove(_name(item))
        return True

    def _forget(self, item: Staged) -> None:
        with self._database.transaction():
            self._staged.remove(item.guid, self._node)
            self._requests.move_guid(
                item.guid, before(Event.LOSE), after(FileState.PINNED, Event.LOSE), pin_until=None
            )
        log.warning("staged_file_lost", guid=item.guid)


def _name(item: Staged) -> StagedName:
    return StagedName(item.guid, item.generation)
