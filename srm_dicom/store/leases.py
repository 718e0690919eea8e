"""The queue of the inner zone: who may fetch which files, and for how long.

A row of ``request_file`` that waits is claimed for a lease; who dies gives it back by the lease's end. What a
claim costs depends on what is claimed and not on how many wait, for somebody always asks for 100,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import peewee

from srm_dicom.db.database import Database, marks
from srm_dicom.store.requestrows import (
    LEASED,
    OPEN,
    FileState,
    RequestFile,
    RequestFileRow,
    read_file,
    to_ms,
    values,
)

_CHUNK = 500
_FIRST = f"SELECT id FROM request_file WHERE state = ? AND {OPEN}{{}} ORDER BY owner, source, id LIMIT 1"  # noqa: S608
_LINES = (
    f"WITH RECURSIVE first(id) AS (SELECT * FROM ({_FIRST.format('')}) AS one UNION ALL"  # noqa: S608
    f" SELECT COALESCE(({_FIRST.format(' AND owner = known.owner AND source > known.source')}),"
    f" ({_FIRST.format(' AND owner > known.owner')}))"
    " FROM first JOIN request_file AS known ON known.id = first.id)"
    " SELECT known.owner, known.source FROM first JOIN request_file AS known ON known.id = first.id"
)
"""From one owner and source to the next in the index: however many files wait, they are not looked at."""

_WAITING = (
    "SELECT {} FROM request_file"  # noqa: S608 - our names
    f" WHERE state = ? AND {OPEN} AND owner = ? AND source = ?"
    " AND not_before <= ? AND lease_until + 0 <= ? AND deadline_at + 0 > ?"
    " AND guid NOT IN (SELECT guid FROM request_file"
    f" WHERE {LEASED} AND lease_until > ? AND state IN ({{}}) AND guid IS NOT NULL) ORDER BY id LIMIT ?"
)
"""What a worker may take: it waits, and no visit is bringing the same file, for which others wait, too.

`+ 0` keeps the planner from the indices of these columns: that of owners and sources has the rows in order.
"""

_CLAIM = (
    "UPDATE request_file SET state = ?, lease_until = ?, worker = ?, attempts = attempts + 1 WHERE id IN ({})"
)

_STILL = "SELECT id FROM request_file WHERE id IN ({}) AND state IN ({})"


class Leases:
    """The files that workers have in hand; every method is one transaction or joins the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(RequestFileRow)

    def claim(
        self,
        worker: str,
        sources: Sequence[FileState],
        target: FileState,
        *,
        now: datetime,
        lease_s: float,
        room: Callable[[str, str], int],
    ) -> list[RequestFile]:
        """Take waiting files of every owner for a lease, the oldest first.

        Args:
            worker: whose lease it is.
            sources: states that wait.
            target: the state after.
            now: the time.
            lease_s: for how long.
            room: most files of an owner to take from a source; without a name, where nobody has yet looked
                where they are (see `give_back`).
        """
        states, moment = values(sources), to_ms(now)
        most = {line: room(*line) for line in self._lines(states)}
        # Mostly nobody waits, and a reader waits for no writer.
        lines = [line for line in most if self._oldest("id", states, line, moment, min(most[line], 1))]
        if not lines:
            return []
        with self._database.transaction(lasting=False):  # without it, it waits as before
            rows = [
                row
                for line in lines
                for row in self._oldest("*", states, line, moment, most[line], claiming=True)
            ]
            lease = (target.value, to_ms(now + timedelta(seconds=lease_s)), worker)
            for start in range(0, len(rows), _CHUNK):
                ids = [row.id for row in rows[start : start + _CHUNK]]
                self._database.change(_CLAIM.format(marks(len(ids))), [*lease, *ids])
        return [read_file(row) for row in sorted(rows, key=attrgetter("id"))]

    def _lines(self, states: Sequence[str]) -> list[tuple[str, str]]:
        """Return who has a file in one of the states, and where from, whether it may be taken or not."""
        found = (self._database.select(_LINES, [state] * 3) for state in states)
        return sorted({(row.owner, row.source) for rows in found for row in rows})

    def _oldest(
        self,
        columns: str,
        states: Sequence[str],
        line: tuple[str, str],
        moment: int,
        limit: int,
        *,
        claiming: bool = False,
    ) -> list[Any]:
        """Return the first files of a line that wait, a state at a time, as the index has them in order."""
        if limit <= 0:
            return []
        waiting = _WAITING.format(columns, marks(len(states)))
        statement = self._database.claiming(waiting) if claiming else waiting
        found = (
            self._database.select(statement, [state, *line, moment, moment, moment, moment, *states, limit])
            for state in states
        )
        return sorted((row for rows in found for row in rows), key=attrgetter("id"))[:limit]

    def waiting(self, ids: Sequence[int], states: Sequence[FileState]) -> set[int]:
        """Return which of some rows still are in a state that waits."""
        found: set[int] = set()
        for start in range(0, len(ids), _CHUNK):
            some = ids[start : start + _CHUNK]
            statement = _STILL.format(marks(len(some)), marks(len(states)))
            found.update(row.id for row in self._database.select(statement, [*some, *values(states)]))
        return found

    def give_back(self, ids: Sequence[int], source: str = "") -> None:
        """End the leases of files that nobody has been sent for.

        Args:
            ids: their rows.
            source: where they are, once that is known: they wait there, and in nobody's way elsewhere.
        """
        for start in range(0, len(ids), _CHUNK):
            mine = self._row.id.in_(list(ids[start : start + _CHUNK])) & peewee.SQL(LEASED)
            given = self._row.update(lease_until=0, attempts=self._row.attempts - 1, source=source)
            given.where(mine).execute()

    def free(self, worker: str) -> int:
        """Give back what a worker of this name held when it died; dying is no failure of the source's."""
        held = (self._row.worker == worker, peewee.SQL(LEASED))
        freed = self._row.update(lease_until=0, attempts=self._row.attempts - 1)
        return int(freed.where(*held).execute())
