"""What a stager goes for: a batch, with those who wait for its files."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from srm_dicom.errors import SourceSlow
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Batch
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import RequestFile


@dataclass(frozen=True, slots=True)
class Visit:
    """A batch with what is known of its files and the rows that wait for each of them."""

    batch: Batch
    entries: Mapping[Guid, Entry]
    rows: Mapping[Guid, Sequence[RequestFile]]

    @classmethod
    def of(
        cls, batch: Batch, entries: Mapping[Guid, Entry], by_guid: Mapping[Guid, Sequence[RequestFile]]
    ) -> Visit:
        """Return a batch with what is known of its files, and of the visits for them before."""
        rows = {ref.guid: by_guid[ref.guid] for ref in batch.files}
        slow = (row.attempts for each in rows.values() for row in each if isinstance(row.failure, SourceSlow))
        waited = max(slow, default=0)
        return cls(replace(batch, waited=waited), {guid: entries[guid] for guid in rows}, rows)

    def waiting(self, guids: Iterable[Guid]) -> list[RequestFile]:
        """Return the rows that wait for some of the files."""
        return [row for guid in guids for row in self.rows[guid]]

    def only(self, wanted: Container[Guid]) -> Visit:
        """Return the same visit for some of its files."""
        files = tuple(ref for ref in self.batch.files if ref.guid in wanted)
        guids = [ref.guid for ref in files]
        return Visit(
            replace(self.batch, files=files),
            {guid: self.entries[guid] for guid in guids},
            {guid: self.rows[guid] for guid in guids},
        )

    @property
    def source(self) -> str:
        """Where it goes, by a name that is one among all plugins."""
        return source_name(next(iter(self.entries.values())).plugin, self.batch.source)

    @property
    def owner(self) -> str:
        """For whom it is first of all."""
        return next(iter(self.rows.values()))[0].owner


def source_name(plugin: str, name: str) -> str:
    """Return a name of a source that is one among all plugins."""
    return f"{plugin}:{name}"


def size(entry: Entry) -> int | None:
    """Return how large a file is, if that is known."""
    return entry.facts.size_bytes if entry.facts else None
