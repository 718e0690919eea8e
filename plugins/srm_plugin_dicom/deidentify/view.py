"""Objects that are too large for memory: sliced like a memoryview, read piece by piece.

Of such an object only what lies ahead of its pixels is in memory at once, and of its pixels one frame or one
piece at a time. What cannot be decided like that needs the whole object in memory (`WholeNeeded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from srm_plugin_dicom.deidentify.reasons import Reason, refused

PIECE_BYTES = 1 << 20
MOST_BYTES = 64 << 20
"""What of one such object may be in memory at once: a frame of it, or all of it where all is needed."""


class Stored(Protocol):
    """Bytes that lie elsewhere, all of them there."""

    @property
    def size_bytes(self) -> int:
        """How many."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return those from `start` to `stop`."""
        ...


class WholeNeeded(Exception):
    """The object leaves, if it does, only by way of memory."""


class View:
    """A stretch of a stored object; slicing it reads nothing, `bytes` reads it."""

    __slots__ = ("_start", "_stop", "_stored")

    def __init__(self, stored: Stored, start: int = 0, stop: int | None = None) -> None:
        self._stored = stored
        self._start = start
        self._stop = stored.size_bytes if stop is None else stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, key: slice) -> View:
        start, stop, _ = key.indices(len(self))
        return View(self._stored, self._start + start, self._start + max(start, stop))

    def __bytes__(self) -> bytes:
        return self._stored.read(self._start, self._stop)


Viewed = memoryview | View
Part = bytes | memoryview | View


def loaded(view: Viewed) -> memoryview:
    """Return bytes as they are in memory.

    Raises:
        ObjectRefused: more than may be in memory of an object that is elsewhere.
    """
    if isinstance(view, memoryview):
        return view
    if len(view) > MOST_BYTES:
        raise refused(Reason.TOO_LARGE)
    return memoryview(bytes(view))


def joined(views: Sequence[Viewed]) -> memoryview:
    """Return several stretches as one in memory; raises as `loaded` does."""
    whole = bytearray()
    for view in views:
        if isinstance(view, View) and len(whole) + len(view) > MOST_BYTES:
            raise refused(Reason.TOO_LARGE)
        whole += loaded(view)
    return memoryview(whole)


def pieces(part: Part) -> Iterator[bytes | memoryview]:
    """Yield a part of an object; what lies elsewhere in pieces."""
    if not isinstance(part, View):
        yield part
        return
    for at in range(0, len(part), PIECE_BYTES):
        yield bytes(part[at : at + PIECE_BYTES])
