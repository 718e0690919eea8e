"""What is staged where: the database's word about the scratch areas; the sweep believes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import peewee

from srm_dicom.db.database import Database, marks
from srm_dicom.ids import Guid
from srm_dicom.store.leftovers import Leftovers

_CHUNK = 500
_FIND = "SELECT guid, node, generation, size_bytes FROM staged WHERE guid IN"
_TOUCH_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Staged:
    """A complete, durable file in the scratch area of a node."""

    guid: Guid
    node: str
    generation: int
    size_bytes: int


class StagedRow(peewee.Model):
    """Table ``staged``; `used_at` (milliseconds) is what eviction goes by."""

    guid = peewee.CharField(max_length=36)
    node = peewee.TextField()
    generation = peewee.IntegerField()
    size_bytes = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField(index=True)

    class Meta:
        """A node has one generation of a file."""

        table_name = "staged"
        primary_key = peewee.CompositeKey("guid", "node")


class StagedFiles:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database, leftovers: Leftovers) -> None:
        self._database = database
        self._leftovers = leftovers
        self._row = database.bind(StagedRow)

    def find(self, guids: Sequence[Guid]) -> dict[Guid, Staged]:
        """Return where files are; of several nodes, any one."""
        found: dict[Guid, Staged] = {}
        for start in range(0, len(guids), _CHUNK):
            chunk = guids[start : start + _CHUNK]
            rows = self._database.select(f"{_FIND} ({marks(len(chunk))})", chunk)
            found.update((Guid(row.guid), _staged(row)) for row in rows)
        return found

    def find_on(self, guid: Guid, node: str) -> Staged | None:
        """Return what a node has of a file."""
        row = self._row.get_or_none(self._row.guid == guid, self._row.node == node)
        return _staged(row) if row else None

    def on_node(self, node: str) -> Iterator[Staged]:
        """Yield what a node has, the least recently used first."""
        query = self._row.select().where(self._row.node == node).order_by(self._row.used_at)
        return map(_staged, query)

    def add(self, files: Sequence[Staged], now: datetime) -> None:
        """Say that files are there; replaces what was said of older generations."""
        rows = [
            {
                "guid": staged.guid,
                "node": staged.node,
                "generation": staged.generation,
                "size_bytes": staged.size_bytes,
                "used_at": _ms(now),
            }
            for staged in files
        ]
        self._database.insert(self._row, rows, replaces=("guid", "node"))

    def touch(self, guids: Sequence[Guid], node: str, now: datetime) -> None:
        """Note that files were used; writes at most once a minute."""
        stale = self._row.used_at < _ms(now - _TOUCH_EVERY)
        for start in range(0, len(guids), _CHUNK):
            mine = (self._row.guid.in_(list(guids[start : start + _CHUNK])), self._row.node == node)
            if self._row.select().where(*mine, stale).exists():
                self._row.update(used_at=_ms(now)).where(*mine).execute()

    def remove(self, guid: Guid, node: str) -> None:
        """Say that a file is there no longer."""
        self._row.delete().where(self._row.guid == guid, self._row.node == node).execute()

    def forget(self, guids: Sequence[Guid]) -> None:
        """Say that files that lost their names are nowhere any more; each node drops what it has of them."""
        for start in range(0, len(guids), _CHUNK):
            chunk = list(guids[start : start + _CHUNK])
            self._leftovers.leave_staged(chunk)
            self._row.delete().where(self._row.guid.in_(chunk)).execute()

    def used_bytes(self, node: str) -> int:
        """Return the bytes of all files of a node."""
        return self.totals(node)[0]

    def totals(self, node: str) -> tuple[int, int]:
        """Return the bytes of all files of a node, and how many files these are."""
        size = self._row.size_bytes
        query: Any = self._row.select(peewee.fn.SUM(size), peewee.fn.COUNT(size))
        ((size_bytes, files),) = query.where(self._row.node == node).tuples()
        return int(size_bytes or 0), files


def _staged(row: Any) -> Staged:
    return Staged(Guid(row.guid), row.node, row.generation, row.size_bytes)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
