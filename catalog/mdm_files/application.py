"""The HTTPS edge: a WSGI application over the table of calls.

The audit events of a call are durable before it is answered: one for what was granted, one for what was
refused, cut into pieces that fit a line of the trail.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import msgspec

from mdm_files.access import Access, Seen
from mdm_files.calls import CALLS, Call, Context
from mdm_files.settings import FileCatalogueSettings
from mdm_files.tree import Tree
from srm_dicom.audit.event import Action, Event, Outcome, printable
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.db.database import Database
from srm_dicom.errors import InternalError, InvalidRequest, MdmError, NotFound, TooLarge
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import Declaration, Right
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.telemetry import logger
from srm_dicom.web.problems import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logger("files")

PREFIX = "/v1/"
_PRINCIPAL = "srm_dicom.principal"
_OBJECTS_AN_EVENT = 200
_ACTIONS: Mapping[Declaration, Action] = {
    Right.NAME_READ: Action.QUERY,
    Right.NAME_WRITE: Action.DECISION,
}


class FileCatalogueApplication:
    """Answers ``POST /v1/<call>``."""

    def __init__(
        self, settings: FileCatalogueSettings, database: Database, audit: AuditLog, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._database = database
        self._tree = Tree(database)
        self._audit = audit
        self._guesses = Guesses(Patience(settings.misses_per_minute), clock or SystemClock())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        try:
            body = self._answer(environ)
        except MdmError as error:
            return Problem.of(error).answer(start_response)
        except Exception as error:  # noqa: BLE001 - the edge of a wire session
            return Problem.of(_defect(error)).answer(start_response)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> bytes:
        path = str(environ.get("PATH_INFO", ""))
        call = CALLS.get(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None
        if call is None:
            raise NotFound("no such call")
        if environ["REQUEST_METHOD"] != "POST":
            raise InvalidRequest("a call is made by POST")
        principal: Principal = environ[_PRINCIPAL]
        return msgspec.json.encode(self._run(call, principal, self._body(environ)))

    def _run(self, call: Call, principal: Principal, body: bytes) -> msgspec.Struct:
        try:
            request = msgspec.json.decode(body, type=call.request)
        except msgspec.DecodeError as error:
            raise InvalidRequest("the body is not what the call takes") from error
        self._guesses.admit(principal.dn)
        is_registrar = principal.dn in self._settings.registrars
        access = Access(self._tree, principal, is_registrar=is_registrar)
        try:
            with self._alone(call):
                return call.run(Context(self._database, self._tree, access, principal.dn), request)
        finally:
            self._guesses.missed(principal.dn, 0 if is_registrar else access.seen.misses)
            self._record(call, principal, access.seen)

    def _alone(self, call: Call) -> AbstractContextManager[None]:
        """Have what a call looks at stay so until it has changed it: a directory may be removed meanwhile."""
        return self._database.transaction() if call.right is Right.NAME_WRITE else nullcontext()

    def _record(self, call: Call, principal: Principal, seen: Seen) -> None:
        action = Action.RIGHTS_CHANGED if call.changes_rights else _ACTIONS[call.right]
        for outcome, objects in ((Outcome.ALLOWED, seen.granted), (Outcome.DENIED, seen.refused)):
            for piece in _pieces(objects):
                self._audit.record(
                    Event.by(
                        principal,
                        action,
                        outcome,
                        operation=call.name,
                        objects=piece,
                        rule=printable(seen.rule),
                    )
                )

    def _body(self, environ: WSGIEnvironment) -> bytes:
        body: bytes = environ["wsgi.input"].read(self._settings.body_bytes + 1)
        if len(body) > self._settings.body_bytes:
            raise TooLarge(f"a request has at most {self._settings.body_bytes} bytes")
        return body


def _pieces(objects: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(objects), _OBJECTS_AN_EVENT):
        yield tuple(dict.fromkeys(filter(None, objects[start : start + _OBJECTS_AN_EVENT])))


def _defect(error: Exception) -> InternalError:
    error_id = uuid.uuid4().hex[:12]
    log.error("call_failed", error=type(error).__name__, error_id=error_id)
    return InternalError(f"the file catalogue failed; its log has it under {error_id}")
