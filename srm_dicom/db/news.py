"""Hearing at once that there is news in a database of this machine, other processes included.

SQLite tells nobody. So who has written what others wait for writes to a small file beside the database, too,
one for each topic, and the kernel tells who asked (inotify). That is a hint and nothing more: where it is
not to be had, or missed, time goes by and the caller looks anyway.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from threading import Lock

_MODIFIED = 0x2
_BUFFER_BYTES = 16 * 1024


class Topic(Enum):
    """What there may be news of; the value ends the name of its file."""

    WORK = "work"
    READY = "ready"


class Board:
    """The topics of one database.

    Args:
        path: of the database; None for one that is no file here.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._fds: dict[Topic, int] = {}
        self._idle: dict[Topic, list[News]] = {topic: [] for topic in Topic}
        self._lock = Lock()
        self._is_open = path is not None

    def tell(self, topic: Topic) -> None:
        """Have everybody hear who waits for news of a topic, after it was committed."""
        with self._lock, suppress(OSError):
            if self._is_open:
                os.pwrite(self._fd(topic), b"\n", 0)

    @contextmanager
    def news(self, topic: Topic) -> Iterator[News]:
        """Lend what hears the news of a topic from now on, and perhaps some that are older."""
        news = self._lend(topic)
        try:
            yield news
        finally:
            with self._lock:
                if self._is_open:
                    # To close it takes many milliseconds: the kernel waits for whoever might be telling.
                    self._idle[topic].append(news)
                else:
                    news.close()

    def close(self) -> None:
        """Tell nothing more."""
        with self._lock:
            self._is_open = False
            for fd in self._fds.values():
                os.close(fd)
            self._fds.clear()
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()

    def _lend(self, topic: Topic) -> News:
        with self._lock, suppress(OSError):
            if self._idle[topic]:
                return self._idle[topic].pop()
            if self._is_open:
                return News(_watch(self._fd(topic)))
        return News(None)

    def _fd(self, topic: Topic) -> int:
        if topic not in self._fds and self._path is not None:
            mode = self._path.stat().st_mode & 0o666
            path = f"{self._path}-{topic.value}"
            fd = self._fds[topic] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
            with suppress(PermissionError):  # somebody else's, who has seen to it
                os.fchmod(fd, mode)  # whoever may write to the database may tell
        return self._fds[topic]


class News:
    """Waits for news of one topic; for one thread at a time.

    Attributes:
        is_heard: whether anything can be heard; where not, `wait` lets time go by.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self.is_heard = fd is not None
        self._poll = select.poll()  # select() bears no descriptor above 1023
        if fd is not None:
            self._poll.register(fd, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Return when there was news since the last time, or the time is up; tells whether any was heard."""
        if self._fd is None:
            time.sleep(timeout_s)
        elif self._poll.poll(1e3 * timeout_s):
            os.read(self._fd, _BUFFER_BYTES)
            return True
        return False

    def close(self) -> None:
        """Hear nothing more."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _watch(file: int) -> int | None:
    """Have the kernel tell when an open file is written to; None where it does not."""
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # another kernel
        fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if fd >= 0:
            if libc.inotify_add_watch(fd, b"/proc/self/fd/%d" % file, _MODIFIED) >= 0:
                return fd
            os.close(fd)
    return None
