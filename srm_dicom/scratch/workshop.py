"""Processes that make files: de-identifying and sealing on every core, whatever the interpreter allows.

A thread that has an object takes a worker, has the file made, and writes it into scratch itself. A thread
that has a connection leaves it to a worker (`sessions`), which reads, makes and answers, and writes into
files that were opened for it. A worker reaches nobody else, and no file by a name; when it dies nothing of it
is left. Nobody waits for one: who finds none idle makes the file, or attends, in its own thread.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import count
from types import TracebackType
from typing import NamedTuple

import msgspec

from srm_dicom.crypto.crypt4gh import Buffer
from srm_dicom.errors import MdmError, Overloaded
from srm_dicom.ids import Guid
from srm_dicom.scratch.attending import Attend
from srm_dicom.scratch.making import (
    MOST_PACKET_BYTES,
    MOST_RECIPES,
    WORK_S,
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
    failure_of,
)
from srm_dicom.scratch.sessions import Attendant, Blank, Session
from srm_dicom.telemetry import logger
from srm_dicom.waits import bound_waits

START_S, END_S = 60.0, 5.0
"""How long a worker may take to begin, and to end."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before one that ended is replaced; twice as long each time, as long as they do not make a file."""

MOST_ATTENDED, CATCH_UP_S = 8, 5.0
"""Connections that one worker attends at a time, and how long it may take to hear what they have told."""

KEPT_BYTES = 4 * 1024 * 1024
"""Memory that stays with a worker's place; what a larger object took is given back."""

log = logger("workshop")

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

    Attributes:
        modules: what they load before there is work, those that are started from now on.

    Args:
        command: starts one; the numbers of four descriptors follow: the channel, objects, files, the door.
        workers: how many.
        room_bytes: the largest object, and the largest file, that goes by way of a worker.
        seal_key: what they seal with.
        attended_bytes: the largest object of a connection that they attend; others are handed over.
        begin: opens a file for them to write into; None where such files are not on this machine, and no
            connection is attended.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        *,
        room_bytes: int,
        seal_key: bytes,
        modules: Sequence[str] = (),
        attended_bytes: int = 0,
        begin: Callable[[], Blank] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._workers = workers
        self._room_bytes = room_bytes
        self._seal_key = seal_key
        self.modules = modules
        self._attended_bytes = attended_bytes
        self._begin = begin
        self._sessions: dict[Session, Worker] = {}
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

    def attend(
        self,
        connection: socket.socket,
        program: Callable[..., None],
        attendant: Attendant,
        silent_s: float,
    ) -> bool:
        """Leave a connection to a worker, and return when that is done with it; see `plugin.attending`."""
        if self._begin is None:
            return False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        first = Attend(pickle.dumps(program), self._seal_key, self._attended_bytes)
        with theirs, Session(ours, attendant, self._pack, self._begin) as session:
            worker = self._lend_to(session)
            if worker is None:
                return False
            try:
                is_let_in = worker.let_in(connection, theirs)
                theirs.close()
                is_well = is_let_in and session.run(first, silent_s)
            finally:
                with self._lock:
                    del self._sessions[session]
        if not (is_well or self._stopped.is_set()):
            log.warning("worker_lost", pid=worker.pid)
            self._replace(worker)
        return is_let_in

    def catch_up(self) -> None:
        """Return when attendants have heard all that workers had told; see `plugin.attending`."""
        with self._lock:
            sessions = list(self._sessions)
        end_s = time.monotonic() + CATCH_UP_S
        for session in sessions:
            session.catch_up(end_s)

    def _lend_to(self, session: Session) -> Worker | None:
        """Return whoever attends fewest connections; None if all attend as many as they may."""
        with self._lock:
            attending = Counter(self._sessions.values())
            ready = [worker for worker in self._all if worker.is_ready]
            worker = min(ready, key=attending.__getitem__, default=None)
            if worker is None or attending[worker] >= MOST_ATTENDED:
                return None
            self._sessions[session] = worker
            return worker

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
            worker.begin(Begin(self._seal_key, tuple(self.modules)))
        except (OSError, MdmError) as error:
            log.warning("worker_failed", error=type(error).__name__)
            self._replace(worker)
            return
        with self._lock:
            if self._stopped.is_set():
                worker.end()
            elif worker in self._all:
                worker.is_ready = True
                self._idle.append(worker)

    def _given_back(self, worker: Worker, *, well: bool) -> None:
        if not well:
            self._replace(worker)
            return
        self._pause_s = FIRST_PAUSE_S
        with self._lock:
            if worker in self._all:
                self._idle.append(worker)

    def _replace(self, worker: Worker | None) -> None:
        """Start another in the place of one that has ended, whoever finds that."""
        if worker is not None:
            with self._lock:
                if worker not in self._all:
                    return
                self._all.remove(worker)
                with suppress(ValueError):
                    self._idle.remove(worker)
            worker.end()
        if not self._stopped.is_set():
            self._hire(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class Worker:
    """One process, lent to one thread at a time; besides, it attends connections.

    Attributes:
        is_ready: whether it has begun.
    """

    def __init__(self, command: Sequence[str], room_bytes: int, give_back: Callable[..., None]) -> None:
        """Start it; raises `OSError`."""
        self.packed = _Packed(0, b"")
        self._give_back = give_back
        self._well = True
        self._taken_bytes = 0
        self.is_ready = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bound_waits(self._door, END_S)
        rooms = [_room(room_bytes) for _ in range(2)]
        try:
            self._objects, self._files = (mmap.mmap(room, room_bytes) for room in rooms)
            descriptors = (theirs.fileno(), *rooms, inside.fileno())
            self._process = subprocess.Popen(
                [*command, *map(str, descriptors)], pass_fds=descriptors, stdin=subprocess.DEVNULL
            )
        except BaseException:
            self._channel.close()
            self._door.close()
            raise
        finally:
            theirs.close()
            inside.close()
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
            raise failure_of(answer)
        if isinstance(answer, Declined):
            return None
        if not isinstance(answer, Finished) or answer.size_bytes > len(self._files):
            raise self._lost()
        return MadeFile(memoryview(self._files)[: answer.size_bytes], answer)

    def let_in(self, connection: socket.socket, channel: socket.socket) -> bool:
        """Have it attend a connection; tells whether it hears that."""
        try:
            socket.send_fds(self._door, [b"\0"], [connection.fileno(), channel.fileno()])
        except OSError:
            return False
        return True

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
