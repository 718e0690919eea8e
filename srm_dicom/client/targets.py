"""Where files go on a user's disk.

What a directory holds keeps its names below that directory; a file named by itself, or found by a query,
goes under its last name. No two files get one target: the second is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.client.delivery import SEALED_SUFFIX
from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import Lfn, SitePath, Surl, name
from srm_dicom.wire.names import FileRecord


@dataclass(frozen=True, slots=True)
class Named:
    """A file that a reference stands for, and its name below the directory that was named."""

    record: FileRecord
    below: str


def named(reference: str, records: Iterable[FileRecord]) -> list[Named]:
    """Return the files of one reference with the names that they keep."""
    if reference.startswith("srm://"):
        directory = Surl.parse(reference)
        site, top = f"srm://{directory.authority}/", directory.path
        return [Named(record, _below(record, _places(record, site), top)) for record in records]
    if reference.startswith(("/", "lfn:")):
        top = Lfn.parse(reference).path
        return [Named(record, _below(record, [record.lfn], top)) for record in records]
    return [Named(record, name(record.lfn)) for record in records]


def target_of(file: Named, directory: Path, *, sealed: bool) -> Path:
    """Return where a file goes: what is sealed on the disk ends in ``.c4gh``, and nothing else does."""
    below = file.below.removesuffix(SEALED_SUFFIX)
    return directory / (below + SEALED_SUFFIX if sealed and file.record.public_key else below)


def _places(record: FileRecord, site: str) -> Iterator[SitePath]:
    """Yield where a file is at a site; what the catalogue says of that is believed to be a path, no more."""
    for surl in record.surls:
        if surl.startswith(site):
            with suppress(InvalidRequest):
                yield Surl.parse(surl).path


def _below(record: FileRecord, places: Iterable[SitePath], top: SitePath) -> str:
    """Return a file's name below a directory; its last name if that is not where it is."""
    directory = f"{top.rstrip('/')}/"
    below = (place.removeprefix(directory) for place in places if place.startswith(directory))
    return next(below, name(record.lfn))
