"""Where files go on a user's disk.

What a directory holds keeps its names below that directory; a file named by itself, or found by a query,
goes under its last name. No two files get one target: the second is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.client.delivery import SEALED_SUFFIX
from srm_dicom.ids import Lfn, name
from srm_dicom.wire.names import FileRecord


@dataclass(frozen=True, slots=True)
class Named:
    """A file that a reference stands for, and its name below the directory that was named."""

    record: FileRecord
    below: str


def named(reference: str, records: Iterable[FileRecord]) -> list[Named]:
    """Return the files of one reference with the names that they keep."""
    directory = f"{Lfn.parse(reference).path}/" if reference.startswith(("/", "lfn:")) else ""
    return [Named(record, _below(record, directory)) for record in records]


def target_of(file: Named, directory: Path, *, sealed: bool) -> Path:
    """Return where a file goes: what is sealed on the disk ends in ``.c4gh``, and nothing else does."""
    below = file.below.removesuffix(SEALED_SUFFIX)
    return directory / (below + SEALED_SUFFIX if sealed and file.record.public_key else below)


def _below(record: FileRecord, directory: str) -> str:
    if directory and record.lfn.startswith(directory):
        return record.lfn.removeprefix(directory)
    return name(record.lfn)
