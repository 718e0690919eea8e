"""Bytes that nobody names any more: the inner zone comes here for what a plugin shall remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import peewee

from srm_dicom.db.database import Database
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requestrows import to_ms


@dataclass(frozen=True, slots=True)
class Removal:
    """A file that lost its name; enough to tell its plugin."""

    id: int
    guid: Guid
    plugin: str
    plugin_ref: bytes
    release: Release


class RemovalRow(peewee.Model):
    """Table ``removal``."""

    id = peewee.BigAutoField()
    guid = peewee.CharField(max_length=36)
    plugin = peewee.TextField()
    plugin_ref = peewee.BlobField()
    project = peewee.TextField()
    profile = peewee.TextField()
    profile_version = peewee.TextField()
    not_before = peewee.BigIntegerField(default=0, index=True)

    class Meta:
        """The name of the table."""

        table_name = "removal"


_DUE = "SELECT * FROM removal WHERE not_before <= ? ORDER BY id LIMIT ?"


class Removals:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(RemovalRow)

    def add(self, entries: Sequence[Entry]) -> None:
        """Have the bytes of files removed."""
        for entry in entries:
            if entry.guid and entry.release:
                self.add_one(entry.guid, entry.plugin, entry.plugin_ref, entry.release)

    def add_one(self, guid: Guid, plugin: str, plugin_ref: bytes, release: Release) -> None:
        """Have bytes removed that a plugin knows by this reference."""
        self._row.create(
            guid=guid,
            plugin=plugin,
            plugin_ref=plugin_ref,
            project=release.project,
            profile=release.profile,
            profile_version=release.version,
        )

    def due(self, now: datetime, limit: int) -> list[Removal]:
        """Return what is to be removed now, the oldest first."""
        return [
            Removal(
                row.id, Guid(row.guid), row.plugin, bytes(row.plugin_ref),
                Release(row.project, row.profile, row.profile_version),
            )
            for row in self._database.select(_DUE, [to_ms(now), limit])
        ]  # fmt: skip

    def has(self, removal: Removal) -> bool:
        """Tell whether one is still to be done."""
        return bool(self._row.select(self._row.id).where(self._row.id == removal.id).exists())

    def done(self, removal: Removal) -> None:
        """Forget one that is done."""
        self._row.delete().where(self._row.id == removal.id).execute()

    def put_off(self, removal: Removal, until: datetime) -> None:
        """Let one wait: its source does not answer."""
        self._row.update(not_before=to_ms(until)).where(self._row.id == removal.id).execute()
