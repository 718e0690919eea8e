"""What a plugin and its host say to each other about connections that a worker attends.

A plugin that accepts connections can leave one to a process that reads what strangers send, makes files of
it and answers, and holds what its recipes need and no way to anybody else. There a `Program` of the plugin
runs, with a `Bench`; here an `Attendant` of the plugin tells it what is waited for and takes what was made.
Both describe an object by words of the plugin's own, which nobody else reads.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from srm_dicom.ids import Guid

Buffer = bytes | bytearray | memoryview
Recipe = Callable[..., "tuple[Sequence[Buffer], str] | None"]
"""Makes a file of an object: called with its bytes and a few words, in this process or, as a pickled copy, in
another. It returns the parts of the plain file and the report of `Slot.commit`, or None to decline, and
raises errors of the tree. It keeps nothing of an object, and does nothing but compute."""


class Brought(Protocol):
    """A file that was made where its object arrived, or why there is none; `Slot.keep` takes it."""

    @property
    def guid(self) -> Guid:
        """Of the file."""
        ...


class Commission(NamedTuple):
    """A file to make as soon as its object arrives.

    Attributes:
        name: what the program calls the object.
        words: what else the program has to know of it.
        recipe: makes the file.
        public_key: of the file, as `FileRef` has it.
    """

    name: str
    words: tuple[str, ...]
    recipe: Recipe
    guid: Guid
    public_key: bytes


class Task(Protocol):
    """A commission as the program has it."""

    @property
    def name(self) -> str:
        """What the program calls the object."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """What else it has to know of it."""
        ...


class Taking(Protocol):
    """Takes one object; methods may raise errors of the tree."""

    def write(self, chunk: memoryview) -> None:
        """Take the next bytes; the view is valid during the call only."""
        ...

    def finish(self) -> None:
        """Return when the object is dealt with."""
        ...

    def abandon(self) -> None:
        """The rest will not come."""
        ...


class Bench(Protocol):
    """What a program works with, on the worker's side."""

    @property
    def most_bytes(self) -> int:
        """A larger object is handed over, for it has no place in a worker."""
        ...

    def ask(self, words: Sequence[str]) -> Sequence[Task]:
        """Tell what arrives; returns what is to be made of it, and of others that may arrive next.

        What was returned before holds no more.

        Raises:
            MdmError: as `Attendant.commissions` does.
        """
        ...

    def tell_coming(self, words: Sequence[str]) -> None:
        """Tell that an object is still arriving."""
        ...

    def make(self, task: Task, data: Buffer, hints: Sequence[str], words: Sequence[str]) -> bool:
        """Make a file of an object; when this returns it is complete in its slot.

        Args:
            task: of the object.
            data: the object.
            hints: words for the recipe.
            words: describe the object.

        Returns:
            False: the recipe declines; the object is to be handed over.

        Raises:
            MdmError: as the recipe does; the attendant hears of it.
            NoSpace: there is no room for the file.
        """
        ...

    def hand_over(self, words: Sequence[str]) -> Taking:
        """Return what takes an object to the attendant."""
        ...


class Attendant(Protocol):
    """What a plugin answers to its programs."""

    def commissions(self, words: Sequence[str]) -> Sequence[Commission]:
        """Tell what is to be made of an object, and of some that may follow it on the same connection.

        Returns:
            The first is of this object; none when it has to be handed over.

        Raises:
            MdmError: nobody waits for it.
        """
        ...

    def coming(self, words: Sequence[str]) -> None:
        """Hear that an object is still arriving."""
        ...

    def keep(self, words: Sequence[str], file: Brought) -> None:
        """Give a file to the slot that waits for it, if one does: others may have brought it too.

        Raises:
            MdmError: as `Slot.keep` does; the sender of the object has had its answer.
        """
        ...

    def begin(self, words: Sequence[str]) -> Taking:
        """Take an object that is handed over; raises errors of the tree."""
        ...


Program = Callable[[socket.socket, Bench], None]
"""What a worker does with a connection, until that is over; a pickled copy of the plugin's."""


class Attending(Protocol):
    """The host's workers, as far as they attend connections."""

    def attend(
        self, connection: socket.socket, program: Program, attendant: Attendant, silent_s: float
    ) -> bool:
        """Leave a connection to a worker, and return when that is done with it.

        Args:
            connection: stays open here as well.
            program: what the worker does.
            attendant: what is told to whom, and taken.
            silent_s: how long the program may wait for the other side without a word to the attendant; a
                worker that is silent for much longer is given up.

        Returns:
            False: no worker can; the connection is as before.
        """
        ...

    def catch_up(self) -> None:
        """Return when attendants have heard all that workers had told when this was called."""
        ...
