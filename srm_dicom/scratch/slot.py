"""A slot: plain bytes in, one complete file in scratch out; the slot seals, its writer cannot.

A file with a public key is sealed (`crypto.siv`); one without is stored as it is (the disk plugin's
unsealed files). A slot ends once, by `commit` or `refuse`, and tells its owner how, whatever happens: what is
no error of the tree, as of a disk that breaks, is one when it leaves here.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.crypto.crypt4gh import Buffer
from srm_dicom.crypto.digest import Digest, blake3_of
from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import InternalError, MdmError, NoSpace, ObjectRefused, TooLarge
from srm_dicom.ids import Guid
from srm_dicom.scratch.making import Finished, Recipe
from srm_dicom.scratch.node import Incoming
from srm_dicom.scratch.sessions import BroughtFile
from srm_dicom.scratch.spool import SealedSpool
from srm_dicom.scratch.workshop import Worker
from srm_dicom.telemetry import logger

log = logger("scratch")


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """Bounds of one slot; `spool` is the inner zone's directory for large objects."""

    spool: Path
    spool_above_bytes: int = 16 * 1024 * 1024
    max_bytes: int = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Filled:
    """A complete file that is not durable yet: its bytes and what is known of them.

    Attributes:
        header_blake3: of the Crypt4GH header; empty for a file that is not sealed.
        report: what the plugin did to it, for the audit trail.
    """

    guid: Guid
    incoming: Incoming
    size_bytes: int
    adler32: str
    blake3: str
    header_blake3: str = ""
    report: str = ""


Hire = Callable[[Recipe, int], Worker | None]
"""Takes a worker for an object of so many bytes, if one is idle: `Workshop.take`."""


