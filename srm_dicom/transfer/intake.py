"""The node's side of `client.scratch`: takes sealed files from stagers into this node's scratch area.

It is the only way between the zones, and it leads inward for nobody: it takes bytes and the names they
shall have, and gives what users have uploaded; there is no call that lists or removes anything. Callers
are the stagers that the configuration lists by name; a limited proxy is none. A body that does not end
(the connection died, the stager was killed) leaves no file, and what is taken in and never published is
dropped by the janitor.

``POST /scratch/incoming`` streams one file and answers ``{"id": ...}``; ``POST /scratch/publish`` takes
``[{"id": ..., "name": "<guid>.<generation>"}, ...]`` and makes all of them durable, or none;
``POST /scratch/read`` takes ``{"id": ..., "offset": ..., "size": ...}`` and answers bytes of an upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import IO, TYPE_CHECKING

import msgspec

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.scratch import INCOMING, PUBLISH, READ, Piece, Wanted, Written
from srm_dicom.errors import InvalidRequest, MdmError, NotAuthorised, NotFound, TooLarge
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import Right, requires
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.sealeduploads import SealedUploads
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.problems import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CHUNK_BYTES = 256 * 1024
MAX_LIST_BYTES = 4 * 1024 * 1024
"""Of one list of names: some 40,000 files."""


class Intake:
    """What a stager may do here; every call decides anew."""

    def __init__(
        self,
        area: ScratchArea,
        stagers: Iterable[str],
        audit: AuditLog,
        uploads: SealedUploads | None = None,
    ) -> None:
        """Open the area, and what is uploaded here, for the stagers of these names."""
        self._area = area
        self._uploads = uploads or SealedUploads(area)
        self._stagers = frozenset(stagers)
        self._audit = audit

    @requires(Right.SCRATCH_WRITE)
    def incoming(self, principal: Principal, body: IO[bytes]) -> bytes:
        """Take one file in.

        Raises:
            NotAuthorised: the caller is no stager.
            NoSpace: the disk is full.
        """
        self._check(principal, "incoming")
        incoming = self._area.begin()
        try:
            while chunk := body.read(CHUNK_BYTES):
                incoming.write(chunk)
            incoming.finish()
        except BaseException:
            incoming.discard()
            raise
        return msgspec.json.encode(Written(incoming.id))

    @requires(Right.SCRATCH_WRITE)
    def publish(self, principal: Principal, body: IO[bytes]) -> bytes:
        """Make files that were taken in ready under their names.

        Raises:
            NotAuthorised: the caller is no stager.
            InvalidRequest, TooLarge: the list is not acceptable; nothing has happened.
            NoSpace, Overloaded: see `scratch.node.ScratchNode.publish`.
        """
        self._check(principal, "publish")
        files = _listed(body)
        names = tuple(str(name) for name, _ in files)
        if not self._uploads.names().isdisjoint(file_id for _, file_id in files):
            raise InvalidRequest("an image that was handed in is not published as it is")
        self._audit.record(_event(principal, Outcome.ALLOWED, "publish", names))
        self._area.publish(files)
        return b""

    @requires(Right.SCRATCH_WRITE)
    def read(self, principal: Principal, body: IO[bytes]) -> bytes:
        """Return bytes of a file that is not ready: what a user has uploaded.

        Raises:
            NotAuthorised: the caller is no stager.
            InvalidRequest: the body names no bytes, or too many.
            Overloaded: there is no such file.
        """
        self._check(principal, "read")
        try:
            wanted = msgspec.json.decode(body.read(MAX_LIST_BYTES), type=Piece)
        except msgspec.MsgspecError as error:
            raise InvalidRequest("not a piece of an upload") from error
        return self._uploads.read(wanted.id, wanted.offset, wanted.size)

    def _check(self, principal: Principal, operation: str) -> None:
        if principal.dn in self._stagers and not principal.limited:
            return
        self._audit.record(_event(principal, Outcome.DENIED, operation))
        raise NotAuthorised(
            "this port is for the site's stagers", advice="[intake] stagers lists them by their names."
        )


def application(intake: Intake) -> WSGIApplication:
    """Return the WSGI application over an intake."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            call = calls(intake).get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            if call is None:
                raise NotFound("no such call")
            answer = call(environ[PRINCIPAL], environ["wsgi.input"])
        except MdmError as error:
            return Problem.of(error).answer(start_response)
        status = HTTPStatus.OK if answer else HTTPStatus.NO_CONTENT
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
        return [answer]

    return app


Call = Callable[[Principal, IO[bytes]], bytes]


def calls(intake: Intake) -> Mapping[tuple[str, str], Call]:
    """Return every call there is, by method and path."""
    return {
        ("POST", INCOMING): intake.incoming,
        ("POST", PUBLISH): intake.publish,
        ("POST", READ): intake.read,
    }


def _listed(body: IO[bytes]) -> list[tuple[StagedName, str]]:
    content = body.read(MAX_LIST_BYTES + 1)
    if len(content) > MAX_LIST_BYTES:
        raise TooLarge(f"a list of files has at most {MAX_LIST_BYTES} bytes")
    try:
        wanted = msgspec.json.decode(content, type=list[Wanted])
        files = [(StagedName.parse(one.name), one.id) for one in wanted]
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidRequest("not a list of files and their names") from error
    if len({name for name, _ in files}) < len(files) or len({one for _, one in files}) < len(files):
        raise InvalidRequest("a file or a name stands in the list twice")
    return files


def _event(principal: Principal, outcome: Outcome, operation: str, objects: tuple[str, ...] = ()) -> Event:
    action = Action.STAGING if outcome is Outcome.ALLOWED else Action.REFUSAL
    return Event.by(principal, action, outcome, operation=operation, objects=objects)
