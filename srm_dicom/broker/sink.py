"""Where a plugin's bytes go: one slot a file of the batch, sealed when the file has a public key."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import InternalError, MdmError
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import FileRef
from srm_dicom.scratch.node import Incoming
from srm_dicom.scratch.slot import FileSlot, Filled, SlotSettings
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.store.namespace import Entry


@dataclass(frozen=True, slots=True)
class Sealing:
    """How slots are filled.

    Attributes:
        key: the inner zone's for sealing; it opens nothing.
        slots: bounds of each.
        workshop: makes files in other processes; None makes them here.
    """

    key: bytes
    slots: SlotSettings
    workshop: Workshop | None = None


Outcome = tuple[Guid, Filled | MdmError]


class BatchSink:
    """The sink of one visit; outcomes are taken with `drain` as they happen, by another thread."""

    def __init__(
        self,
        entries: Sequence[Entry],
        sealing: Sealing,
        begin: Callable[[], Incoming],
        take: Callable[[int], None] = lambda _size_bytes: None,
    ) -> None:
        self._wanted: Mapping[Guid, Entry] = {entry.guid: entry for entry in entries if entry.guid}
        self._sealing = sealing
        self._begin = begin
        self._take = take
        self._slots: dict[Guid, FileSlot] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._left = len(self._wanted)
        self._complete = threading.Event()
        self._left_alone = threading.Event()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def open(self, ref: FileRef) -> FileSlot:
        """Open the slot of a file of this batch.

        Raises:
            InternalError: the batch has no such file, it has its slot already, or the visit is over.
        """
        entry = self._wanted.get(ref.guid)
        if entry is None:
            raise InternalError("a plugin opened a slot for a file that is not in its batch")
        sealer = Sealer(self._sealing.key, ref.guid, entry.public_key) if entry.public_key else None
        workshop, slots = self._sealing.workshop, self._sealing.slots
        hire = workshop.take if workshop is not None else None
        slot = FileSlot(ref.guid, sealer, self._begin, slots, self._done, self._take, hire)
        with self._lock:
            if self._closed or ref.guid in self._slots:
                raise InternalError("a slot was opened twice or too late")
            self._slots[ref.guid] = slot
        return slot

    def is_wanted(self) -> bool:
        """Tell whether anybody still waits for a file of the batch."""
        return not self._left_alone.is_set()

    def leave(self) -> None:
        """Say that nobody waits any more for what has not come: the plugin may leave the source."""
        self._left_alone.set()

    def close(self, errors: Mapping[Guid, MdmError | None], otherwise: MdmError) -> None:
        """End the visit: a file without a complete slot has failed with its error, or with `otherwise`."""
        with self._lock:
            self._closed = True
            slots = dict(self._slots)
        for guid in self._wanted:
            error = errors.get(guid) or otherwise
            if guid in slots:
                slots[guid].fail(error)
            else:
                self._done(guid, error)

    def drain(self, wait_s: float, gather_s: float) -> Iterator[Outcome]:
        """Yield the outcomes so far.

        Args:
            wait_s: how long to wait for the first.
            gather_s: how long to let others come after it, while some are missing: what is published
                together costs one sync.
        """
        with suppress(queue.Empty):
            yield self._outcomes.get(timeout=wait_s)
            self._complete.wait(gather_s)
            while True:
                yield self._outcomes.get_nowait()

    def _done(self, guid: Guid, outcome: Filled | MdmError) -> None:
        self._outcomes.put((guid, outcome))
        with self._lock:
            self._left -= 1
            if not self._left:
                self._complete.set()
