"""Processes that make files: de-identifying and sealing on every core, whatever the interpreter allows.

A thread that has an object takes a worker, has the file made, and writes it into scratch itself; a worker has
neither a socket to anybody else nor a file, and when it dies nothing of it is left. Nobody waits for one:
who finds none idle makes the file in its own thread.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import count
from types import TracebackType
from typing import NamedTuple

import msgspec

from srm_dicom.crypto.crypt4gh import Buffer
from srm_dicom.errors import InternalError, MdmError, Overloaded, leaves
from srm_dicom.ids import Guid
from srm_dicom.scratch.making import (
    MOST_PACKET_BYTES,
    MOST_RECIPES,
    Answer,
    Begin,
    Declined,
    Failed,
    Finished,
    Lacks,
    Learn,
    Make,
    Order,
    Ready,
    Recipe,
)
from srm_dicom.telemetry import logger
from srm_dicom.waits import bound_waits

START_S, WORK_S, END_S = 60.0, 120.0, 5.0
"""How long a worker may take to begin, to make one file, and to end."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before one that ended is replaced; twice as long each time, as long as they do not make a file."""

KEPT_BYTES = 4 * 1024 * 1024
"""Memory that stays with a worker's place; what a larger object took is given back."""

log = logger("workshop")

_LEAVES = {leaf.__name__: leaf for leaf in leaves()}
_read_answer = msgspec.msgpack.Decoder(Answer).decode
_encode = msgspec.msgpack.Encoder().encode


class MadeFile(NamedTuple):
    """A file that a worker made; its bytes are there until the worker is given back."""

    data: memoryview
    facts: Finished


class _Packed(NamedTuple):
    number: int
    pickled: bytes


