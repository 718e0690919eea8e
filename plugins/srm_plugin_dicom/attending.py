"""Receiving in a worker: the association, what is made of its objects, and what the stager is told of them.

The worker's side is a handler as `moves.MoveDesk` is one: it asks that desk of what arrives, and hears of the
objects that may follow, so most are received, made and answered without another word. Whom a file is for is
decided when it has been brought: until then two associations may make the same one.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from srm_dicom.clock import SystemClock
from srm_dicom.plugin.attending import Bench, Brought, Commission, Taking, Task
from srm_plugin_dicom.admission import Admission
from srm_plugin_dicom.association import Association, Limits
from srm_plugin_dicom.stores import ObjectInfo, ObjectSink

COMING_S = 0.5
"""Of an object that takes long to arrive it is told so often that it comes."""


@dataclass(frozen=True, slots=True)
class ReceivingProgram:
    """Serves the association of one connection; see `plugin.attending.Program`."""

    address: str
    admission: Admission
    limits: Limits
    max_object_bytes: int

    def __call__(self, connection: socket.socket, bench: Bench) -> None:
        """Serve until it is over."""
        Association(
            connection,
            self.address,
            admit=self.admission,
            handler=_Desk(bench, self.max_object_bytes),
            clock=SystemClock(),
            limits=self.limits,
        ).run()


class _Desk:
    """Decides about arriving objects as the stager's desk would."""

    def __init__(self, bench: Bench, max_object_bytes: int) -> None:
        self._bench = bench
        self._most_bytes = min(bench.most_bytes, max_object_bytes)  # what is larger is not refused here
        self._tasks: dict[tuple[int, str], Task] = {}

    def begin(self, info: ObjectInfo) -> ObjectSink:
        """Open the object's sink.

        Raises:
            NotAuthorised: nobody waits for it.
        """
        words, key = _words(info), (info.move_id, info.sop_instance)
        task = self._tasks.pop(key, None)
        if task is None:
            self._tasks = {(info.move_id, task.name): task for task in self._bench.ask(words)}
            task = self._tasks.pop(key, None)
        if task is None:
            return self._bench.hand_over(words)
        return _Making(self._bench, task, info, words, self._most_bytes)


class _Making:
    """Holds one object until it is whole, then makes its file; hands over what is too large."""

    def __init__(
        self, bench: Bench, task: Task, info: ObjectInfo, words: Sequence[str], most_bytes: int
    ) -> None:
        self._bench = bench
        self._most_bytes = most_bytes
        self._task = task
        self._hints = (info.transfer_syntax, info.sop_class, info.sop_instance, *task.words)
        self._words = words
        self._held = bytearray()
        self._over: Taking | None = None
        self._told_s = time.monotonic()

    def write(self, chunk: memoryview) -> None:
        """Hold the next bytes."""
        if self._over is None and len(self._held) + len(chunk) > self._most_bytes:
            self._hand_over()
        if self._over is not None:
            self._over.write(chunk)
            return
        self._held += chunk
        if (now_s := time.monotonic()) - self._told_s > COMING_S:
            self._told_s = now_s
            self._bench.tell_coming(self._words)

    def finish(self) -> None:
        """Make its file; returns when that is in its slot."""
        if self._over is None and self._bench.make(self._task, self._held, self._hints, self._words):
            return
        (self._over or self._hand_over()).finish()

    def abandon(self) -> None:
        """Forget it; the sender may send it again."""
        if self._over is not None:
            self._over.abandon()

    def _hand_over(self) -> Taking:
        over = self._over = self._bench.hand_over(self._words)
        over.write(memoryview(self._held))
        self._held = bytearray()
        return over


class _StagersDesk(Protocol):
    """What `moves.MoveDesk` has for workers."""

    def commissions(self, info: ObjectInfo) -> list[Commission]: ...
    def coming(self, info: ObjectInfo) -> None: ...
    def keep(self, info: ObjectInfo, file: Brought) -> None: ...
    def begin(self, info: ObjectInfo) -> ObjectSink: ...


class MoveAttendant:
    """The stager's side; see `plugin.attending.Attendant`. Where an object comes from is known here."""

    def __init__(self, desk: _StagersDesk, address: str) -> None:
        self._desk = desk
        self._address = address

    def commissions(self, words: Sequence[str]) -> Sequence[Commission]:
        """Tell what to make of an object and of those that may follow."""
        return self._desk.commissions(self._info(words))

    def coming(self, words: Sequence[str]) -> None:
        """Hear that an object is on its way."""
        self._desk.coming(self._info(words))

    def keep(self, words: Sequence[str], file: Brought) -> None:
        """Give a file to the slot that waits for it."""
        self._desk.keep(self._info(words), file)

    def begin(self, words: Sequence[str]) -> ObjectSink:
        """Take an object that is handed over."""
        return self._desk.begin(self._info(words))

    def _info(self, words: Sequence[str]) -> ObjectInfo:
        """Return what is told; ValueError where that is no object."""
        sop_class, sop_instance, transfer_syntax, calling, move_id = words
        return ObjectInfo(sop_class, sop_instance, transfer_syntax, calling, self._address, int(move_id))


def _words(info: ObjectInfo) -> tuple[str, ...]:
    """Return the words that describe an object."""
    return info.sop_class, info.sop_instance, info.transfer_syntax, info.calling, str(info.move_id)