class FileSlot:
    """The slot of one file.

    Args:
        guid: of the file.
        sealer: seals it; None for one that is stored as it is.
        begin: opens a file in scratch.
        settings: bounds.
        done: is called exactly once, with a `Filled` or with the failure.
        take: takes room in scratch for the whole file before it is begun; raises `NoSpace`.
        hire: finds who makes a file elsewhere; None makes all of them here.
    """

    def __init__(
        self,
        guid: Guid,
        sealer: Sealer | None,
        begin: Callable[[], Incoming],
        settings: SlotSettings,
        done: Callable[[Guid, Filled | MdmError], None],
        take: Callable[[int], None] = lambda _size_bytes: None,
        hire: Hire | None = None,
    ) -> None:
        self._guid = guid
        self._sealer = sealer
        self._hire = hire
        self._begin = begin
        self._done = done
        self._take = take
        self._spool = SealedSpool(
            settings.spool, memory_bytes=settings.spool_above_bytes, max_bytes=settings.max_bytes
        )
        self._max_bytes = settings.max_bytes
        self._open = True
        self._lock = threading.Lock()

    def write(self, data: Buffer) -> None:
        """Append plain bytes.

        Raises:
            TooLarge: the object is larger than a slot may be; the slot has failed.
            NoSpace: there is no room for it to wait; the slot has failed.
            InternalError: it could not be written, and the slot has failed; or it had ended.
        """
        if not self._open:
            raise InternalError("a slot was written after its end")
        if self._sealer is not None:
            self._sealer.absorb(data)
        try:
            self._spool.write(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the owner has to hear of it
            failure = _told(error)
            self.fail(failure)
            raise failure from None

    def commit(self, report: str = "") -> None:
        """Seal what was written; when this returns the file is complete in scratch.

        Args:
            report: what was done to the file, for the audit trail.

        Raises:
            NoSpace: scratch is full; the slot has failed.
            InternalError: it could not be written; the slot has failed.
        """
        self._end()
        self._settled(lambda: self._sealed(self._spool.replay(), self._spool.size_bytes, report))

    def fill(self, parts: Sequence[Buffer], report: str = "") -> None:
        """Write a whole file that is in memory, and commit: what is there waits in no spool.

        Raises:
            TooLarge: it is larger than a slot may be; the slot has failed.
            NoSpace, InternalError: as `commit`.
        """
        size_bytes = sum(map(len, parts))
        if size_bytes > self._max_bytes or self._spool.size_bytes:
            for part in parts:
                self.write(part)
            self.commit(report)
            return
        self._end()
        self._settled(lambda: self._whole(parts, size_bytes, report))

    def make(self, recipe: Recipe, data: Buffer, words: Sequence[str] = ()) -> bool:
        """Have a recipe make the file of an object that is in memory, here or in another process, and commit.

        Returns:
            False: the recipe declines; the slot is as before.

        Raises:
            MdmError: as the recipe does; the slot is as before.
            TooLarge, NoSpace, InternalError: as `fill`.
            Overloaded: the process that was at it has ended; the slot is as before.
        """
        worker = self._hire(recipe, len(data)) if self._hire is not None else None
        if worker is None:
            made = recipe(data, *words)
            if made is not None:
                self.fill(*made)
            return made is not None
        with worker:
            public_key = self._sealer.public_key if self._sealer is not None else b""
            file = worker.make(data, words, self._guid, public_key)
            if file is not None:
                self._end()
                self._settled(lambda: self._filled(file.facts, lambda: self._written([file.data])))
            return file is not None

    def keep(self, file: object) -> None:
        """Take over a file that a worker made where its object arrived, and commit.

        Raises:
            MdmError: as the recipe did; the slot is as before.
            TooLarge, NoSpace, InternalError: as `fill`; the slot has failed.
        """
        if not isinstance(file, BroughtFile) or file.guid != self._guid:
            raise InternalError("a file was brought to the slot of another")
        facts, bring = file.outcome, file.take
        if isinstance(facts, NoSpace):  # of the writing, and not of the recipe
            self.fail(facts)
        if isinstance(facts, MdmError):
            raise facts
        self._end()
        self._settled(lambda: self._filled(facts, bring))

    def refuse(self, reason: str) -> None:
        """Give the slot up for a class of reasons."""
        self.fail(ObjectRefused(reason))

    def fail(self, error: MdmError) -> None:
        """Give the slot up; does nothing when it has ended."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        self._tell(error)

    def _end(self) -> None:
        with self._lock:
            if not self._open:
                raise InternalError("a slot was ended twice")
            self._open = False

    def _settled(self, write: Callable[[], Filled]) -> None:
        """Write the file, and tell the owner how that went."""
        try:
            filled = write()
        except BaseException as error:  # noqa: BLE001 - as in `write`
            failure = _told(error)
            self._tell(failure)
            raise failure from None
        self._tell(filled)

    def _tell(self, outcome: Filled | MdmError) -> None:
        """Forget what waited, and tell the owner."""
        with suppress(Exception):
            self._spool.close()
        self._done(self._guid, outcome)

    def _whole(self, parts: Sequence[Buffer], size_bytes: int, report: str) -> Filled:
        """Seal what is in memory."""
        if self._sealer is not None:
            for part in parts:
                self._sealer.absorb(part)
        return self._sealed(parts, size_bytes, report)

    def _sealed(self, clear: Iterable[Buffer], size_bytes: int, report: str) -> Filled:
        """Seal what is clear on its way, where it has to be."""
        sealed = self._sealer.seal() if self._sealer is not None else None
        self._take(size_bytes if sealed is None else sealed.size_bytes)
        digest = Digest()
        incoming = self._written(digest.passing(clear if sealed is None else sealed.file(clear)))
        header_blake3 = blake3_of(sealed.header) if sealed is not None else ""
        return Filled(
            self._guid, incoming, digest.size_bytes, digest.adler32, digest.blake3, header_blake3, report
        )

    def _filled(self, facts: Finished, bring: Callable[[], Incoming]) -> Filled:
        """Take over what a worker has made; `bring` has its bytes in scratch, once there is room."""
        if facts.size_bytes > self._max_bytes:
            raise TooLarge(f"an object has at most {self._max_bytes} bytes")
        self._take(facts.size_bytes)
        return Filled(
            self._guid,
            bring(),
            facts.size_bytes,
            facts.adler32,
            facts.blake3,
            facts.header_blake3,
            facts.report,
        )

    def _written(self, file: Iterable[Buffer]) -> Incoming:
        incoming = self._begin()
        try:
            for piece in file:
                incoming.write(piece)
            incoming.finish()
        except BaseException:
            with suppress(OSError):
                incoming.discard()
            raise
        return incoming


def _told(error: BaseException) -> MdmError:
    """Return an error of the tree: of another one the log has class and number, not its text."""
    if isinstance(error, MdmError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    log.error("slot_failed", error=type(error).__name__, reason=errno.errorcode.get(number or 0, "unknown"))
    return InternalError("a file could not be written to scratch; the site's log has the details")
