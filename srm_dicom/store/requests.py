"""Requests and their files: the SRM request is the job, one table is the queue.

Rows here are moved by events of `broker.states`; this module only knows how to write that down in
one statement, so that two processes can never both believe that they made the same move. Times are
kept as integer milliseconds of UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import peewee

from srm_dicom import errors
from srm_dicom.db.database import Database
from srm_dicom.errors import MdmError
from srm_dicom.ids import Guid, SitePath, Token

_CHUNK = 500
_LEAVES: Mapping[str, type[MdmError]] = {leaf.__name__: leaf for leaf in errors.leaves()}


class RequestKind(Enum):
    """TRequestType of the operations that leave a request behind (SRM v2.2, 2.23)."""

    GET = "PREPARE_TO_GET"
    BRING_ONLINE = "BRING_ONLINE"


class FileState(Enum):
    """Where one file of a request is; `broker.states` has the transitions."""

    QUEUED = "queued"
    IN_PROGRESS = "in progress"
    PINNED = "pinned"
    RELEASED = "released"
    EXPIRED = "expired"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted prepareToGet or bringOnline.

    Attributes:
        owner: DN of who asked; nobody else may touch the request.
        protocol: the transfer protocol that TURLs will have; empty for bringOnline.
        pin_s: how long a file stays pinned once it is there.
    """

    token: Token
    kind: RequestKind
    owner: str
    protocol: str
    created_at: datetime
    deadline_at: datetime
    pin_s: int
    description: str | None = None


@dataclass(frozen=True, slots=True)
class RequestFile:
    """One file of a request; `id` is the row, 0 while it has none."""

    surl: str
    path: SitePath | None
    guid: Guid | None
    state: FileState
    failure: MdmError | None = None
    explanation: str | None = None
    pin_until: datetime | None = None
    attempts: int = 0
    deadline_at: datetime | None = None
    pin_s: int = 0
    id: int = 0


class RequestRow(peewee.Model):
    """Table ``request``."""

    token = peewee.CharField(max_length=36, primary_key=True)
    kind = peewee.CharField(max_length=20)
    owner = peewee.TextField(index=True)
    protocol = peewee.CharField(max_length=20, default="")
    created_at = peewee.BigIntegerField()
    deadline_at = peewee.BigIntegerField()
    pin_s = peewee.IntegerField()
    description = peewee.TextField(null=True)

    class Meta:
        """The name of the table."""

        table_name = "request"


class RequestFileRow(peewee.Model):
    """Table ``request_file``: the queue. `deadline_at`, `owner` and `pin_s` repeat the request's."""

    id = peewee.BigAutoField()
    token = peewee.CharField(max_length=36)
    position = peewee.IntegerField()
    owner = peewee.TextField()
    surl = peewee.TextField()
    path = peewee.TextField(null=True)
    guid = peewee.CharField(max_length=36, null=True, index=True)
    state = peewee.CharField(max_length=12)
    failure = peewee.TextField(null=True)
    explanation = peewee.TextField(null=True)
    deadline_at = peewee.BigIntegerField()
    pin_s = peewee.IntegerField()
    pin_until = peewee.BigIntegerField(null=True)
    not_before = peewee.BigIntegerField(default=0)
    lease_until = peewee.BigIntegerField(default=0)
    worker = peewee.TextField(default="")
    attempts = peewee.IntegerField(default=0)

    class Meta:
        """The queue is read by state, a request by token, a release by owner and path."""

        table_name = "request_file"
        indexes = (
            (("state", "not_before"), False),
            (("token", "position"), True),
            (("owner", "path"), False),
        )


