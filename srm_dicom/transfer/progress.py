"""How far a transfer is, and how another thread ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from srm_dicom.errors import Aborted


class Progress:
    """How far a transfer is, and with which address; `cancel` ends it, from any thread."""

    def __init__(self) -> None:
        self.moved_bytes = 0
        self.peer: tuple[str, int] | None = None
        self._cancelled = False
        self._break_off: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End the transfer at its next bytes, or sooner where that is possible (`ending`)."""
        self._cancelled = True
        break_off = self._break_off
        if break_off is not None:
            break_off()

    @contextmanager
    def ending(self, break_off: Callable[[], None]) -> Iterator[None]:
        """Say how the transfer is ended that may go on without any bytes; `break_off` may come twice.

        Raises:
            Aborted: nobody wants it any more.
        """
        self._break_off = break_off
        try:
            self.moved(0)
            yield
        finally:
            self._break_off = None

    def moved(self, size_bytes: int) -> None:
        """Count bytes.

        Raises:
            Aborted: nobody wants them any more.
        """
        if self._cancelled:
            raise Aborted("the copy was cancelled")
        self.moved_bytes += size_bytes

    def again(self) -> None:
        """Begin to count anew: another server has the file."""
        self.moved_bytes = 0
