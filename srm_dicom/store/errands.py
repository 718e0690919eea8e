"""Which files of copies a process moves between this site and others, with credentials in its memory."""

from __future__ import annotations

from collections.abc import Iterable

import peewee

from srm_dicom.db.database import Database
from srm_dicom.ids import Token


class ErrandRow(peewee.Model):
    """Table ``errand``; `position` is that of the file in its request."""

    token = peewee.CharField(max_length=36)
    position = peewee.IntegerField()
    carrier = peewee.TextField(index=True)

    class Meta:
        """A file of a request is moved by one."""

        table_name = "errand"
        primary_key = peewee.CompositeKey("token", "position")


class Errands:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._row = database.bind(ErrandRow)

    def add(self, token: Token, positions: Iterable[int], carrier: str) -> None:
        """Note which files of a request `carrier` moves."""
        rows = [{"token": token, "position": at, "carrier": carrier} for at in positions]
        for start in range(0, len(rows), 500):
            self._row.insert_many(rows[start : start + 500]).execute()

    def of(self, carrier: str) -> list[tuple[Token, int]]:
        """Return what a carrier has not ended: tokens and positions."""
        query = self._row.select().where(self._row.carrier == carrier)
        return [
            (Token(row.token), row.position) for row in query.order_by(self._row.token, self._row.position)
        ]

    def end(self, token: Token, position: int) -> None:
        """Forget one that has ended."""
        self._row.delete().where(self._row.token == token, self._row.position == position).execute()
