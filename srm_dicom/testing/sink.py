"""A sink that keeps plain bytes in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from srm_dicom.ids import Guid
from srm_dicom.plugin.api import FileRef, Slot


class MemorySlot(Slot):
    """A slot; `data` is what was written, `committed`, `report` and `reason` how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.committed = False
        self.report = ""
        self.reason: str | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self.data += data

    def commit(self, report: str = "") -> None:
        """End well."""
        self.committed, self.report = True, report

    def fill(self, parts: Sequence[bytes | bytearray | memoryview], report: str = "") -> None:
        """Write and end well."""
        self.write(b"".join(parts))
        self.commit(report)

    def refuse(self, reason: str) -> None:
        """Give up."""
        self.reason = reason


class MemorySink:
    """Slots by GUID; for tests of plugins. Nobody waits when `wanted` is false."""

    def __init__(self) -> None:
        self.slots: dict[Guid, MemorySlot] = {}
        self.wanted = True
        self._lock = threading.Lock()

    def open(self, ref: FileRef) -> MemorySlot:
        """Open the slot of a file."""
        with self._lock:
            slot = self.slots[ref.guid] = MemorySlot()
            return slot

    def is_wanted(self) -> bool:
        """Tell whether a test still waits."""
        return self.wanted

    @property
    def files(self) -> dict[Guid, bytes]:
        """The bytes of every file that was committed."""
        return {guid: bytes(slot.data) for guid, slot in self.slots.items() if slot.committed}
