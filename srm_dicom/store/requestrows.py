"""The rows of requests and their files, and the values that they are.

Times are kept as integer milliseconds of UTC; a failure as the name of its class and its message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import peewee

from srm_dicom import errors
from srm_dicom.errors import MdmError
from srm_dicom.ids import Guid, SitePath, Token

_LEAVES: Mapping[str, type[MdmError]] = {leaf.__name__: leaf for leaf in errors.leaves()}


_NO_TOKEN = Token("")


class RequestKind(Enum):
    """TRequestType of the operations that leave a request behind (SRM v2.2, 2.23)."""

    GET = "PREPARE_TO_GET"
    PUT = "PREPARE_TO_PUT"
    COPY = "COPY"
    BRING_ONLINE = "BRING_ONLINE"


class FileState(Enum):
    """Where one file of a request is; `broker.states` has the transitions."""

    QUEUED = "queued"
    IN_PROGRESS = "in progress"
    SUSPENDED = "suspended"
    PINNED = "pinned"
    SPACE_AVAILABLE = "room made"
    STORING = "storing"
    STORED = "stored"
    RELEASED = "released"
    EXPIRED = "expired"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    ABORTED = "aborted"


WORST_FIRST = (
    *(FileState.FAILED, FileState.ABORTED, FileState.TIMED_OUT, FileState.RELEASED, FileState.EXPIRED),
    *(FileState.SUSPENDED, FileState.QUEUED, FileState.IN_PROGRESS, FileState.PINNED),
    *(FileState.SPACE_AVAILABLE, FileState.STORING, FileState.STORED),
)
"""A file that is made of others is in the first of these states that one of them is in."""


def _among(*states: FileState) -> str:
    return "state IN ({})".format(", ".join(f"'{state.value}'" for state in states))


WAITING = (
    *(FileState.QUEUED, FileState.IN_PROGRESS, FileState.SUSPENDED),
    *(FileState.SPACE_AVAILABLE, FileState.STORING),
)
"""States of files for which something has still to be done."""

OPEN = _among(*WAITING)
HELD = _among(FileState.PINNED)
LEASED = "lease_until > 0"
"""What the indices of the queue have of it; a statement that says the same, to the letter, goes by them.

Nearly every file is in none of these any more: to keep it in the indices nevertheless would be most of what
it costs to write one down.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted prepareToGet, bringOnline or prepareToPut.

    Attributes:
        owner: DN of who asked; nobody else may touch the request.
        protocol: the transfer protocol that TURLs will have; empty where there are none.
        deadline_at: until then a file of a get must be there, and a file of a put done.
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
    """One file of a request; `id` is the row, 0 while it has none.

    Attributes:
        attempts: visits to its source for it that brought nothing, for whatever reason.
        lost: those of them in which the source said that it was done.
        parts: of a name that is made of others, one for each of them; it has no GUID itself.
        told: of a put: its owner has heard of srmPutDone that it is stored.
        leased: a worker has it in hand.
    """

    surl: str
    path: SitePath | None
    guid: Guid | None
    state: FileState
    failure: MdmError | None = None
    explanation: str | None = None
    pin_until: datetime | None = None
    attempts: int = 0
    lost: int = 0
    deadline_at: datetime | None = None
    pin_s: int = 0
    id: int = 0
    parts: tuple[RequestFile, ...] = ()
    token: Token = _NO_TOKEN
    owner: str = ""
    told: bool = False
    leased: bool = False

    @property
    def rows(self) -> tuple[RequestFile, ...]:
        """What has a row each: its parts, or itself."""
        return self.parts or (self,)

    @classmethod
    def of(cls, parts: Sequence[RequestFile]) -> RequestFile:
        """Return one part as it is, and several as what they make together."""
        if len(parts) == 1:
            return parts[0]
        worst = min(parts, key=lambda part: WORST_FIRST.index(part.state))
        ends = [part.pin_until for part in parts if part.pin_until is not None]
        return replace(worst, guid=None, pin_until=min(ends, default=None), parts=tuple(parts))


class RequestRow(peewee.Model):
    """Table ``request``."""

    token = peewee.CharField(max_length=36, primary_key=True)
    kind = peewee.CharField(max_length=20)
    owner = peewee.TextField(index=True)
    protocol = peewee.CharField(max_length=20, default="")
    created_at = peewee.BigIntegerField()
    deadline_at = peewee.BigIntegerField(index=True)
    pin_s = peewee.IntegerField()
    description = peewee.TextField(null=True)

    class Meta:
        """The name of the table."""

        table_name = "request"


