"""How a request looks to its owner now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from srm_dicom.broker.areas import UPLOADS
from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState, FileView, RequestKind, RequestView
from srm_dicom.errors import IntegrityError, NotDelivered
from srm_dicom.ids import Guid, SitePath
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.staged import Staged, StagedFiles
from srm_dicom.store.uploads import Upload, Uploads

_FAILED = (FileState.FAILED, FileState.TIMED_OUT)
_STEPS = (FileState.SPACE_AVAILABLE, FileState.STORING, FileState.PINNED)


class Viewer:
    """Makes views of requests.

    Args:
        nodes: node name to (protocol to base URL).
        poll_s: the longest that a caller is told to wait before it asks again.
    """

    def __init__(
        self, nodes: Mapping[str, Mapping[str, str]], staged: StagedFiles, uploads: Uploads, poll_s: int
    ) -> None:
        self._nodes = nodes
        self._uploads = uploads
        self._staged = staged
        self._poll_s = poll_s

    def view(
        self,
        request: Request,
        files: Sequence[RequestFile],
        states: tuple[FileState, ...],
        now: datetime,
        staged: Mapping[Guid, Staged] | None = None,
    ) -> RequestView:
        """Return a request as its owner sees it.

        Args:
            request: the request.
            files: those of its files that are told of.
            states: of all its files.
            now: the time.
            staged: where files are, if that has been asked.

        Raises:
            IntegrityError: a file is on a node without a URL.
        """
        if staged is None:
            held = (row for file in files if file.state is FileState.PINNED for row in file.rows)
            staged = self._staged.find([row.guid for row in held if row.guid])
        uploads = self._uploads.of_request(request.token) if request.kind is RequestKind.PUT else {}
        return RequestView(
            token=request.token,
            kind=request.kind,
            files=tuple(
                _told(request.kind, self._file(request, file, staged, uploads, now)) for file in files
            ),
            states=tuple(told_state(request.kind, state) for state in states),
            remaining_s=seconds_left(request.deadline_at, now),
            created_at=request.created_at,
        )

    def _file(
        self,
        request: Request,
        file: RequestFile,
        staged: Mapping[Guid, Staged],
        uploads: Mapping[SitePath, Upload],
        now: datetime,
    ) -> FileView:
        if file.path is not None and file.path in uploads and file.state is FileState.SPACE_AVAILABLE:
            return self._upload(request, file, uploads[file.path], now)
        if file.state in ACTIVE:
            wait_s = self._wait_s(now - request.created_at)
            return FileView(file.surl, file.state, explanation=_explained(file), wait_s=wait_s)
        if file.state is not FileState.PINNED:
            failure = file.failure if file.state in _FAILED else None
            return FileView(file.surl, file.state, failure, file.explanation)
        there = [staged[row.guid] for row in file.rows if row.guid and row.guid in staged]
        nodes = {place.node for place in there}
        if len(nodes) > 1:
            return FileView(file.surl, FileState.FAILED, _scattered())
        complete = len(there) == len(file.rows)
        return FileView(
            surl=file.surl,
            state=file.state,
            size_bytes=there[0].size_bytes if complete and not file.parts else None,
            turl=self._turl(request, file.path, nodes.pop()) if complete and file.path else None,
            pin_left_s=seconds_left(file.pin_until, now),
        )

    def _upload(self, request: Request, file: RequestFile, upload: Upload, now: datetime) -> FileView:
        base = self._nodes.get(upload.node, {}).get(request.protocol)
        if base is None:
            raise IntegrityError("an upload goes to a node that this site does not name")
        return FileView(
            surl=file.surl,
            state=file.state,
            size_bytes=upload.received.size_bytes if upload.received else upload.expected_bytes or None,
            turl=f"{base}{UPLOADS}/{upload.name}",
            pin_left_s=seconds_left(file.deadline_at, now),
        )

    def _wait_s(self, age: timedelta) -> int:
        # A tenth of the wait so far: ARC, which does as it is told, is late by no more than that.
        return max(1, min(int(age.total_seconds()) // 10, self._poll_s))

    def _turl(self, request: Request, path: SitePath, node: str) -> str | None:
        if request.kind is not RequestKind.GET:
            return None
        base = self._nodes.get(node, {}).get(request.protocol)
        if base is None:
            raise IntegrityError("a staged file is on a node that this site does not name")
        return f"{base}{path}"


def told_state(kind: RequestKind, state: FileState) -> FileState:
    """Return a state as its owner is told of it: what is a step of a copy is no offer to anybody."""
    return FileState.IN_PROGRESS if kind is RequestKind.COPY and state in _STEPS else state


def told_counts(kind: RequestKind, counts: Mapping[FileState, int]) -> Mapping[FileState, int]:
    """Return how many files are in each state, as `told_state` has it."""
    told: Counter[FileState] = Counter()
    for state, count in counts.items():
        told[told_state(kind, state)] += count
    return told


def _told(kind: RequestKind, view: FileView) -> FileView:
    state = told_state(kind, view.state)
    return view if state is view.state else replace(view, state=state, pin_left_s=None, wait_s=1)


def _explained(file: RequestFile) -> str | None:
    """Return what a source said of a file that waits; of what has parts, otherwise how many are there."""
    if file.explanation or not file.parts:
        return file.explanation
    staged = sum(part.state is FileState.PINNED for part in file.parts)
    return f"{staged} of {len(file.parts)} files are staged"


def _scattered() -> NotDelivered:
    return NotDelivered(
        "what this name is made of lies on several nodes", advice="Ask for the files themselves."
    )


def seconds_left(until: datetime | None, now: datetime) -> int:
    """Return whole seconds until a moment, rounded up: nothing of what was promised is missing at once."""
    return max(0, math.ceil((until - now).total_seconds())) if until else 0