class Workshop:
    """The workers of one process.

    Args:
        command: starts one; the numbers of three descriptors follow: the channel, objects, files.
        workers: how many.
        room_bytes: the largest object, and the largest file, that goes by way of a worker.
        seal_key: what they seal with.
        modules: what they load before there is work.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        *,
        room_bytes: int,
        seal_key: bytes,
        modules: Sequence[str] = (),
    ) -> None:
        self._command = tuple(command)
        self._workers = workers
        self._room_bytes = room_bytes
        self._begin = Begin(seal_key, tuple(modules))
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._pause_s = FIRST_PAUSE_S
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._numbers = count(1)
        self._pack = lru_cache(maxsize=MOST_RECIPES)(self._packed)

    def start(self) -> None:
        """Start the workers; each is there when it is ready."""
        for _ in range(self._workers):
            self._hire(0.0)

    def stop(self) -> None:
        """Let go of the workers, those at work too."""
        self._stopped.set()
        with self._lock:
            workers, self._all, self._idle = list(self._all), set(), []
        for worker in workers:
            worker.end()

    @property
    def idle(self) -> int:
        """How many wait for work."""
        return len(self._idle)

    @property
    def pids(self) -> list[int]:
        """The processes."""
        with self._lock:
            return [worker.pid for worker in self._all]

    def take(self, recipe: Recipe, size_bytes: int) -> Worker | None:
        """Take a worker for one object, as a context that gives it back.

        Returns:
            None: none is idle, or the object or the recipe does not go by way of one.
        """
        if size_bytes > self._room_bytes or not self._idle or (packed := self._pack(recipe)) is None:
            return None
        with suppress(IndexError):
            worker = self._idle.pop()
            worker.packed = packed
            return worker
        return None

    def _packed(self, recipe: Recipe) -> _Packed | None:
        try:
            pickled = pickle.dumps(recipe)
        except Exception as error:  # noqa: BLE001 - whatever a plugin has put into it
            log.warning("recipe_stays", error=type(error).__name__)
            return None
        return _Packed(next(self._numbers), pickled) if len(pickled) <= self._room_bytes else None

    def _hire(self, pause_s: float) -> None:
        threading.Thread(target=self._hired, args=(pause_s,), name="workshop", daemon=True).start()

    def _hired(self, pause_s: float) -> None:
        if self._stopped.wait(pause_s):
            return
        worker = None
        try:
            worker = Worker(self._command, self._room_bytes, self._given_back)
            with self._lock:
                self._all.add(worker)
            worker.begin(self._begin)
        except (OSError, MdmError) as error:
            log.warning("worker_failed", error=type(error).__name__)
            self._replace(worker)
            return
        with self._lock:
            if self._stopped.is_set():
                worker.end()
            else:
                self._idle.append(worker)

    def _given_back(self, worker: Worker, *, well: bool) -> None:
        if not well:
            self._replace(worker)
            return
        self._pause_s = FIRST_PAUSE_S
        self._idle.append(worker)

    def _replace(self, worker: Worker | None) -> None:
        if worker is not None:
            with self._lock:
                self._all.discard(worker)
            worker.end()
        if not self._stopped.is_set():
            self._hire(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class Worker:
    """One process, lent to one thread at a time."""

    def __init__(self, command: Sequence[str], room_bytes: int, give_back: Callable[..., None]) -> None:
        """Start it; raises `OSError`."""
        self.packed = _Packed(0, b"")
        self._give_back = give_back
        self._well = True
        self._taken_bytes = 0
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        rooms = [_room(room_bytes) for _ in range(2)]
        try:
            self._objects, self._files = (mmap.mmap(room, room_bytes) for room in rooms)
            descriptors = (theirs.fileno(), *rooms)
            self._process = subprocess.Popen(
                [*command, *map(str, descriptors)], pass_fds=descriptors, stdin=subprocess.DEVNULL
            )
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
            for room in rooms:
                os.close(room)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def begin(self, order: Begin) -> None:
        """Tell it what it needs, and wait until it is ready.

        Raises:
            Overloaded: it ended, or was late.
        """
        bound_waits(self._channel, START_S)
        self._tell(order)
        bound_waits(self._channel, WORK_S)

    def make(self, data: Buffer, words: Sequence[str], guid: Guid, public_key: bytes) -> MadeFile | None:
        """Have a file made by the recipe that the worker was taken for; None when it is declined.

        Raises:
            MdmError: as the recipe does.
            Overloaded: the worker ended, or was late.
        """
        order = Make(self.packed.number, len(data), tuple(words), guid, public_key)
        self._put(data)
        answer = self._ask(order)
        if isinstance(answer, Lacks):
            self._put(self.packed.pickled)
            self._tell(Learn(self.packed.number, len(self.packed.pickled)))
            self._put(data)
            answer = self._ask(order)
        if isinstance(answer, Failed):
            raise _LEAVES.get(answer.leaf, InternalError)(answer.message)
        if isinstance(answer, Declined):
            return None
        if not isinstance(answer, Finished) or answer.size_bytes > len(self._files):
            raise self._lost()
        return MadeFile(memoryview(self._files)[: answer.size_bytes], answer)

    def end(self) -> None:
        """Have it end, whatever it is at."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)  # whoever waits for its answer hears that none comes
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken_bytes > KEPT_BYTES:
            self._taken_bytes = 0
            for room in (self._objects, self._files):
                room.madvise(mmap.MADV_REMOVE)
        self._give_back(self, well=self._well)

    def _put(self, data: Buffer) -> None:
        self._taken_bytes = max(self._taken_bytes, len(data))
        self._objects[: len(data)] = data

    def _tell(self, order: Begin | Learn) -> None:
        """Say something that is answered by being ready."""
        if not isinstance(self._ask(order), Ready):
            raise self._lost()

    def _ask(self, order: Order) -> Answer:
        try:
            self._channel.sendall(_encode(order))
            packet = self._channel.recv(MOST_PACKET_BYTES)
            answer: Answer = _read_answer(packet)
        except (OSError, msgspec.MsgspecError):
            raise self._lost() from None
        return answer

    def _lost(self) -> Overloaded:
        """Give the worker up; what it was at may be asked for again."""
        self._well = False
        log.warning("worker_lost", pid=self.pid)
        return Overloaded("a process that makes files has ended; it is replaced")


def _room(size_bytes: int) -> int:
    """Return a descriptor of memory that no side can take away below the other's feet."""
    room = os.memfd_create("room", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(room, size_bytes)
    fcntl.fcntl(room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return room
