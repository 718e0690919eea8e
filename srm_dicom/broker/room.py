"""Room in scratch: promised before anything is moved, and never more than the quota.

What lies in a node's scratch is what the database says; what is on its way there is counted here, by the
one stager that the node has. A promise is as large as the files are known to be, or as files mostly are;
one that turns out too small grows before a byte of the file is written, or the file is not begun.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from srm_dicom.errors import NoSpace

USUAL_BYTES = 1024 * 1024
"""What a file is taken for while nothing is known of it, nor of any other."""


class Room:
    """What the scratch area of a node may take.

    Args:
        quota_bytes: the most that may lie there and be on its way; 0 for what the file system takes.
        lying: tells how many bytes lie there, in how many files.
    """

    def __init__(self, quota_bytes: int = 0, lying: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> None:
        self._quota_bytes = quota_bytes
        self._lying = lying
        self._lying_bytes = 0
        self._promised_bytes = 0
        self._lock = threading.Lock()

    def reserve(self, sizes: Sequence[int | None]) -> Reservation:
        """Promise room for the first of some files, for as many as there is room for.

        Args:
            sizes: of the files; None where nobody knows.

        Raises:
            NoSpace: not for one of them.
        """
        if not self._quota_bytes:
            return Reservation(self, len(sizes), 0)
        with self._lock:
            self._lying_bytes, files = self._lying()
            usual = self._lying_bytes // files if files else USUAL_BYTES
            left = self._quota_bytes - self._lying_bytes - self._promised_bytes
            count = promised = 0
            for size_bytes in sizes:
                expected = usual if size_bytes is None else size_bytes
                if promised + expected > left:
                    break
                count, promised = count + 1, promised + expected
            if sizes and not count:
                raise full()
            self._promised_bytes += promised
        return Reservation(self, count, promised)

    def promise(self, size_bytes: int) -> None:
        """Promise more.

        Raises:
            NoSpace: there is no more.
        """
        if not self._quota_bytes:
            return
        with self._lock:
            if not self._fits(size_bytes):
                self._lying_bytes, _ = self._lying()  # something may have gone
                if not self._fits(size_bytes):
                    raise full()
            self._promised_bytes += size_bytes

    def forget(self, size_bytes: int, *, lies_there: bool) -> None:
        """Take a promise back: the bytes lie there now, or will not come."""
        with self._lock:
            self._promised_bytes -= size_bytes
            self._lying_bytes += size_bytes if lies_there else 0

    def _fits(self, size_bytes: int) -> bool:
        return self._lying_bytes + self._promised_bytes + size_bytes <= self._quota_bytes


class Reservation:
    """What one visit has been promised.

    Attributes:
        files: how many files it is for.
    """

    def __init__(self, room: Room, files: int, size_bytes: int) -> None:
        self.files = files
        self._left_bytes = size_bytes
        self._taken_bytes = 0
        self._room = room
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> None:
        """Take room for a file whose size is known now.

        Raises:
            NoSpace: it is larger than was promised, and there is no more.
        """
        with self._lock:
            more_bytes = max(0, size_bytes - self._left_bytes)
            if more_bytes:
                self._room.promise(more_bytes)
            self._left_bytes += more_bytes - size_bytes
            self._taken_bytes += size_bytes

    def settle(self, size_bytes: int) -> None:
        """Say that so much of what was taken lies in scratch, as the database tells."""
        with self._lock:
            self._taken_bytes -= size_bytes
        self._room.forget(size_bytes, lies_there=True)

    def close(self) -> None:
        """Give back what is left, and what was taken and did not come to lie there."""
        with self._lock:
            rest_bytes = self._left_bytes + self._taken_bytes
            self._left_bytes = self._taken_bytes = 0
        self._room.forget(rest_bytes, lies_there=False)


def full() -> NoSpace:
    """Return the error of who has to wait for room."""
    return NoSpace("scratch is full")
