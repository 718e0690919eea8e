"""Hearing at once that somebody has written to a database of this machine, other processes included.

SQLite tells nobody. But who commits writes into the log beside the database (``-wal``), and the kernel tells
who asked (inotify). That is a hint and nothing more: where it is not to be had, or missed, time goes by
and the caller looks anyway.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_MODIFIED = 0x2
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 16 * 1024
_SOON_S = (0.001, 0.001, 0.002, 0.004, 0.008)
"""The log is written a little before what is in it can be read: when to look again after it was."""


class News:
    """Waits for writers of one database; for one thread.

    Args:
        state: tells its state, another one after others have written.
        path: of the database; None for one that is no file here.
    """

    def __init__(self, state: Callable[[], int], path: Path | None) -> None:
        self._log = os.fsencode(f"{path.name}-wal") if path else b""
        self._state = state
        self._fd = _watch(path.parent) if path else None
        self._poll = select.poll()  # select() bears no descriptor above 1023
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLIN)

    def wait(self, seen: int, timeout_s: float) -> None:
        """Return when the state is no longer the one that was `seen`, or the time is up."""
        until_s = time.monotonic() + timeout_s
        pauses: Iterator[float] = iter(())
        while (left_s := until_s - time.monotonic()) > 0:
            if self._written(min(left_s, next(pauses, left_s))):
                pauses = iter(_SOON_S)  # what was written before is no reason to be deaf meanwhile
            if self._state() != seen:
                return

    def close(self) -> None:
        """Hear nothing more."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _written(self, timeout_s: float) -> bool:
        """Wait until the log is written to; tells whether it was."""
        if self._fd is None:
            time.sleep(timeout_s)
            return False
        if not self._poll.poll(1e3 * timeout_s):
            return False
        events, at = os.read(self._fd, _BUFFER_BYTES), 0
        names = set()
        while at < len(events):
            name_bytes = _EVENT.unpack_from(events, at)[3]
            at += _EVENT.size
            names.add(events[at : at + name_bytes].rstrip(b"\0"))
            at += name_bytes
        return self._log in names


def _watch(directory: Path) -> int | None:
    """Have the kernel tell what is written to in a directory; None where it does not."""
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # another kernel
        fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if fd >= 0:
            if libc.inotify_add_watch(fd, os.fsencode(directory), _MODIFIED) >= 0:
                return fd
            os.close(fd)
    return None
