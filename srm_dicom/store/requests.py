"""Requests and their files: the SRM request is the job, one table is the queue.

Rows here are moved by events of `broker.states`; this module only knows how to write that down in
one statement, so that two processes can never both believe that they made the same move. What a
caller polls is read without a model for each row: a request may have thousands of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

import peewee

from srm_dicom import errors
from srm_dicom.db.database import Database, marks
from srm_dicom.ids import Guid, SitePath, Token
from srm_dicom.store.copies import CopyRow
from srm_dicom.store.errands import ErrandRow
from srm_dicom.store.requestrows import (
    HELD,
    LEASED,
    OPEN,
    WORST_FIRST,
    FileState,
    Request,
    RequestFile,
    RequestFileRow,
    RequestKind,
    RequestRow,
    column,
    failure_text,
    file_columns,
    from_ms,
    read_file,
    read_request,
    request_columns,
    to_ms,
    values,
)
from srm_dicom.store.uploads import UploadRow

__all__ = ["FileState", "Request", "RequestFile", "RequestKind", "Requests"]

_CHUNK = 500
_DUE = (
    "SELECT 1 AS due WHERE"  # noqa: S608 - our names
    f" EXISTS (SELECT 1 FROM request_file WHERE pin_until <= ? AND {HELD})"
    f" OR EXISTS (SELECT 1 FROM request_file WHERE deadline_at <= ? AND {OPEN})"
)

_PIN = (
    "UPDATE request_file SET state = ?, pin_until = pin_s * 1000 + ?, explanation = NULL, failure = NULL,"
    " lease_until = 0"
)
_RANK = " ".join(f"WHEN '{state.value}' THEN {rank}" for rank, state in enumerate(WORST_FIRST))
_STATES = (
    "SELECT worst, COUNT(*) AS files FROM"  # noqa: S608 - our names
    f" (SELECT MIN(CASE state {_RANK} END) AS worst FROM request_file WHERE token = ? GROUP BY position)"
    " AS file GROUP BY worst ORDER BY worst"
)


class Requests:
    """The queue; every method is one statement or joins the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._request = database.bind(RequestRow)
        self._file = database.bind(RequestFileRow)
        self._children = (
            self._file, database.bind(CopyRow), database.bind(ErrandRow), database.bind(UploadRow),
        )  # fmt: skip

    def add(self, request: Request, files: Sequence[RequestFile]) -> None:
        """Write a request with all its files, in their order, in one transaction."""
        with self._database.transaction(joining=True):
            self._insert("request", [request_columns(request)])
            self._insert(
                "request_file",
                [
                    file_columns(request, position, row)
                    for position, file in enumerate(files)
                    for row in file.rows
                ],
            )

    def remove(self, token: Token) -> None:
        """Drop a request with all its files."""
        self._drop([token])

    def find(self, token: str) -> Request | None:
        """Return a request, if there is one of this token."""
        rows = self._database.select("SELECT * FROM request WHERE token = ?", [token])
        return read_request(rows[0]) if rows else None

    def find_many(self, owner: str, tokens: Sequence[str]) -> dict[str, Request]:
        """Return those requests of an owner that have one of `tokens`."""
        query = self._request.select().where(self._request.owner == owner)
        found = (
            query.where(self._request.token.in_(list(tokens[start : start + _CHUNK])))
            for start in range(0, len(tokens), _CHUNK)
        )
        return {row.token: read_request(row) for rows in found for row in rows}

    def of_owner(self, owner: str, description: str | None, limit: int) -> list[Request]:
        """Return an owner's requests, the newest first; of one description, to the letter, if given."""
        query = self._request.select().where(self._request.owner == owner)
        if description is not None:
            query = query.where(self._request.description == description)
        return [read_request(row) for row in query.order_by(self._request.created_at.desc()).limit(limit)]

    def files(self, token: Token) -> list[RequestFile]:
        """Return the files of a request in their order."""
        rows = self._database.select(
            "SELECT * FROM request_file WHERE token = ? ORDER BY position, id", [token]
        )
        return _gathered(rows)

    def some_files(self, token: Token, surls: Sequence[str], paths: Sequence[SitePath]) -> list[RequestFile]:
        """Return the files of a request that are one of `surls` or of `paths`."""
        named = f"(surl IN ({marks(len(surls)) or 'NULL'}) OR path IN ({marks(len(paths)) or 'NULL'}))"
        statement = f"SELECT * FROM request_file WHERE token = ? AND {named} ORDER BY position, id"  # noqa: S608
        return _gathered(self._database.select(statement, [token, *surls, *paths]))

    def states(self, token: Token) -> tuple[FileState, ...]:
        """Return the states of all files of a request, the worst first."""
        counts = {WORST_FIRST[rank]: files for rank, files in self._database.tuples(_STATES, [token])}
        return tuple(Counter(counts).elements())

    def has_any(self, token: Token, states: Sequence[FileState]) -> bool:
        """Tell whether a file of a request is in one of some states."""
        statement = (
            f"SELECT 1 AS one FROM request_file WHERE token = ? AND state IN ({marks(len(states))}) LIMIT 1"  # noqa: S608
        )
        return bool(self._database.select(statement, [token, *values(states)]))

    def state_counts(self, tokens: Sequence[Token]) -> dict[Token, Counter[FileState]]:
        """Return for each request how many of its files are in each state."""
        counts: dict[Token, Counter[FileState]] = {token: Counter() for token in tokens}
        for start in range(0, len(tokens), _CHUNK):
            mine = self._file.token.in_(list(tokens[start : start + _CHUNK]))
            worst = self._worst(mine, self._file.token, self._file.position).alias("worst")
            by_state = (worst.c.token, worst.c.rank)
            query: Any = self._file.select(*by_state, peewee.fn.COUNT(worst.c.position)).from_(worst)
            for token, rank, number in query.group_by(*by_state).tuples():
                counts[token][WORST_FIRST[rank]] = number
        return counts

    def files_of_owner(self, owner: str, paths: Sequence[SitePath]) -> list[RequestFile]:
        """Return every file of any request of an owner that is one of `paths`."""
        found: list[RequestFile] = []
        for start in range(0, len(paths), _CHUNK):
            chunk = list(paths[start : start + _CHUNK])
            query = self._file.select().where(self._file.owner == owner, self._file.path.in_(chunk))
            found += map(read_file, self._database.rows(query))
        return found

    def extend(
        self,
        ids: Sequence[int],
        pin_s: int,
        now: datetime,
        *,
        waiting: Sequence[FileState],
        held: Sequence[FileState],
    ) -> None:
        """Let pins that are held last until `pin_s` from now, others that long; none gets shorter."""
        until = to_ms(now + timedelta(seconds=pin_s))
        for start in range(0, len(ids), _CHUNK):
            mine = self._file.id.in_(list(ids[start : start + _CHUNK]))
            is_waiting = self._file.state.in_(values(waiting)) & (self._file.pin_s < pin_s)
            is_held = self._file.state.in_(values(held)) & (self._file.pin_until < until)
            self._file.update(pin_s=pin_s).where(mine, is_waiting).execute()
            self._file.update(pin_until=until).where(mine, is_held).execute()

    def move(
        self, ids: Sequence[int], sources: Sequence[FileState], target: FileState, **columns: object
    ) -> int:
        """Move those of the rows `ids` that are in `sources` to `target`; returns how many moved."""
        kept = {"state": target.value, **{name: column(value) for name, value in columns.items()}}
        changes = ", ".join(f"{name} = ?" for name in kept)
        movable = values(sources)
        moved = 0
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            moved += self._database.change(
                f"UPDATE request_file SET {changes} WHERE id IN ({marks(len(chunk))})"  # noqa: S608 - our names
                f" AND state IN ({marks(len(movable))})",
                [*kept.values(), *chunk, *movable],
            )
        return moved

    def move_guid(
        self, guid: Guid, sources: Sequence[FileState], target: FileState, **columns: object
    ) -> int:
        """Move every row of a file, whoever asked for it."""
        return self._move(self._file.guid == guid, sources, target, columns)

    def lose(self, guid: Guid, sources: Sequence[FileState], target: FileState) -> int:
        """Let every row that holds a file wait for it again, at least until it would not be held any more."""
        held, deadline = self._file.pin_until, self._file.deadline_at
        until = peewee.Case(None, [(held > deadline, held)], deadline)
        return self._move(self._file.guid == guid, sources, target, {"deadline_at": until, "pin_until": None})

    def pin(
        self, guids: Sequence[Guid], sources: Sequence[FileState], target: FileState, now: datetime
    ) -> int:
        """Move every row that waits for one of these files, each pinned for its request's own time."""
        movable = values(sources)
        pinned = 0
        for start in range(0, len(guids), _CHUNK):
            chunk = guids[start : start + _CHUNK]
            pinned += self._database.change(
                f"{_PIN} WHERE guid IN ({marks(len(chunk))}) AND state IN ({marks(len(movable))})",
                [target.value, to_ms(now), *chunk, *movable],
            )
        return pinned

    def fail_overdue(self, sources: Sequence[FileState], target: FileState, now: datetime) -> int:
        """Fail what waits beyond its deadline, with the last reason that a source gave."""
        overdue = self._overdue(sources, now)
        if not self._is_there(overdue):
            return 0
        late = failure_text(errors.RequestExpired("the request's time is over"))
        unexplained = overdue & self._file.failure.is_null()
        count = self._move(unexplained, sources, target, {"failure": late})
        return count + self._move(overdue, sources, target, {})

    def prune(self, live: Sequence[FileState], before: datetime) -> int:
        """Forget requests whose time was over `before` and of which no file is in a `live` state.

        Returns:
            How many went; each few hundred in a transaction of their own, so that nobody waits for long.
        """
        going = self._file.state.in_(values(live)) & (self._file.token == self._request.token)
        over = (self._request.deadline_at < to_ms(before)) & ~peewee.fn.EXISTS(
            self._file.select(self._file.id).where(going)
        )
        pruned = 0
        while tokens := [row.token for row in self._request.select().where(over).limit(_CHUNK)]:
            self._drop(tokens)
            pruned += len(tokens)
        return pruned

    def _drop(self, tokens: Sequence[str]) -> None:
        """Remove requests, and with them every row of any table that is there for their sake alone."""
        with self._database.transaction():
            for rows in (*self._children, self._request):
                rows.delete().where(rows.token.in_(list(tokens))).execute()

    def is_due(self, now: datetime) -> bool:
        """Tell whether the time of a pin is over, or that of a file that waits for somebody.

        Every poll asks, and almost always there is nothing: a reader waits for no writer.
        """
        return bool(self._database.select(_DUE, [to_ms(now)] * 2))

    def is_overdue(self, sources: Sequence[FileState], now: datetime) -> bool:
        """Tell whether a file in one of `sources` is beyond its deadline."""
        return self._is_there(self._overdue(sources, now))

    def overdue(self, sources: Sequence[FileState], now: datetime) -> list[RequestFile]:
        """Return the files in one of `sources` that are beyond their deadlines."""
        overdue = self._file.select().where(self._overdue(sources, now))
        return list(map(read_file, self._database.rows(overdue)))

    def prolong(self, ids: Sequence[int], deadline_at: datetime) -> None:
        """Let files have time until a moment; none gets less."""
        later = self._file.deadline_at < to_ms(deadline_at)
        for start in range(0, len(ids), _CHUNK):
            mine = self._file.id.in_(list(ids[start : start + _CHUNK]))
            self._file.update(deadline_at=to_ms(deadline_at)).where(mine, later).execute()

    def find_files(self, ids: Sequence[int]) -> list[RequestFile]:
        """Return files by their rows."""
        found: list[RequestFile] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            statement = f"SELECT * FROM request_file WHERE id IN ({marks(len(chunk))})"  # noqa: S608
            found += map(read_file, self._database.select(statement, chunk))
        return found

    def expire_pins(self, sources: Sequence[FileState], target: FileState, now: datetime) -> int:
        """End pins whose time is over."""
        over = peewee.SQL(HELD) & (self._file.pin_until <= to_ms(now)) & self._file.state.in_(values(sources))
        return self._move(over, sources, target, {}) if self._is_there(over) else 0

    def _overdue(self, sources: Sequence[FileState], now: datetime) -> Any:
        return (
            peewee.SQL(OPEN) & (self._file.deadline_at <= to_ms(now)) & self._file.state.in_(values(sources))
        )

    def _is_there(self, where: Any) -> bool:
        # Every poll asks, and almost always there is nothing: a reader waits for no writer.
        return bool(self._file.select(self._file.id).where(where).limit(1).exists())

    def pinned(self) -> set[Guid]:
        """Return the files that somebody holds."""
        query = self._file.select(self._file.guid).where(peewee.SQL(HELD)).distinct()
        return {Guid(row.guid) for row in query if row.guid}

    def in_hand(self, now: datetime) -> list[Guid]:
        """Return the files that workers hold by lease."""
        query = (
            self._file.select(self._file.guid)
            .where(peewee.SQL(LEASED), self._file.lease_until > to_ms(now))
            .distinct()
        )
        return [Guid(row.guid) for row in query if row.guid]

    def counts(self) -> dict[FileState, int]:
        """Return how many files of requests are in each state."""
        count = peewee.fn.COUNT(self._file.id)
        rows: Any = self._file.select(self._file.state, count).group_by(self._file.state).tuples()
        return {FileState(row[0]): row[1] for row in rows}

    def waiting(self) -> dict[FileState, int]:
        """Return how many files of requests are in each state that is not an end, by an index alone."""
        state, count = self._file.state, peewee.fn.COUNT(self._file.id)
        rows: Any = self._file.select(state, count).where(peewee.SQL(OPEN)).group_by(state).tuples()
        return {FileState(row[0]): row[1] for row in rows}

    def oldest(self, state: FileState) -> datetime | None:
        """Return when the oldest request was made of which a file is in a state that is not an end."""
        file, request = self._file, self._request
        first = file.select(peewee.fn.MIN(file.id)).where(peewee.SQL(OPEN), file.state == state.value)
        row = request.select().join(file, on=file.token == request.token).where(file.id == first).first()
        return None if row is None else from_ms(row.created_at)

    def _worst(self, where: Any, *file: Any) -> Any:
        """Select, for each file, the columns that name it and the `rank` of its state in `WORST_FIRST`."""
        ranks = tuple((state.value, rank) for rank, state in enumerate(WORST_FIRST))
        worst = peewee.fn.MIN(peewee.Case(self._file.state, ranks)).alias("rank")
        return self._file.select(*file, worst).where(where).group_by(*file)

    def _insert(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        if rows:
            names = rows[0].keys()
            statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(len(names))})"  # noqa: S608
            self._database.execute_many(statement, [tuple(row.values()) for row in rows])

    def _move(
        self, where: Any, sources: Sequence[FileState], target: FileState, columns: Mapping[str, object]
    ) -> int:
        kept = {name: column(value) for name, value in columns.items()}
        query = self._file.update(state=target.value, **kept)
        return int(query.where(where, self._file.state.in_(values(sources))).execute())


def _gathered(rows: Sequence[Any]) -> list[RequestFile]:
    """Return the files of one request, in the order of their rows, each with all its parts."""
    by_position = groupby(rows, key=attrgetter("position"))
    return [RequestFile.of([read_file(row) for row in parts]) for _, parts in by_position]
