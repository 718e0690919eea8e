"""What is wanted of a site and what became of it: single files, and whole directories as one tar.

A tar is worth asking for when most of it is wanted; whatever comes between, its files can still be had one
by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.client.srm_views import FileInfo
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import MdmError
from srm_dicom.ids import Guid, SitePath
from srm_dicom.wire.bundle import SUFFIX, Bundle, Member
from srm_dicom.wire.names import FileRecord

FEWEST = 8
"""So few files of a directory are fetched one by one."""


@dataclass(frozen=True, slots=True)
class Got:
    """What became of one file: where it is now, or why it is not; never both.

    Attributes:
        size_bytes: of the bytes that were fetched; 0 for a file that was there already.
    """

    record: FileRecord
    path: Path | None = None
    error: MdmError | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A file that is wanted.

    Attributes:
        target: where it goes.
        private_key: opens it; None leaves it as it is stored.
    """

    record: FileRecord
    target: Path
    private_key: bytes | None = None

    @property
    def surl(self) -> str:
        """What to ask the server for."""
        return self.record.surls[0]

    @property
    def count(self) -> int:
        """How many files the server stages for it."""
        return 1

    def failed(self, error: MdmError) -> Iterator[Got | Order]:
        """Yield what follows when it cannot be had."""
        yield Got(self.record, error=error)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files that are wanted, to be fetched as the tar of their directory.

    Attributes:
        directory: its SURL.
        names: of all its files, sorted, also of those that are not wanted (any more).
        orders: the wanted ones, by GUID.
    """

    directory: str
    names: tuple[str, ...]
    orders: Mapping[Guid, Order]

    @property
    def surl(self) -> str:
        """What to ask the server for."""
        return self.directory + SUFFIX

    @property
    def count(self) -> int:
        """How many files the server stages for it."""
        return len(self.names)

    def failed(self, error: MdmError) -> Iterator[Got | Order]:  # noqa: ARG002 - each file tells its own
        """Yield what follows when it cannot be had: its files alone."""
        yield from self.orders.values()

    def bundle(self, manifests: Sequence[Manifest]) -> Bundle:
        """Return the shape of the tar; `manifests` are in the order of the names."""
        members = (
            Member(called, manifest.size_bytes, manifest.adler32)
            for called, manifest in zip(self.names, manifests, strict=True)
        )
        return Bundle(SitePath(self.directory), list(members))


def packed(
    orders: Iterable[Order], named: Iterable[FileRecord], entries: Callable[[str], Iterable[FileInfo]]
) -> list[Order | Parcel]:
    """Return what to ask for: directories that were named whole as parcels, and the other files.

    Args:
        orders: the files that are wanted.
        named: the files that the caller named, also those that are here already.
        entries: lists a directory of the storage server.
    """
    by_directory: dict[str, list[Order]] = {}
    for order in orders:
        by_directory.setdefault(order.surl.rpartition("/")[0], []).append(order)
    known = {surl for record in named for surl in record.surls}
    wanted: list[Order | Parcel] = []
    for directory, here in by_directory.items():
        parcel = None
        if len(here) >= FEWEST:
            with suppress(MdmError):  # whatever is wrong with the directory, its files may be had
                parcel = _parcel(directory, here, known, [info.name for info in entries(directory)])
        wanted += [parcel] if parcel else here
    return wanted


def _parcel(directory: str, orders: Sequence[Order], known: set[str], names: Sequence[str]) -> Parcel | None:
    if not known.issuperset(f"{directory}/{name}" for name in names) or 2 * len(orders) < len(names):
        return None
    by_guid = {Guid(order.record.guid): order for order in orders}
    return Parcel(directory, tuple(sorted(names)), by_guid)


def take(orders: deque[Order | Parcel], most: int) -> list[Order | Parcel]:
    """Take what one request of at most `most` files may ask for: the first order, and what goes with it."""
    taken = [orders.popleft()]
    count = taken[0].count
    while orders and (count := count + orders[0].count) <= most:
        taken.append(orders.popleft())
    return taken