class RequestFileRow(peewee.Model):
    """Table ``request_file``: the queue. `deadline_at`, `owner` and `pin_s` repeat the request's.

    `source` is empty until a stager has found out where a file is and let it wait there.

    The parts of one file share its `position`.
    """

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
    lost = peewee.IntegerField(default=0)
    source = peewee.TextField(default="")
    told = peewee.BooleanField(null=True)

    class Meta:
        """A request is read by token, a release by owner and path; the others, see `OPEN`."""

        table_name = "request_file"
        indexes = (
            *(
                peewee.SQL(f"CREATE INDEX IF NOT EXISTS {name} ON request_file ({columns}) WHERE {rows}")
                for name, columns, rows in (
                    ("request_file_open_by_source", "state, owner, source, id", OPEN),
                    ("request_file_open_by_deadline", "state, deadline_at", OPEN),
                    ("request_file_held_by_pin", "pin_until", HELD),
                    ("request_file_leased", "lease_until", LEASED),
                )
            ),
            (("token", "position"), False),
            (("owner", "path"), False),
        )


def column(value: object) -> object:
    """Return a value as its column keeps it."""
    if isinstance(value, datetime):
        return to_ms(value)
    if isinstance(value, MdmError):
        return failure_text(value)
    return value


def values(states: Sequence[FileState]) -> list[str]:
    """Return states as their column keeps them."""
    return [state.value for state in states]


def failure_text(error: MdmError) -> str:
    """Return an error as its column keeps it."""
    return f"{type(error).__name__}: {error.message}"


def read_failure(text: str | None) -> MdmError | None:
    """Read an error; one whose class is no more is a defect."""
    if text is None:
        return None
    leaf, _, message = text.partition(": ")
    return _LEAVES.get(leaf, errors.InternalError)(message)


def request_columns(request: Request) -> dict[str, object]:
    """Return the columns of a new request."""
    return {
        "token": request.token,
        "kind": request.kind.value,
        "owner": request.owner,
        "protocol": request.protocol,
        "created_at": to_ms(request.created_at),
        "deadline_at": to_ms(request.deadline_at),
        "pin_s": request.pin_s,
        "description": request.description,
    }


def file_columns(request: Request, position: int, file: RequestFile) -> dict[str, object]:
    """Return the columns of a new file of a request."""
    return {
        "token": request.token,
        "position": position,
        "owner": request.owner,
        "surl": file.surl,
        "path": file.path,
        "guid": file.guid,
        "state": file.state.value,
        "failure": failure_text(file.failure) if file.failure else None,
        "explanation": file.explanation,
        "deadline_at": to_ms(request.deadline_at),
        "pin_s": request.pin_s,
        "pin_until": to_ms(file.pin_until) if file.pin_until else None,
        "not_before": 0,
        "lease_until": 0,
        "worker": "",
        "attempts": 0,
        "lost": 0,
        "source": "",
    }


def read_request(row: Any) -> Request:
    """Read a row of ``request``."""
    return Request(
        token=Token(row.token),
        kind=RequestKind(row.kind),
        owner=row.owner,
        protocol=row.protocol,
        created_at=from_ms(row.created_at),
        deadline_at=from_ms(row.deadline_at),
        pin_s=row.pin_s,
        description=row.description,
    )


def read_file(row: Any) -> RequestFile:
    """Read a row of ``request_file``."""
    return RequestFile(
        surl=row.surl,
        path=SitePath(row.path) if row.path else None,
        guid=Guid(row.guid) if row.guid else None,
        state=FileState(row.state),
        failure=read_failure(row.failure),
        explanation=row.explanation,
        pin_until=from_ms(row.pin_until) if row.pin_until is not None else None,
        attempts=row.attempts,
        lost=row.lost,
        deadline_at=from_ms(row.deadline_at),
        pin_s=row.pin_s,
        id=row.id,
        token=Token(row.token),
        owner=row.owner,
        told=bool(row.told),
        leased=row.lease_until > 0,
    )


def to_ms(moment: datetime) -> int:
    """Return a time as its column keeps it."""
    return int(moment.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """Read a time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
