"""A tar that is unpacked as it comes: every wanted member goes to its own file, from where that stopped.

Nothing in the tar is believed. The manifests that the site signed say what has to come where, and each
member is proven as a file that comes alone is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from srm_dicom.client.download import Part
from srm_dicom.client.orders import Order
from srm_dicom.crypto.manifest import Manifest


class Arrival:
    """A wanted member.

    Args:
        offset: where it begins in the tar.

    Attributes:
        start: the first byte of the tar that is still needed for it.
        end: where it ends in the tar.
    """

    def __init__(self, order: Order, manifest: Manifest, path: Path, offset: int) -> None:
        self.order = order
        self.manifest = manifest
        self.part = Part(path, manifest)
        self.start = offset + self.part.continued
        self.end = offset + manifest.size_bytes

    @property
    def needs(self) -> int:
        """The position in the tar of the byte that it needs next, while it is open."""
        return self.end - self.manifest.size_bytes + self.part.size_bytes


class Unpacking:
    """The sink of a tar, from the first byte that is needed on.

    Args:
        arrivals: in the order of the tar.
        told: is called when bytes of a member have come.
        done: is called when all of them have; the file is closed by then.
    """

    def __init__(
        self, arrivals: Iterable[Arrival], told: Callable[[Arrival], None], done: Callable[[Arrival], None]
    ) -> None:
        self._coming = deque(arrivals)
        self._told = told
        self._done = done
        self._open: Arrival | None = None
        self.position = self._coming[0].start

    def __enter__(self) -> Unpacking:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing any more."""
        return not self._coming

    def write(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes of the tar."""
        view, begun = memoryview(data), self.position
        self.position += len(view)
        while self._coming and self._coming[0].start < self.position:
            arrival = self._coming[0]
            self._enter(arrival)
            arrival.part.write(view[arrival.needs - begun : arrival.end - begun])
            self._told(arrival)
            if arrival.needs < arrival.end:
                return
            self._coming.popleft()
            self._close()
            self._done(arrival)

    def _enter(self, arrival: Arrival) -> None:
        if self._open is None:
            arrival.part.__enter__()
            self._open = arrival

    def _close(self) -> None:
        if self._open is not None:
            self._open.part.__exit__()
            self._open = None
