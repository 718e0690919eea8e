"""What the files of a srmCopy are copied from, in their order: the rest of a copy is a put."""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from srm_dicom.db.database import Database
from srm_dicom.ids import Token


class CopyRow(peewee.Model):
    """Table ``copy_source``."""

    token = peewee.CharField(max_length=36)
    position = peewee.IntegerField()
    surl = peewee.TextField()

    class Meta:
        """A file of a request has one source."""

        table_name = "copy_source"
        primary_key = peewee.CompositeKey("token", "position")


class Copies:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._row = database.bind(CopyRow)

    def add(self, token: Token, surls: Sequence[str]) -> None:
        """Note the sources of a request's files."""
        rows = [{"token": token, "position": at, "surl": surl} for at, surl in enumerate(surls)]
        for start in range(0, len(rows), 500):
            self._row.insert_many(rows[start : start + 500]).execute()

    def of(self, token: Token) -> list[str]:
        """Return the sources of a request's files."""
        query = self._row.select().where(self._row.token == token).order_by(self._row.position)
        return [row.surl for row in query]