class Requests:
    """The queue; every method is one statement or joins the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._request = database.bind(RequestRow)
        self._file = database.bind(RequestFileRow)

    def add(self, request: Request, files: Sequence[RequestFile]) -> None:
        """Write a request with all its files, in their order, in one transaction."""
        with self._database.transaction():
            self._request.create(
                token=request.token,
                kind=request.kind.value,
                owner=request.owner,
                protocol=request.protocol,
                created_at=_ms(request.created_at),
                deadline_at=_ms(request.deadline_at),
                pin_s=request.pin_s,
                description=request.description,
            )
            rows = [_file_columns(request, position, file) for position, file in enumerate(files)]
            for start in range(0, len(rows), _CHUNK):
                self._file.insert_many(rows[start : start + _CHUNK]).execute()

    def find(self, token: str) -> Request | None:
        """Return a request, if there is one of this token."""
        row = self._request.get_or_none(self._request.token == token)
        return _request(row) if row else None

    def files(self, token: Token) -> list[RequestFile]:
        """Return the files of a request in their order."""
        rows = self._file.select().where(self._file.token == token).order_by(self._file.position)
        return [_request_file(row) for row in rows]

    def files_of_owner(self, owner: str, paths: Sequence[SitePath]) -> list[RequestFile]:
        """Return every file of any request of an owner that is one of `paths`."""
        rows = self._file.select().where(self._file.owner == owner, self._file.path.in_(list(paths)))
        return [_request_file(row) for row in rows]

    def move(
        self, ids: Sequence[int], sources: Sequence[FileState], target: FileState, **columns: object
    ) -> int:
        """Move those of the rows `ids` that are in `sources` to `target`; returns how many moved."""
        moved = 0
        for start in range(0, len(ids), _CHUNK):
            moved += self._move(
                self._file.id.in_(list(ids[start : start + _CHUNK])), sources, target, columns
            )
        return moved

    def move_guid(
        self, guid: Guid, sources: Sequence[FileState], target: FileState, **columns: object
    ) -> int:
        """Move every row of a file, whoever asked for it."""
        return self._move(self._file.guid == guid, sources, target, columns)

    def pin(self, guid: Guid, sources: Sequence[FileState], target: FileState, now: datetime) -> int:
        """Move every row that waits for a file to `target`, each pinned for its request's own time."""
        until = self._file.pin_s * 1000 + _ms(now)
        columns: dict[str, object] = {
            "pin_until": until,
            "explanation": None,
            "failure": None,
            "lease_until": 0,
        }
        return self._move(self._file.guid == guid, sources, target, columns)

    def claim(
        self,
        worker: str,
        sources: Sequence[FileState],
        target: FileState,
        *,
        now: datetime,
        lease_s: float,
        limit: int,
    ) -> list[RequestFile]:
        """Take up to `limit` waiting files for a lease, with every other row that wants the same file."""
        moment = _ms(now)
        waiting = (
            self._file.state.in_(_values(sources)),
            self._file.not_before <= moment,
            self._file.lease_until <= moment,
            self._file.deadline_at > moment,
            self._file.guid.not_in(self._under_way(sources, moment)),
        )
        with self._database.transaction():
            query = self._file.select().where(*waiting).order_by(self._file.id).limit(limit)
            rows = list(self._database.claiming(query))
            columns: dict[str, object] = {
                "lease_until": _ms(now + timedelta(seconds=lease_s)),
                "worker": worker,
                "attempts": self._file.attempts + 1,
            }
            self.move([row.id for row in rows], sources, target, **columns)
        return [_request_file(row) for row in rows]

    def _under_way(self, sources: Sequence[FileState], moment: int) -> Any:
        """Files that a visit is bringing now: who also wants one waits for that visit."""
        alias = self._file.alias()
        return alias.select(alias.guid).where(
            alias.state.in_(_values(sources)), alias.lease_until > moment, alias.guid.is_null(False)
        )

    def free_leases(self, worker: str) -> int:
        """Give back what a worker of this name held when it died."""
        return int(self._file.update(lease_until=0).where(self._file.worker == worker).execute())

    def renew_leases(self, ids: Sequence[int], until: datetime) -> None:
        """Extend the lease of rows whose visit goes on."""
        for start in range(0, len(ids), _CHUNK):
            chunk = list(ids[start : start + _CHUNK])
            self._file.update(lease_until=_ms(until)).where(self._file.id.in_(chunk)).execute()

    def fail_overdue(self, sources: Sequence[FileState], target: FileState, now: datetime) -> int:
        """Fail what waits beyond its deadline, with the last reason that a source gave."""
        overdue = self._file.deadline_at <= _ms(now)
        late = _failure(errors.RequestExpired("the request's time is over"))
        unexplained = overdue & self._file.failure.is_null()
        count = self._move(unexplained, sources, target, {"failure": late})
        return count + self._move(overdue, sources, target, {})

    def expire_pins(self, sources: Sequence[FileState], target: FileState, now: datetime) -> int:
        """End pins whose time is over."""
        return self._move(self._file.pin_until <= _ms(now), sources, target, {})

    def pinned(self, state: FileState) -> set[Guid]:
        """Return the files that somebody holds."""
        query = self._file.select(self._file.guid).where(self._file.state == state.value).distinct()
        return {Guid(row.guid) for row in query if row.guid}

    def counts(self) -> dict[FileState, int]:
        """Return how many files of requests are in each state."""
        count = peewee.fn.COUNT(self._file.id)
        rows: Any = self._file.select(self._file.state, count).group_by(self._file.state).tuples()
        return {FileState(row[0]): row[1] for row in rows}

    def _move(
        self, where: Any, sources: Sequence[FileState], target: FileState, columns: Mapping[str, object]
    ) -> int:
        values = {name: _column(value) for name, value in columns.items()}
        query = self._file.update(state=target.value, **values)
        return int(query.where(where, self._file.state.in_(_values(sources))).execute())


def _column(value: object) -> object:
    if isinstance(value, datetime):
        return _ms(value)
    if isinstance(value, MdmError):
        return _failure(value)
    return value


def _values(states: Sequence[FileState]) -> list[str]:
    return [state.value for state in states]


def _failure(error: MdmError) -> str:
    return f"{type(error).__name__}: {error.message}"


def _read_failure(text: str | None) -> MdmError | None:
    if text is None:
        return None
    leaf, _, message = text.partition(": ")
    return _LEAVES.get(leaf, errors.InternalError)(message)


def _file_columns(request: Request, position: int, file: RequestFile) -> dict[str, object]:
    return {
        "token": request.token,
        "position": position,
        "owner": request.owner,
        "surl": file.surl,
        "path": file.path,
        "guid": file.guid,
        "state": file.state.value,
        "failure": _failure(file.failure) if file.failure else None,
        "explanation": file.explanation,
        "deadline_at": _ms(request.deadline_at),
        "pin_s": request.pin_s,
        "pin_until": _ms(file.pin_until) if file.pin_until else None,
    }


def _request(row: Any) -> Request:
    return Request(
        token=Token(row.token),
        kind=RequestKind(row.kind),
        owner=row.owner,
        protocol=row.protocol,
        created_at=_moment(row.created_at),
        deadline_at=_moment(row.deadline_at),
        pin_s=row.pin_s,
        description=row.description,
    )


def _request_file(row: Any) -> RequestFile:
    return RequestFile(
        surl=row.surl,
        path=SitePath(row.path) if row.path else None,
        guid=Guid(row.guid) if row.guid else None,
        state=FileState(row.state),
        failure=_read_failure(row.failure),
        explanation=row.explanation,
        pin_until=_moment(row.pin_until) if row.pin_until is not None else None,
        attempts=row.attempts,
        deadline_at=_moment(row.deadline_at),
        pin_s=row.pin_s,
        id=row.id,
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
