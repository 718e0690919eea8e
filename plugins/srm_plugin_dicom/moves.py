"""What our own moves announced: matches arriving objects with the batch that waits for them.

Answers to different C-MOVEs arrive at one AE. An object is taken when an open visit waits for its SOP
instance from that sender, and by one visit only; anything else is refused. Two visits may wait for the
same instance, each for a release of its own: of these it is for the one whose C-MOVE the sender names. What
comes for the other's would leave this one with nothing to come. An object is held in memory
(clear bytes never touch a disk) within a budget that all arriving objects share; a large one in a spool
that the host gives, which seals it. Or a worker receives it and makes its file (`attending`), which is taken
as an object is.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from srm_dicom.clock import Clock
from srm_dicom.errors import InternalError, MdmError, NotAuthorised, Overloaded, TooLarge
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Spool, Spooling
from srm_dicom.plugin.attending import Attending, Brought, Commission
from srm_plugin_dicom.admission import Admission
from srm_plugin_dicom.association import Limits
from srm_plugin_dicom.attending import MoveAttendant, ReceivingProgram
from srm_plugin_dicom.deidentify.elements import Buffer
from srm_plugin_dicom.deidentify.view import View
from srm_plugin_dicom.stores import Handler, ObjectInfo, ObjectSink

AHEAD = 200
"""Of so many objects that may come next a worker hears at once what is to be made of them."""

ArrivedObject = bytearray | View
"""A whole object: in memory, or where the large ones are."""

Deliver = Callable[[ObjectInfo, ArrivedObject], None]
"""Gets a whole object; returns when it is durable, or raises an error of the tree."""

NotHeld = Callable[[str, MdmError], bool]
"""Hears of an instance that came and was not taken to its end, and why; tells whether that is its end."""


def still_wanted(_instance: str, _error: MdmError) -> bool:
    """Wait for it all the same."""
    return False


def _to_nobody(_info: ObjectInfo, _file: Brought) -> None:
    raise InternalError("a worker has brought what it was not asked for")


@dataclass(frozen=True, slots=True)
class ByWorkers:
    """What workers may make of objects where these arrive: by itself nothing, and all are delivered.

    Attributes:
        commission: what to make of an instance; None where it is delivered.
        keep: gets the file, and raises as `Deliver` does.
    """

    commission: Callable[[str], Commission | None] = lambda _instance: None
    keep: Callable[[ObjectInfo, Brought], None] = _to_nobody


NOTHING = ByWorkers()


class MemoryBudget:
    """Bytes that all arriving objects together may hold."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take `count` bytes, or raise `Overloaded`."""
        with self._lock:
            if self._held_bytes + count > self._limit_bytes:
                raise Overloaded("too many bytes are being received at once")
            self._held_bytes += count

    def give(self, count: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._held_bytes -= count

    @contextmanager
    def whole(self, data: Buffer | View) -> Iterator[Buffer]:
        """Have an object in memory, wherever it is; raises as `take` does."""
        if not isinstance(data, View):
            yield data
            return
        self.take(len(data))
        try:
            yield bytearray(bytes(data))
        finally:
            self.give(len(data))

    @property
    def held_bytes(self) -> int:
        """How many are taken."""
        return self._held_bytes


class Visit:
    """One C-MOVE: the SOP instances that it waits for, and what to do with each.

    Attributes:
        keep: what to do with a file that a worker made of one.
        not_held: what to tell of one that there is no room for.
        number: message id of its C-MOVE, no other open visit's; the desk gives it.
        has_begun: whether something of it has come, or is coming.
    """

    def __init__(
        self,
        senders: frozenset[str],
        instances: Iterable[str],
        deliver: Deliver,
        clock: Clock,
        by_workers: ByWorkers = NOTHING,
        not_held: NotHeld = still_wanted,
    ) -> None:
        self.senders = senders
        self.deliver = deliver
        self.not_held = not_held
        self.keep = by_workers.keep
        self._commission = by_workers.commission
        self.number = 0
        self.has_begun = False
        self._clock = clock
        self._missing = dict.fromkeys(instances)
        self._under_way: set[str] = set()
        self._changed = threading.Condition()
        self._complete = threading.Event()
        self._last_change_s = clock.monotonic_s()

    def missing(self) -> tuple[str, ...]:
        """Return what has not come yet."""
        with self._changed:
            return tuple(self._missing)

    def commissions(self, info: ObjectInfo) -> list[Commission] | None:
        """Return what a worker may make of an object that comes, and of some others; None if none is wanted.

        Where the first has to be delivered, none is told of.
        """
        with self._changed:
            if not self._waits_for(info):
                return None
            self.has_begun = True
            others = (instance for instance in self._missing if instance != info.sop_instance)
            ahead = [info.sop_instance, *islice(others, AHEAD)]
        found: list[Commission] = []
        for instance in ahead:
            commission = self._commission(instance)
            if commission is None:
                break
            found.append(commission)
        return found

    def coming(self, info: ObjectInfo) -> bool:
        """Hear that an object is on its way; tells whether it is waited for."""
        with self._changed:
            wanted = self._waits_for(info)
            if wanted:
                self._last_change_s = self._clock.monotonic_s()
            return wanted

    def claim(self, info: ObjectInfo, guid: Guid | None = None) -> bool:
        """Take an object if it is waited for; with a GUID, if it is to become this file."""
        if guid is not None:
            commission = self._commission(info.sop_instance)
            if commission is None or commission.guid != guid:
                return False
        with self._changed:
            wanted = self._waits_for(info)
            if wanted:
                self.has_begun = True
                del self._missing[info.sop_instance]
                self._under_way.add(info.sop_instance)
            return wanted

    def _waits_for(self, info: ObjectInfo) -> bool:
        return info.sop_instance in self._missing and info.calling in self.senders

    def settle(self, instance: str, *, again: bool) -> None:
        """Say that a claimed object is dealt with; `again` when it may still come another time."""
        with self._changed:
            self._under_way.discard(instance)
            if again:
                self._missing[instance] = None
                self._complete.clear()
            elif not self._missing and not self._under_way:
                self._complete.set()
            self._last_change_s = self._clock.monotonic_s()
            self._changed.notify_all()

    def rest(self, seconds: float) -> bool:
        """Return when everything has come, or after so many seconds; tells whether it has.

        It has an event of its own, for the condition wakes who waits by it at every image.
        """
        return self._complete.wait(seconds)

    def wait(self, deadline_s: float, settle_s: float) -> int:
        """Wait until nothing is missing, or nothing has come for `settle_s`; return how many are missing.

        Args:
            deadline_s: monotonic time after which there is no more waiting.
            settle_s: a PACS may answer a C-MOVE before its last object has left.
        """
        with self._changed:
            while self._missing or self._under_way:
                now_s = self._clock.monotonic_s()
                quiet_at_s = deadline_s if self._under_way else self._last_change_s + settle_s
                left_s = min(deadline_s, quiet_at_s) - now_s
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            return len(self._missing) + len(self._under_way)


class MoveDesk:
    """The handler of the moves' AE; see the module."""

    def __init__(
        self,
        *,
        max_object_bytes: int,
        budget: MemoryBudget,
        spooling: Spooling | None = None,
        attending: Attending | None = None,
    ) -> None:
        self._max_object_bytes = max_object_bytes
        self._budget = budget
        self._spooling = spooling
        self._attending = attending
        self._visits: list[Visit] = []
        self._count = 0
        self._lock = threading.Lock()

    @contextmanager
    def expecting(self, visit: Visit) -> Iterator[None]:
        """Take what the visit waits for, for as long as the context lives."""
        with self._lock:
            self._count = self._count % 0xFFFF + 1
            visit.number = self._count
            self._visits.append(visit)
        try:
            yield
        finally:
            with self._lock:
                self._visits.remove(visit)

    def begin(self, info: ObjectInfo) -> ObjectSink:
        """Open the object's sink.

        Raises:
            NotAuthorised: nobody waits for it.
        """
        with self._lock:
            for visit in self._in_order(info):
                if visit.claim(info):
                    return ArrivingObject(info, visit, self._max_object_bytes, self._budget, self._spooling)
        raise _unannounced()

    def commissions(self, info: ObjectInfo) -> list[Commission]:
        """Tell what a worker is to make of an object, and of those that may follow it.

        Raises:
            NotAuthorised: nobody waits for it.
        """
        with self._lock:
            for visit in self._in_order(info):
                if (found := visit.commissions(info)) is not None:
                    return found
        raise _unannounced()

    def coming(self, info: ObjectInfo) -> None:
        """Hear that an object is on its way to a worker."""
        with self._lock:
            for visit in self._in_order(info):
                if visit.coming(info):
                    return

    def keep(self, info: ObjectInfo, file: Brought) -> None:
        """Deliver a file that a worker made, if it is still waited for: two may have made the same one."""
        with self._lock:
            visit = next((each for each in self._in_order(info) if each.claim(info, file.guid)), None)
        if visit is None:
            return
        try:
            visit.keep(info, file)
        finally:
            visit.settle(info.sop_instance, again=False)

    def attend(self, connection: socket.socket, address: str, admission: Admission, limits: Limits) -> bool:
        """Leave a connection to a worker; tells whether one has attended it, until its end."""
        if self._attending is None:
            return False
        program = ReceivingProgram(address, admission, limits, self._max_object_bytes)
        silent_s = 2 * limits.idle_s  # for a PDU to begin, and to end
        return self._attending.attend(connection, program, MoveAttendant(self, address), silent_s)

    def catch_up(self) -> None:
        """Return when all is delivered that workers had made when this was called."""
        if self._attending is not None:
            self._attending.catch_up()

    def _in_order(self, info: ObjectInfo) -> list[Visit]:
        """Return the visits, those that an object names first."""
        return sorted(self._visits, key=lambda visit: visit.number != info.move_id)

    def only(self, visit: Visit) -> Handler:
        """Return what takes objects for one visit: those that come on an association of its own."""
        desk = MoveDesk(max_object_bytes=self._max_object_bytes, budget=self._budget, spooling=self._spooling)
        desk._visits.append(visit)
        return desk


def _unannounced() -> NotAuthorised:
    return NotAuthorised("an object that no open move announced")


class ArrivingObject:
    """Holds one object until it is whole, then delivers it."""

    def __init__(
        self,
        info: ObjectInfo,
        visit: Visit,
        max_object_bytes: int,
        budget: MemoryBudget,
        spooling: Spooling | None,
    ) -> None:
        self._info = info
        self._visit = visit
        self._max_object_bytes = max_object_bytes
        self._budget = budget
        self._held = bytearray()
        self._spooling = spooling
        self._spool: Spool | None = None
        self._may_come_again = True

    def write(self, chunk: memoryview) -> None:
        """Hold the next bytes.

        Raises:
            TooLarge, Overloaded, NoSpace: a bound is reached, which the visit hears as well.
        """
        try:
            self._hold(chunk)
        except MdmError as error:
            self._may_come_again = False
            self._visit.not_held(self._info.sop_instance, error)
            raise

    def _hold(self, chunk: memoryview) -> None:
        spool = self._spool
        size_bytes = len(chunk) + (len(self._held) if spool is None else spool.size_bytes)
        if size_bytes > self._max_object_bytes:
            raise TooLarge("an object is larger than max_object_bytes")
        if spool is None and self._spooling is not None and size_bytes > self._spooling.above_bytes:
            spool = self._spool = self._spooling.open()
            spool.write(self._held)
            self._release()
        if spool is not None:
            spool.write(chunk)
            return
        self._budget.take(len(chunk))
        self._held += chunk

    def finish(self) -> None:
        """Deliver it; returns when that is durable."""
        try:
            self._visit.deliver(self._info, self._held if self._spool is None else View(self._spool))
        finally:
            self._close(again=False)

    def abandon(self) -> None:
        """Forget it; the sender may send it again, but for one that there was no room for."""
        self._close(again=self._may_come_again)

    def _close(self, *, again: bool) -> None:
        self._release()
        if self._spool is not None:
            self._spool.close()
        self._visit.settle(self._info.sop_instance, again=again)

    def _release(self) -> None:
        self._budget.give(len(self._held))
        self._held = bytearray()
