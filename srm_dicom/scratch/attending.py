"""Attending a connection in a worker: what is said over a session's channel, and the worker's side of it.

A session is a connection and a channel to the stager, where a `sessions.Session` listens. The worker asks
what is waited for, makes the files of many objects by one answer, and writes each into a blank, a file that
was opened for it: it gets descriptors, and no way to a name. So an object costs the stager one message, which
nobody waits for. What cannot be made here goes to the stager piece by piece.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from srm_dicom.crypto.crypt4gh import Buffer
from srm_dicom.crypto.digest import Digest
from srm_dicom.errors import InternalError, MdmError
from srm_dicom.scratch.area import no_space
from srm_dicom.scratch.making import (
    MOST_PACKET_BYTES,
    Failed,
    Finished,
    Recipe,
    failed,
    failure_of,
    finished,
    sealed_of,
)
from srm_dicom.telemetry import logger
from srm_dicom.waits import bound_waits

MOST_BLANKS = 100
"""Files that are open for one session, and of which nothing is known yet: as many as a message may carry
(253) and eight sessions of a worker may have below the usual limit of 1,024 descriptors."""

PIECE_BYTES = 64 * 1024

ANSWER_S = 1800.0
"""How long the stager may take to answer: an object that was handed over may be large."""

log = logger("worker")


class Attend(msgspec.Struct, frozen=True, tag=True):
    """The stager's first word: the pickled program, and what its bench is to know."""

    program: bytes
    seal_key: bytes
    most_bytes: int


class Asked(msgspec.Struct, frozen=True, tag=True):
    """What is to be made of an object?"""

    words: tuple[str, ...]


class Task(msgspec.Struct, frozen=True):
    """A file to make; `recipe` is its number in this session."""

    name: str
    words: tuple[str, ...]
    recipe: int
    guid: str
    public_key: bytes


class Tasks(msgspec.Struct, frozen=True, tag=True):
    """The answer, with the pickled recipes that were not told before, and blanks."""

    tasks: tuple[Task, ...]
    recipes: dict[int, bytes]
    blanks: tuple[str, ...]


class Coming(msgspec.Struct, frozen=True, tag=True):
    """An object is still arriving; no answer."""

    words: tuple[str, ...]


class Lacking(msgspec.Struct, frozen=True, tag=True):
    """So many files are needed to write into."""

    count: int


class Blanks(msgspec.Struct, frozen=True, tag=True):
    """The answer; their descriptors come with it, in the same order."""

    ids: tuple[str, ...]


class Made(msgspec.Struct, frozen=True, tag=True):
    """The file of an object was written into a blank, or failed; no answer."""

    words: tuple[str, ...]
    guid: str
    blank: str
    outcome: Finished | Failed


class Over(msgspec.Struct, frozen=True, tag=True):
    """An object is handed over; no answer."""

    words: tuple[str, ...]


class Piece(msgspec.Struct, frozen=True, tag=True):
    """The next bytes of it; no answer."""

    data: bytes


class Dropped(msgspec.Struct, frozen=True, tag=True):
    """The rest of it will not come; no answer."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """It is whole: what became of it?"""


class Taken(msgspec.Struct, frozen=True, tag=True):
    """The answer, where that is not `Failed`."""


class Left(msgspec.Struct, frozen=True, tag=True):
    """The worker's last word; no answer."""


Said = Asked | Coming | Lacking | Made | Over | Piece | Dropped | Ended | Left
Told = Tasks | Blanks | Taken | Failed

encode = msgspec.msgpack.Encoder().encode
read_said = msgspec.msgpack.Decoder(Said).decode
_read_attend = msgspec.msgpack.Decoder(Attend).decode
_read_told = msgspec.msgpack.Decoder(Told).decode


class _Blank(NamedTuple):
    id: str
    descriptor: int


