"""Registered files that lost their names: the registrar comes here for what the catalogues shall forget.

A row stays when that is done. A file that is registered again is another generation than the one that was
removed, so no copy of the old one, here or at another site, is ever taken for it; and what somebody told of
the old one before it was removed is no news of the new one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import peewee

from srm_dicom.db.database import Database
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requestrows import to_ms

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Unregistration:
    """A file that has no name any more, and the key that it was sealed to.

    Attributes:
        turn: another one each time that there is something to forget of the file.
    """

    guid: Guid
    release: Release
    key_id: str
    public_key: bytes
    turn: str


class UnregistrationRow(peewee.Model):
    """Table ``unregistration``; `open` until every catalogue has forgotten the file."""

    guid = peewee.CharField(max_length=36, primary_key=True)
    project = peewee.TextField()
    profile = peewee.TextField()
    profile_version = peewee.TextField()
    key_id = peewee.TextField()
    public_key = peewee.BlobField()
    generation = peewee.IntegerField()
    open = peewee.BooleanField(default=True)
    not_before = peewee.BigIntegerField(default=0)
    removed_at = peewee.BigIntegerField(default=0)
    turn = peewee.CharField(max_length=16, default="")

    class Meta:
        """What is to be done is found by an index."""

        table_name = "unregistration"
        indexes = ((("open", "not_before"), False),)


class Unregistrations:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(UnregistrationRow)

    def add(self, entries: Sequence[Entry], now: datetime) -> None:
        """Have the catalogues forget files that lose their names now."""
        self._write(entries, dict.fromkeys(_guids(entries), to_ms(now)))

    def again(self, entries: Sequence[Entry]) -> None:
        """Have the catalogues forget once more files that were removed before."""
        self._write(entries, self.removed_ms(_guids(entries)))

    def reopen(self, guids: Sequence[Guid]) -> None:
        """Have the catalogues forget once more those of files that were ever removed."""
        row = self._row
        for start in range(0, len(guids), _CHUNK):
            removed = row.guid.in_(guids[start : start + _CHUNK])
            row.update(open=True, not_before=0, turn=_turn()).where(removed).execute()

    def _write(self, entries: Sequence[Entry], removed_ms: Mapping[Guid, int]) -> None:
        rows = [
            {
                "guid": entry.guid,
                "project": entry.release.project,
                "profile": entry.release.profile,
                "profile_version": entry.release.version,
                "key_id": entry.key_id,
                "public_key": entry.public_key,
                "generation": entry.generation,
                "removed_at": removed_ms.get(entry.guid, 0),
                "turn": _turn(),
            }
            for entry in entries
            if entry.guid and entry.release
        ]
        self._database.insert(self._row, rows, replaces=("guid",))

    def due(self, now: datetime, limit: int) -> list[Unregistration]:
        """Return what the catalogues have to forget now."""
        row = self._row
        query = row.select().where(row.open, row.not_before <= to_ms(now)).order_by(row.not_before)
        return [
            Unregistration(
                Guid(one.guid), Release(one.project, one.profile, one.profile_version),
                one.key_id, bytes(one.public_key), one.turn,
            )
            for one in query.limit(limit)
        ]  # fmt: skip

    def removed_ms(self, guids: Sequence[Guid]) -> dict[Guid, int]:
        """Return when files were removed last, in milliseconds of the epoch; none of what never was."""
        row = self._row
        return {
            Guid(one.guid): one.removed_at
            for start in range(0, len(guids), _CHUNK)
            for one in row.select(row.guid, row.removed_at).where(row.guid.in_(guids[start : start + _CHUNK]))
        }

    def waiting(self, guids: Sequence[Guid]) -> int:
        """Return how many of these a catalogue has still to forget."""
        row = self._row
        return sum(
            row.select().where(row.open, row.guid.in_(guids[start : start + _CHUNK])).count()
            for start in range(0, len(guids), _CHUNK)
        )

    def open(self) -> int:
        """Return how many files a catalogue has still to forget."""
        return int(self._row.select().where(self._row.open).count())

    def generation(self, guid: Guid) -> int:
        """Return the generation of a file that is registered now: one more than any that was removed."""
        row = self._row.get_or_none(self._row.guid == guid)
        return 1 + (row.generation if row else 0)

    def done(self, file: Unregistration) -> None:
        """Say that every catalogue has forgotten a file, unless there is more to forget of it by now."""
        row = self._row
        row.update(open=False).where(row.guid == file.guid, row.turn == file.turn).execute()

    def put_off(self, guid: Guid, until: datetime) -> None:
        """Let one wait: a catalogue does not answer."""
        self._row.update(not_before=to_ms(until)).where(self._row.guid == guid).execute()


def _turn() -> str:
    return secrets.token_hex(8)


def _guids(entries: Sequence[Entry]) -> list[Guid]:
    return [entry.guid for entry in entries if entry.guid]
