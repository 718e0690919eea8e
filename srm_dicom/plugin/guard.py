"""Slots and sinks as a plugin sees them: each used once, within bounds, and shut when their time is up."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence

from srm_dicom.errors import InternalError, MdmError, NotDelivered, ObjectRefused, TooLarge
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Batch, FileRef, Sink, Slot
from srm_dicom.plugin.attending import Brought, Recipe

_REASON = re.compile(r"(?!.*\d{5})[A-Za-z][A-Za-z0-9 _,/()-]{0,119}\Z")
"""Words, and places such as (0028,0301); no dots and no long numbers, so no UID, date or identifier."""

Outcomes = Mapping[Guid, MdmError | None]
"""For each file of a batch: None when its slot was committed in time, else why not."""


class GuardedSlot:
    """A slot that counts bytes, ends once and is shut at the deadline."""

    def __init__(self, slot: Slot, max_bytes: int) -> None:
        self._slot = slot
        self._left_bytes = max_bytes
        self._lock = threading.Lock()
        self._ended = False
        self._shut = False
        self.committed = False
        self.refusal: ObjectRefused | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `Slot.write`."""
        with self._lock:
            self._be_usable()
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                raise TooLarge("the file is larger than a file may be")
            self._slot.write(data)

    def commit(self, report: str = "") -> None:
        """See `Slot.commit`."""
        with self._lock:
            self._be_usable()
            self._ended = True
            self._slot.commit(report)
            self.committed = not self._shut

    def fill(self, parts: Sequence[bytes | bytearray | memoryview], report: str = "") -> None:
        """See `Slot.fill`."""
        with self._lock:
            self._be_usable()
            self._left_bytes -= sum(map(len, parts))
            if self._left_bytes < 0:
                raise TooLarge("the file is larger than a file may be")
            self._ended = True
            self._slot.fill(parts, report)
            self.committed = not self._shut

    def make(self, recipe: Recipe, data: bytes | bytearray | memoryview, words: Sequence[str] = ()) -> bool:
        """See `Slot.make`."""
        with self._lock:
            self._be_usable()
            if len(data) > self._left_bytes:
                raise TooLarge("the file is larger than a file may be")
            self._ended = self._slot.make(recipe, data, words)
            self.committed = self._ended and not self._shut
            return self._ended

    def keep(self, file: Brought) -> None:
        """See `Slot.keep`."""
        with self._lock:
            self._be_usable()
            self._slot.keep(file)
            self._ended = True
            self.committed = not self._shut

    def refuse(self, reason: str) -> None:
        """See `Slot.refuse`; what is no class of reasons is not told."""
        with self._lock:
            self._be_usable()
            self._ended = True
            self.refusal = ObjectRefused(reason if _REASON.match(reason) else "unspecified")
            self._slot.refuse(self.refusal.message)

    def shut(self) -> None:
        """Take nothing more."""
        self._shut = True

    def _be_usable(self) -> None:
        if self._shut:
            raise NotDelivered("the time of this slot is up")
        if self._ended:
            raise InternalError("a slot was used after its end")


class GuardedSink:
    """A sink for the files of one batch, each once."""

    def __init__(self, sink: Sink, batch: Batch, max_file_bytes: int) -> None:
        self._sink = sink
        self._max_file_bytes = max_file_bytes
        self._files = tuple(ref.guid for ref in batch.files)
        self._unopened = set(self._files)
        self._slots: dict[Guid, GuardedSlot] = {}
        self._lock = threading.Lock()
        self._closed = False

    def is_wanted(self) -> bool:
        """See `Sink.is_wanted`; nobody waits beyond the deadline."""
        return not self._closed and self._sink.is_wanted()

    def open(self, ref: FileRef) -> GuardedSlot:
        """See `Sink.open`."""
        with self._lock:
            if self._closed:
                raise NotDelivered("the time of this batch is up")
            if ref.guid not in self._unopened:
                raise InternalError("a slot was opened twice, or for a file that is not in the batch")
            self._unopened.remove(ref.guid)
        slot = GuardedSlot(self._sink.open(ref), self._max_file_bytes)
        with self._lock:
            if self._closed:
                raise NotDelivered("the time of this batch is up")
            self._slots[ref.guid] = slot
        return slot

    def close(self) -> None:
        """Shut every slot, and open none any more."""
        with self._lock:
            self._closed = True
            for slot in self._slots.values():
                slot.shut()

    def outcomes(self, otherwise: MdmError) -> Outcomes:
        """Return how each file ended; `otherwise` is why one without a slot did."""
        return {guid: _outcome(self._slots.get(guid), otherwise) for guid in self._files}


def _outcome(slot: GuardedSlot | None, otherwise: MdmError) -> MdmError | None:
    if slot is None:
        return otherwise
    return None if slot.committed else slot.refusal or otherwise
