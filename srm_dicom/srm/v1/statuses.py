"""What SRM v1.1 tells of requests and files: a few words for states, all reasons in one errorMessage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srm_dicom.broker.views import FileState, FileView, Listing, RequestKind, RequestView
from srm_dicom.errors import MdmError, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.srm import permissions
from srm_dicom.srm.status import of_file
from srm_dicom.srm.v1.contract import REQUEST_STATUS, STRUCTURE
from srm_dicom.store.namespace import Entry

Structure = dict[str, Any]
"""A structure of the contract by the names of its elements."""

PENDING, READY, RUNNING, DONE, FAILED = "Pending", "Ready", "Running", "Done", "Failed"
ACTIVE = "Active"

STATES: Mapping[FileState, str] = {
    FileState.QUEUED: PENDING,
    FileState.IN_PROGRESS: PENDING,
    FileState.SUSPENDED: PENDING,
    FileState.PINNED: READY,
    FileState.SPACE_AVAILABLE: READY,
    FileState.STORING: RUNNING,
    FileState.STORED: DONE,
    FileState.RELEASED: DONE,
    FileState.EXPIRED: FAILED,
    FileState.TIMED_OUT: FAILED,
    FileState.FAILED: FAILED,
    FileState.ABORTED: FAILED,
}
"""The word for each state of a file; the clients' own Running is not kept, only answered."""

TYPES: Mapping[RequestKind, str] = {
    RequestKind.GET: "Get",
    RequestKind.BRING_ONLINE: "Pin",
    RequestKind.PUT: "Put",
    RequestKind.COPY: "Copy",
}

_MAX_REASONS = 10
_NOTHING: Mapping[str, object] = {"string": None, "dateTime": None, "boolean": False}


def blank(kind: str) -> Structure:
    """Return a structure in which nothing is said: numbers are 0, since Java's clients take no nil there."""
    return {
        name: [] if inner.endswith("[]") else _NOTHING.get(inner, 0)
        for name, inner in STRUCTURE[kind].elements.items()
    }


def without_request(kind: str, state: str, message: str | None = None, wait_s: int = 0) -> Structure:
    """Return the RequestStatus of what leaves no request behind; its number is 0."""
    told = {"type": kind, "state": state, "errorMessage": message, "estTimeToStart": wait_s}
    return blank("RequestStatus") | told


def of_request(
    view: RequestView,
    numbers: Sequence[int],
    sources: Sequence[str] = (),
    said: Mapping[int, tuple[str, str]] | None = None,
) -> Structure:
    """Return the RequestStatus of a request.

    Args:
        view: all files of it.
        numbers: of its files.
        sources: of a copy, what each file is copied from.
        said: by a file's number, the state and the reason that take the place of what the view has.
    """
    told = dict(zip(numbers, ((_state(file), _reason(file, view.kind)) for file in view.files), strict=True))
    told |= said or {}
    waits = [file.wait_s or 0 for file in view.files]
    files = [
        _file(view, file, number, told[number][0], sources[place] if sources else None)
        for place, (number, file) in enumerate(zip(numbers, view.files, strict=True))
    ]
    reasons = (
        f"{file.surl}: {reason}"
        for file, (state, reason) in zip(view.files, told.values(), strict=True)
        if state == FAILED
    )
    status = {
        "requestId": numbers[0],
        "type": TYPES[view.kind],
        "state": overall({state for state, _ in told.values()}),
        "submitTime": view.created_at,
        "startTime": view.created_at,
        "estTimeToStart": max(waits),
        "fileStatuses": files,
        "errorMessage": _joined(reasons),
        "retryDeltaTime": max(1, *waits),
    }
    return dict.fromkeys(REQUEST_STATUS) | status


def overall(states: set[str]) -> str:
    """Return the state of a request whose files are in `states`."""
    if states & {READY, RUNNING}:
        return ACTIVE
    if PENDING in states:
        return PENDING
    return DONE if DONE in states else FAILED


def _state(file: FileView) -> str:
    return FAILED if file.failure is not None else STATES[file.state]


def _reason(file: FileView, kind: RequestKind) -> str:
    told = of_file(file, kind)
    reason: str = told.explanation or told.statusCode
    return reason


def _joined(reasons: Iterator[str]) -> str | None:
    told = [reason for _, reason in zip(range(_MAX_REASONS), reasons, strict=False)]
    return "; ".join(told) or None


def _file(view: RequestView, file: FileView, number: int, state: str, source: str | None) -> Structure:
    reads = view.kind in (RequestKind.GET, RequestKind.BRING_ONLINE)
    told = {
        "SURL": file.surl,
        "size": file.size_bytes or 0,
        "isPinned": file.state is FileState.PINNED,
        "isPermanent": True,
        "isCached": file.state is FileState.PINNED,
        "state": state,
        "fileId": number,
        "TURL": file.turl,
        "estSecondsToStart": file.wait_s or 0,
        "sourceFilename": file.surl if reads else source,
        "destFilename": None if reads else file.surl,
    }
    return blank("RequestFileStatus") | told


def of_name(listing: Listing, principal: Principal) -> Structure:
    """Return the FileMetaData of a name.

    Raises:
        MdmError: there is none that the caller may see.
    """
    entry = found(listing)
    shown = permissions.shown(entry, principal)
    told = {
        "SURL": listing.text,
        "owner": shown["ownerPermission"].userID,
        "group": shown["groupPermission"].groupID,
        "permMode": _mode(
            shown["ownerPermission"].mode, shown["groupPermission"].mode, shown["otherPermission"]
        ),
        "isPermanent": True,
        "isCached": listing.online,
    }
    if entry.facts is not None:
        told |= {
            "size": entry.facts.size_bytes,
            "checksumType": "adler32",
            "checksumValue": entry.facts.adler32,
        }
    return blank("FileMetaData") | told


def found(listing: Listing) -> Entry:
    """Return the entry of a name.

    Raises:
        MdmError: there is none that the caller may see.
    """
    if listing.entry is None or listing.failure is not None:
        raise named(listing.text, listing.failure or NotFound("no such file or directory"))
    return listing.entry


def named(surl: str, error: MdmError) -> MdmError:
    """Return an error that says which of several files it is about."""
    return type(error)(f"{surl}: {error.message}", advice=error.advice)


def _mode(*words: str) -> int:
    """Return the bits of a Unix mode from the words for owner, group and others."""
    mode = 0
    for word in words:
        letters = permissions.letters(word)
        mode = mode << 3 | 4 * ("r" in letters) | 2 * ("w" in letters) | ("x" in letters)
    return mode
