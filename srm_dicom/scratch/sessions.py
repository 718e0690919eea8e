"""A session as the stager has it: answers a worker that attends a connection, and takes what it made.

A worker has read what a stranger sent: what does not fit the schema ends the session, and the worker.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol

import msgspec

from srm_dicom.errors import MdmError, NoSpace, Overloaded
from srm_dicom.ids import Guid
from srm_dicom.scratch.attending import (
    MOST_BLANKS,
    Asked,
    Attend,
    Blanks,
    Coming,
    Dropped,
    Ended,
    Lacking,
    Left,
    Made,
    Over,
    Piece,
    Said,
    Taken,
    Task,
    Tasks,
    Told,
    encode,
    read_said,
)
from srm_dicom.scratch.making import MOST_PACKET_BYTES, WORK_S, Finished, Recipe, failed, failure_of
from srm_dicom.scratch.node import Incoming
from srm_dicom.telemetry import logger
from srm_dicom.waits import bound_waits

MOST_RECIPE_BYTES = 32 * 1024
"""One that is larger does not go with an answer; its objects are handed over."""

SAY_S = 30.0
"""How long a worker may take to read an answer."""

SILENT_S = WORK_S + SAY_S
"""A worker may be silent for so long beyond what its program may wait for the other side."""

LOOK_S = 0.0005

HEARD_EVERY_S = 0.004
"""For what a worker has made it waits for no answer, so several are heard together: to wake up for each costs
as much as hearing it, and takes a core from those who make the next."""

log = logger("workshop")


class Blank(Incoming, Protocol):
    """A file being written, by whoever has its descriptor."""

    @property
    def descriptor(self) -> int:
        """Of the file; `Incoming.finish` closes it here, and nowhere else."""
        ...

    @property
    def size_bytes(self) -> int:
        """What has been written."""
        ...


class BroughtFile:
    """A file that a worker made, or why it made none; it goes when nobody takes it.

    Attributes:
        outcome: what is known of it.
    """

    def __init__(self, guid: Guid, incoming: Incoming | None, outcome: Finished | MdmError) -> None:
        self.guid = guid
        self.outcome = outcome
        self._incoming = incoming

    def take(self) -> Incoming:
        """Take over its bytes.

        Raises:
            Overloaded: there are none.
        """
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            raise Overloaded("a worker has told of a file that is not there")
        return incoming

    def drop(self) -> None:
        """Drop what nobody has taken."""
        if self._incoming is not None:
            self._incoming.discard()


class Taking(Protocol):
    """See `plugin.attending.Taking`."""

    def write(self, chunk: memoryview, /) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> None:
        """Return when the object is dealt with."""
        ...

    def abandon(self) -> None:
        """The rest will not come."""
        ...


class Attendant(Protocol):
    """See `plugin.attending.Attendant`."""

    def commissions(
        self, words: Sequence[str], /
    ) -> Sequence[tuple[str, tuple[str, ...], Recipe, Guid, bytes]]:
        """Tell what is to be made of an object, and of some that may follow."""
        ...

    def coming(self, words: Sequence[str], /) -> None:
        """Hear that an object is still arriving."""
        ...

    def keep(self, words: Sequence[str], file: BroughtFile, /) -> None:
        """Give a file to the slot that waits for it."""
        ...

    def begin(self, words: Sequence[str], /) -> Taking:
        """Take an object that is handed over."""
        ...


Pack = Callable[[Recipe], "tuple[int, bytes] | None"]
"""Number and pickled copy of a recipe; None for one that stays."""


class Session:
    """One session; a context, which closes the channel and drops what is left of it."""

    def __init__(
        self, channel: socket.socket, attendant: Attendant, pack: Pack, begin: Callable[[], Blank]
    ) -> None:
        self._channel = channel
        self._attendant = attendant
        self._pack = pack
        self._begin = begin
        self._blanks: dict[str, Blank] = {}
        self._known: set[int] = set()
        self._taking: Taking | None = None
        self._failure: MdmError | None = None
        self._turn = threading.Lock()
        self._hurry = threading.Event()
        bound_waits(channel, SAY_S)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandon()
        for blank in self._blanks.values():
            blank.discard()
        with self._turn:
            self._channel.close()

    def run(self, first: Attend, silent_s: float) -> bool:
        """Tell a worker what to do, and listen to it until it leaves.

        Args:
            first: what it is told.
            silent_s: how long its program may wait for the other side of the connection.

        Returns:
            False: it went without a word, was silent for too long, or said what nobody says.
        """
        try:
            self._tell(first)
            poll = self._new_poll()
            while True:
                if not poll.poll(1e3 * (silent_s + SILENT_S)):
                    return False
                with self._turn:
                    said = self._hear()
                    if isinstance(said, Left):
                        return True
                    self._do(said)
                if isinstance(said, Made) and not poll.poll(0):
                    self._hurry.wait(HEARD_EVERY_S)
        except (OSError, EOFError, KeyError, ValueError, msgspec.MsgspecError):
            return False

    def catch_up(self, end_s: float) -> None:
        """Return when all is done that the worker had said, or at a monotonic time."""
        self._hurry.set()
        try:
            while (left_s := end_s - time.monotonic()) > 0 and self._turn.acquire(timeout=left_s):
                try:
                    if self._channel.fileno() < 0 or not self._new_poll().poll(0):
                        return
                finally:
                    self._turn.release()
                time.sleep(LOOK_S)
        finally:
            self._hurry.clear()

    def _new_poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        return poll

    def _hear(self) -> Said:
        try:
            packet = self._channel.recv(MOST_PACKET_BYTES)
        except ConnectionResetError:  # it has not read the last answer; what it has said is still there
            packet = self._channel.recv(MOST_PACKET_BYTES)
        if not packet:
            raise EOFError
        said: Said = read_said(packet)
        return said

    def _do(self, said: Said) -> None:
        match said:
            case Made():
                self._keep(said)
            case Asked():
                self._answer(lambda: self._tasks(said.words))
            case Coming():
                self._attendant.coming(said.words)
            case Lacking():
                self._answer(lambda: self._lacking(said.count))
            case Over():
                self._open(said.words)
            case Piece():
                self._write(said.data)
            case Ended():
                self._answer(self._finish)
            case Dropped():
                self._abandon()
            case Left():
                pass

    def _answer(self, make: Callable[[], tuple[Told, Sequence[Blank]]]) -> None:
        try:
            answer = make()
        except MdmError as error:
            answer = failed(error), ()
        self._tell(*answer)

    def _tell(self, word: Attend | Told, blanks: Sequence[Blank] = ()) -> None:
        try:
            socket.send_fds(self._channel, [encode(word)], [blank.descriptor for blank in blanks])
        finally:
            for blank in blanks:
                blank.finish()

    def _tasks(self, words: Sequence[str]) -> tuple[Tasks, Sequence[Blank]]:
        tasks: list[Task] = []
        recipes: dict[int, bytes] = {}
        for name, more, recipe, guid, public_key in self._attendant.commissions(words):
            packed = self._pack(recipe)
            if packed is None or len(packed[1]) > MOST_RECIPE_BYTES:
                break
            number, pickled = packed
            if number not in self._known:
                recipes[number] = pickled
            tasks.append(Task(name, more, number, guid, public_key))
        self._known = {task.recipe for task in tasks}  # the worker forgets the others
        new = self._new_blanks(len(tasks))
        return Tasks(tuple(tasks), recipes, tuple(blank.id for blank in new)), new

    def _lacking(self, count: int) -> tuple[Blanks, Sequence[Blank]]:
        new = self._new_blanks(count)
        if not new:
            raise NoSpace("scratch has no room for another file")
        return Blanks(tuple(blank.id for blank in new)), new

    def _new_blanks(self, count: int) -> list[Blank]:
        """Open files to be written, but for those that are open: as many as there is room for."""
        new: list[Blank] = []
        with suppress(NoSpace):
            for _ in range(min(count, MOST_BLANKS) - len(self._blanks)):
                blank = self._begin()
                self._blanks[blank.id] = blank
                new.append(blank)
        return new

    def _keep(self, made: Made) -> None:
        blank = self._blanks.pop(made.blank) if made.blank else None
        outcome = made.outcome if isinstance(made.outcome, Finished) else failure_of(made.outcome)
        file = BroughtFile(Guid(made.guid), blank, outcome)
        if blank is not None and isinstance(outcome, Finished) and blank.size_bytes != outcome.size_bytes:
            file.drop()
            raise ValueError("a worker has told another size than it has written")
        try:
            self._attendant.keep(made.words, file)
        except MdmError as error:
            log.info("not_kept", error=type(error).__name__)
        finally:
            file.drop()

    def _open(self, words: Sequence[str]) -> None:
        self._abandon()
        self._failure = None
        try:
            self._taking = self._attendant.begin(words)
        except MdmError as error:
            self._failure = error

    def _write(self, data: bytes) -> None:
        if self._taking is None:
            return
        try:
            self._taking.write(memoryview(data))
        except MdmError as error:
            self._failure = error
            self._abandon()

    def _finish(self) -> tuple[Taken, Sequence[Blank]]:
        taking, self._taking = self._taking, None
        if taking is None:
            raise self._failure or Overloaded("an object ended that had not begun")
        taking.finish()
        return Taken(), ()

    def _abandon(self) -> None:
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.abandon()
