"""The queue of the inner zone: who may fetch which files, and for how long.

A row of ``request_file`` that waits is claimed for a lease; who dies gives it back by the lease's end. What a
claim costs depends on what is claimed and not on how many wait, for somebody always asks for 100,000.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_OWNERS = (
    "WITH RECURSIVE known(owner) AS ("  # noqa: S608 - our names
    f"SELECT MIN(owner) FROM request_file WHERE state = ? AND {OPEN} UNION ALL"
    f" SELECT (SELECT MIN(owner) FROM request_file WHERE state = ? AND {OPEN} AND owner > known.owner)"
    " FROM known WHERE known.owner IS NOT NULL) SELECT owner FROM known WHERE owner IS NOT NULL"
)
"""From one owner to the next in the index: however many files wait, they are not looked at."""

_WAITING = (
    "SELECT {} FROM request_file"  # noqa: S608 - our names
    f" WHERE state = ? AND {OPEN} AND owner = ?"
    " AND not_before <= ? AND lease_until + 0 <= ? AND deadline_at + 0 > ?"
    " AND guid NOT IN (SELECT guid FROM request_file"
    f" WHERE {LEASED} AND lease_until > ? AND state IN ({{}}) AND guid IS NOT NULL) ORDER BY id LIMIT ?"
)
"""What a worker may take: it waits, and no visit is bringing the same file, for which others wait, too.

`+ 0` keeps the planner from the indices of these columns: that of owners has the rows in their order.
"""

_CLAIM = (
    "UPDATE request_file SET state = ?, lease_until = ?, worker = ?, attempts = attempts + 1 WHERE id IN ({})"
)


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
        limit: int,
        held: Mapping[str, int] | None = None,
    ) -> list[RequestFile]:
        """Take waiting files of every owner for a lease, the oldest of each first.

        Args:
            worker: whose lease it is.
            sources: states that wait.
            target: the state after.
            now: the time.
            lease_s: for how long.
            limit: most files of one owner that a worker has in hand.
            held: how many of these it has already.
        """
        states, moment = values(sources), to_ms(now)
        room = {owner: limit - (held or {}).get(owner, 0) for owner in self._owners(states)}
        # Mostly nobody waits, and a reader waits for no writer.
        room = {
            owner: most
            for owner, most in room.items()
            if self._oldest("id", states, owner, moment, min(most, 1))
        }
        if not room:
            return []
        with self._database.transaction(lasting=False):  # without it, it waits as before
            rows = [
                row
                for owner, most in room.items()
                for row in self._oldest("*", states, owner, moment, most, claiming=True)
            ]
            lease = (target.value, to_ms(now + timedelta(seconds=lease_s)), worker)
            for start in range(0, len(rows), _CHUNK):
                ids = [row.id for row in rows[start : start + _CHUNK]]
                self._database.change(_CLAIM.format(marks(len(ids))), [*lease, *ids])
        return [read_file(row) for row in rows]

    def _owners(self, states: Sequence[str]) -> list[str]:
        """Return who has a file in one of the states, whether it may be taken or not."""
        found = (self._database.select(_OWNERS, [state, state]) for state in states)
        return sorted({row.owner for rows in found for row in rows})

    def _oldest(
        self,
        columns: str,
        states: Sequence[str],
        owner: str,
        moment: int,
        limit: int,
        *,
        claiming: bool = False,
    ) -> list[Any]:
        """Return the first files of an owner that wait, a state at a time, as the index has them in order."""
        if limit <= 0:
            return []
        waiting = _WAITING.format(columns, marks(len(states)))
        statement = self._database.claiming(waiting) if claiming else waiting
        found = (
            self._database.select(statement, [state, owner, moment, moment, moment, moment, *states, limit])
            for state in states
        )
        return sorted((row for rows in found for row in rows), key=attrgetter("id"))[:limit]

    def give_back(self, ids: Sequence[int]) -> None:
        """End the leases of files that nobody has been sent for."""
        for start in range(0, len(ids), _CHUNK):
            mine = self._row.id.in_(list(ids[start : start + _CHUNK])) & peewee.SQL(LEASED)
            self._row.update(lease_until=0, attempts=self._row.attempts - 1).where(mine).execute()

    def free(self, worker: str) -> int:
        """Give back what a worker of this name held when it died; dying is no failure of the source's."""
        held = (self._row.worker == worker, peewee.SQL(LEASED))
        freed = self._row.update(lease_until=0, attempts=self._row.attempts - 1)
        return int(freed.where(*held).execute())
