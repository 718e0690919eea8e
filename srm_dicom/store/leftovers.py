"""Bytes in scratch that nobody means any more: each node's janitor comes here for what it may drop at once.

Of whatever else the database does not know, nobody can tell whether it is about to be announced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import peewee

from srm_dicom.db.database import Database, marks
from srm_dicom.ids import Guid, SitePath, Token

_CHUNK = 500
_LEAVE, _ONCE = "INSERT INTO leftover (node, file)", "ON CONFLICT DO NOTHING"


class LeftoverRow(peewee.Model):
    """Table ``leftover``; `file` is what the bytes are called in a scratch area."""

    node = peewee.TextField()
    file = peewee.CharField(max_length=64)

    class Meta:
        """A node has one file of a name."""

        table_name = "leftover"
        primary_key = peewee.CompositeKey("node", "file")


class Leftovers:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(LeftoverRow)

    def leave_staged(self, guids: Sequence[Guid]) -> None:
        """Let what is staged of files go: their names are lost, and no other file is called so again."""
        self._leave(
            f"SELECT node, guid || '.' || generation FROM staged WHERE guid IN ({marks(len(guids))})",  # noqa: S608
            guids,
        )

    def leave_uploaded(self, token: Token, paths: Sequence[SitePath]) -> None:
        """Let go what a request has written."""
        self._leave(
            f"SELECT node, name FROM upload WHERE token = ? AND path IN ({marks(len(paths))})",  # noqa: S608
            [token, *paths],
        )

    def leave(self, node: str, files: Iterable[str]) -> None:
        """Let files of a node go."""
        if rows := [(node, file) for file in files]:
            self._database.execute_many(f"{_LEAVE} VALUES (?, ?) {_ONCE}", rows)

    def on_node(self, node: str) -> list[str]:
        """Return what may be dropped on a node."""
        return [row.file for row in self._row.select().where(self._row.node == node)]

    def done(self, node: str, files: Sequence[str]) -> None:
        """Forget what has been dropped."""
        for start in range(0, len(files), _CHUNK):
            some = self._row.file.in_(list(files[start : start + _CHUNK]))
            self._row.delete().where(self._row.node == node, some).execute()

    def _leave(self, found: str, parameters: Sequence[str]) -> None:
        self._database.change(f"{_LEAVE} {found} {_ONCE}", parameters)
