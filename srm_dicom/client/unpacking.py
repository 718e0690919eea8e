"""A tar that is unpacked as it comes: every wanted member goes to its own file, from where that stopped.

Nothing in the tar is believed. The manifests that the site signed say what has to come where, and each
member is proven as a file that comes alone is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from srm_dicom.client.download import Part
from srm_dicom.client.orders import Order
from srm_dicom.crypto.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Member:
    """A wanted file of a tar: what was ordered, what the site signed, and where it begins in the tar."""

    order: Order
    manifest: Manifest
    offset: int


def shares(members: Sequence[Member], most: int, least_bytes: int) -> list[Sequence[Member]]:
    """Cut members, in the order of the tar, into at most `most` runs of `least_bytes` or more."""
    total = sum(member.manifest.size_bytes for member in members)
    count = max(1, min(most, total // least_bytes))
    runs: list[list[Member]] = [[] for _ in range(count)]
    before = 0
    for member in members:
        runs[min(count * before // max(total, 1), count - 1)].append(member)
        before += member.manifest.size_bytes
    return [run for run in runs if run]


class Arrival:
    """A wanted member on its way.

    Args:
        part: what comes of it.

    Attributes:
        start: the first byte of the tar that is still needed for it.
        end: where it ends in the tar.
    """

    def __init__(self, member: Member, part: Part) -> None:
        self.order = member.order
        self.manifest = member.manifest
        self.part = part
        self.start = member.offset + self.part.continued
        self.end = member.offset + member.manifest.size_bytes

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
