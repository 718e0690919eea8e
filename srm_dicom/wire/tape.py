"""The WLCG Tape REST API, v1: its calls as a table, its messages as structs, without I/O.

The names on the wire are the specification's. What it does not know in a message is ignored, as it asks
for: `targetedMetadata` is for sites that have drives to choose, and this one has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeVar

import msgspec

from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.declare import Declaration, OpenAccess, Right

DISCOVERY = "/.well-known/wlcg-tape-rest-api"
BASE = "/.wlcg-tape/v1"
"""Where the calls are; no VO has a name that begins with a dot, so that nothing is hidden by it."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a request: 10,000 files with long names."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call; `{id}` in its path is a request's."""

    name: str
    method: str
    path: str
    right: Declaration
    how: str

    def match(self, method: str, path: str) -> str | None:
        """Return the id in a path that is this call's, empty if it has none; None if it is another's."""
        before, marked, after = self.path.partition("{id}")
        if method != self.method or not path.startswith(before) or not path.endswith(after):
            return None
        found = path[len(before) : len(path) - len(after)]
        return found if bool(found) is bool(marked) and "/" not in found else None


_CALLS = (
    Call("discover", "GET", DISCOVERY, OpenAccess("tells where the API is"), "site, URI and version"),
    Call("stage", "POST", f"{BASE}/stage", Right.FILE_READ, "a bringOnline; an error is one file's"),
    Call("poll", "GET", f"{BASE}/stage/{{id}}", Right.OWN_REQUEST, "`state` of every file, not `onDisk`"),
    Call("cancel", "POST", f"{BASE}/stage/{{id}}/cancel", Right.OWN_REQUEST, "all of the files or none"),
    Call("delete", "DELETE", f"{BASE}/stage/{{id}}", Right.OWN_REQUEST, "cancels, then forgets"),
    Call(
        "release",
        "POST",
        f"{BASE}/release/{{id}}",
        Right.OWN_REQUEST,
        "an id that is no UUID (gfal-evict without a token): in all requests of the caller",
    ),
    Call("archiveinfo", "POST", f"{BASE}/archiveinfo", Right.FILE_LIST, "`TAPE` or `DISK_AND_TAPE`"),
)

CALLS: Mapping[str, Call] = {call.name: call for call in _CALLS}


def call_of(method: str, path: str) -> tuple[Call, str] | None:
    """Find the call that a request is, and the id in its path; a slash at the end is ignored."""
    for call in _CALLS:
        found = call.match(method, path.rstrip("/"))
        if found is not None:
            return call, found
    return None


class StageFile(msgspec.Struct, frozen=True):
    """A file to stage; `diskLifetime` is an ISO 8601 duration."""

    path: str
    diskLifetime: str | None = None  # noqa: N815 - the specification's name


class Stage(msgspec.Struct, frozen=True):
    """Body of a stage request."""

    files: tuple[StageFile, ...]

    @property
    def lifetime_s(self) -> int | None:
        """The longest life on disk that is asked for; None where it is left to the site."""
        wanted = [seconds for file in self.files if (seconds := _seconds(file.diskLifetime)) is not None]
        return max(wanted, default=None)


class Paths(msgspec.Struct, frozen=True):
    """Body of cancel, release and archiveinfo."""

    paths: tuple[str, ...]


class Endpoint(msgspec.Struct, frozen=True):
    """One version of the API."""

    uri: str
    version: str
    metadata: Mapping[str, str] = {}


class Discovery(msgspec.Struct, frozen=True):
    """Answer to discover."""

    sitename: str
    description: str
    endpoints: tuple[Endpoint, ...]


class Staging(msgspec.Struct, frozen=True, rename="camel"):
    """Answer to stage."""

    request_id: str


class State(Enum):
    """Where the staging of a file is."""

    SUBMITTED = "SUBMITTED"
    STARTED = "STARTED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    COMPLETED = "COMPLETED"


class FileProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file in the answer to poll."""

    path: str
    state: State
    error: str | None = None


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """Answer to poll; times are seconds since 1970."""

    id: str
    created_at: int
    started_at: int
    files: tuple[FileProgress, ...]


class Locality(Enum):
    """Where the bytes of a file are."""

    TAPE = "TAPE"
    DISK_AND_TAPE = "DISK_AND_TAPE"


class FileInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file in the answer to archiveinfo: its locality, or why it has none."""

    path: str
    locality: Locality | None = None
    error: str | None = None


def read(body: bytes, kind: type[T]) -> T:
    """Read the body of a request.

    Raises:
        InvalidRequest: not the JSON that the call takes.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"JSON validation error: {error}") from error


def _seconds(duration: str | None) -> int | None:
    """Read an ISO 8601 duration; one of months or nonsense counts as none: the field may be ignored."""
    if duration is None:
        return None
    try:
        return max(0, int(msgspec.convert(duration, timedelta).total_seconds()))
    except msgspec.ValidationError:
        return None