class Bench:
    """The bench of one session; see `plugin.attending.Bench`.

    Attributes:
        most_bytes: of an object that is made here.
        busy_since_s: monotonic time since when a file is being made; None while none is.
    """

    def __init__(self, channel: socket.socket, seal_key: bytes, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.busy_since_s: float | None = None
        self._channel = channel
        self._seal_key = seal_key
        self._recipes: dict[int, Recipe] = {}
        self._blanks: deque[_Blank] = deque()
        self._expected = 0

    def ask(self, words: Sequence[str]) -> Sequence[Task]:
        """Tell what arrives; see `plugin.attending.Bench`."""
        told = self._ask(Asked(tuple(words)))
        if not isinstance(told, Tasks):
            raise InternalError("a stager told something else than it was asked")
        for number, pickled in told.recipes.items():
            self._recipes[number] = pickle.loads(pickled)  # noqa: S301 - the stager's
        needed = {task.recipe for task in told.tasks}  # the stager knows that others are forgotten
        self._recipes = {number: recipe for number, recipe in self._recipes.items() if number in needed}
        self._expected = len(told.tasks)
        return told.tasks

    def tell_coming(self, words: Sequence[str]) -> None:
        """Tell that an object is still arriving."""
        self._say(Coming(tuple(words)))

    def make(self, task: Task, data: Buffer, hints: Sequence[str], words: Sequence[str]) -> bool:
        """Make a file of an object; see `plugin.attending.Bench`."""
        self.busy_since_s = time.monotonic()
        blank = ""
        try:
            made = self._recipes[task.recipe](data, *hints)
            if made is None:
                return False
            parts, report = made
            sealed = sealed_of(parts, self._seal_key, task.guid, task.public_key)
            blank, descriptor = self._blank()
            digest = _written(parts if sealed is None else sealed.file(parts), descriptor)
            outcome = finished(digest, sealed, report)
        except MdmError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the edge of a worker
            log.error("making_failed", error=type(error).__name__)  # noqa: TRY400 - a traceback may hold values
            failure = InternalError("a file could not be made")
        else:
            self._say(Made(tuple(words), task.guid, blank, outcome))
            return True
        finally:
            self._expected -= 1
            self.busy_since_s = None
        self._say(Made(tuple(words), task.guid, blank, failed(failure)))
        raise failure

    def hand_over(self, words: Sequence[str]) -> HandingOver:
        """Return what takes an object to the stager."""
        self._say(Over(tuple(words)))
        return HandingOver(self._say, self._ask)

    def leave(self) -> None:
        """Say that the session is over, and wait until the stager has heard all of it."""
        for blank in self._blanks:
            os.close(blank.descriptor)
        self._say(Left())
        self._channel.shutdown(socket.SHUT_WR)
        self._channel.recv(1)

    def _blank(self) -> _Blank:
        if not self._blanks:
            self._ask(Lacking(min(max(1, self._expected), MOST_BLANKS)))
        return self._blanks.popleft()

    def _say(self, word: Said) -> None:
        self._channel.sendall(encode(word))

    def _ask(self, word: Said) -> Told:
        self._say(word)
        packet, descriptors, _, _ = socket.recv_fds(self._channel, MOST_PACKET_BYTES, MOST_BLANKS)
        if not packet:
            raise ConnectionError
        told: Told = _read_told(packet)
        if isinstance(told, Failed):
            raise failure_of(told)
        if isinstance(told, Tasks | Blanks):
            ids = told.blanks if isinstance(told, Tasks) else told.ids
            self._blanks += map(_Blank, ids, descriptors)
        return told


class HandingOver:
    """Takes one object to the stager."""

    def __init__(self, say: Callable[[Said], None], ask: Callable[[Said], Told]) -> None:
        self._say = say
        self._ask = ask

    def write(self, chunk: Buffer) -> None:
        """Send the next bytes."""
        for at in range(0, len(chunk), PIECE_BYTES):
            self._say(Piece(bytes(chunk[at : at + PIECE_BYTES])))

    def finish(self) -> None:
        """Return when it is dealt with; raises what the stager does."""
        self._ask(Ended())

    def abandon(self) -> None:
        """Say that the rest will not come."""
        self._say(Dropped())


def _written(pieces: Iterable[Buffer], descriptor: int) -> Digest:
    """Write a file, and return what is known of it; raises `NoSpace`."""
    digest = Digest()
    try:
        for piece in digest.passing(pieces):
            view = memoryview(piece)
            while view:
                with no_space():
                    view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    return digest


class Attended:
    """The sessions of a worker.

    Attributes:
        sessions: their benches.
    """

    def __init__(self) -> None:
        self.sessions: set[Bench] = set()

    def is_stuck(self, longest_s: float) -> bool:
        """Tell whether one makes a file for longer than that."""
        since = [bench.busy_since_s for bench in tuple(self.sessions)]
        now_s = time.monotonic()
        return any(now_s - each > longest_s for each in since if each is not None)

    def serve(self, connection: socket.socket, channel: socket.socket) -> None:
        """Attend a connection until it is over."""
        with connection, channel:
            try:
                bound_waits(channel, ANSWER_S)
                first: Attend = _read_attend(channel.recv(MOST_PACKET_BYTES))
                bench = Bench(channel, first.seal_key, first.most_bytes)
                self.sessions.add(bench)
                try:
                    pickle.loads(first.program)(connection, bench)  # noqa: S301 - the stager's
                    bench.leave()
                finally:
                    self.sessions.discard(bench)
            except OSError:
                log.info("session_lost")
            except Exception as error:  # noqa: BLE001 - others must go on
                log.error("attending_failed", error=type(error).__name__)  # noqa: TRY400 - as in `make`
