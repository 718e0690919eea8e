"""The HTTP of one connection: request after request over h11, each handed to a WSGI application.

A request that is refused before the application has seen all of it ends the connection: what follows on
the wire could be anything. The application's defects become a 500 that says nothing but an id.
"""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from srm_dicom.clock import Clock
from srm_dicom.errors import InternalError, MdmError
from srm_dicom.identity.watch import LOOK_EVERY_S, Watch
from srm_dicom.telemetry import logger
from srm_dicom.web.bearer import Bearers
from srm_dicom.web.body import BodyReader, RequestBody, declared_bytes
from srm_dicom.web.environ import Caller, environ
from srm_dicom.web.limits import Limits
from srm_dicom.web.problems import Problem
from srm_dicom.web.response import Response
from srm_dicom.web.stream import Budget, PeerGone, Stalled, Stream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logger("web")

_METHODS = frozenset(
    ("GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "MOVE", "COPY")
)


class Session:
    """One authenticated connection.

    Args:
        stream: the connection, after its handshake.
        app: answers the requests.
        caller: who is on the line.
        bearers: find the caller of a request that brings a token.
        watch: asks whether the caller may still be here.
        address: host and port that the environment names.
        limits: what the peer may cost.
        clock: for deadlines, dates and the end of the credential.
    """

    def __init__(
        self,
        stream: Stream,
        app: WSGIApplication,
        caller: Caller,
        *,
        bearers: Bearers,
        watch: Watch,
        address: tuple[str, int],
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._stream = stream
        self._app = app
        self._caller = caller
        self._bearers = bearers
        self._watch = watch
        self._address = address
        self._limits = limits
        self._clock = clock
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._log = log.bind()  # else every line looks for a logger
        self.busy = False

    def serve(self, first: bytes, stopping: Callable[[], bool]) -> None:
        """Answer requests until one side ends the connection; `first` is what has arrived already.

        Raises:
            PeerGone: the connection broke in the middle of an exchange.
            Stalled: the peer was too slow in the middle of an exchange.
        """
        if first:
            self._http.receive_data(first)
        while not stopping() and self._exchange():
            self.busy = False
            self._http.start_next_cycle()

    def _exchange(self) -> bool:
        """Read and answer one request; False when the connection has to end."""
        try:
            request = self._next_request()
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            return self._refused("", Problem(status, "the request could not be read"))
        if request is None:
            return False
        try:
            self._watch.also(self._caller.principal)
            self._watch.now()
            caller = self._bearers.caller_of(request, self._caller)
            self._watch.also(caller.principal)
        except MdmError as error:
            return self._refused(request.method.decode("ascii"), Problem.of(error))
        return self._answer(request, caller)

    def _next_request(self) -> h11.Request | None:
        idle_until_s = self._clock.monotonic_s() + self._patience_s()
        budget = Budget(0.0)
        while True:
            if not self.busy:
                left_s = idle_until_s - self._clock.monotonic_s()
                budget = Budget(min(left_s, LOOK_EVERY_S))
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self.busy = True
                return event
            if event is not h11.NEED_DATA:
                return None
            if self._http.trailing_data[0] and not self.busy:
                self.busy = True
                budget = Budget(self._limits.head_s)
            try:
                self._http.receive_data(self._stream.receive(budget))
            except Stalled:
                if self.busy or self._clock.monotonic_s() >= idle_until_s:
                    return None

    def _patience_s(self) -> float:
        credential_s = (self._caller.principal.expires - self._clock.now()).total_seconds()
        return max(0.0, min(self._limits.idle_s, credential_s))

    def _answer(self, request: h11.Request, caller: Caller) -> bool:
        started_s = self._clock.monotonic_s()
        method = request.method.decode("ascii")
        response = self._response(method)
        try:
            complete = self._run(request, response, caller)
        except (PeerGone, Stalled):
            response.refuse(Problem(HTTPStatus.REQUEST_TIMEOUT, "the request came too slowly"))
            raise
        except MdmError as error:
            complete = response.refuse(Problem.of(error))
        except Exception as error:  # noqa: BLE001 - the edge of a wire session
            complete = response.refuse(self._defect(error))
        self._record(method, response, started_s, caller)
        return complete and self._settled()

    def _run(self, request: h11.Request, response: Response, caller: Caller) -> bool:
        declared = declared_bytes(request)
        body = RequestBody(self._http, self._stream, self._limits, declared)
        response.closes_if(lambda: body.exceeds(self._limits.drain_bytes))
        variables = environ(request, BodyReader(body, declared), caller, self._address)
        result = self._app(variables, response.start)
        try:
            response.run(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        if self._http.our_state is h11.DONE:
            body.drain(self._limits.drain_bytes)
        return True

    def _settled(self) -> bool:
        """Tell whether both sides are ready for another request; if not, let the peer read the answer."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            return True
        if self._http.their_state is not h11.DONE:
            self._stream.linger(self._limits.linger_s, self._limits.body_bytes)
        return False

    def _refused(self, method: str, problem: Problem) -> bool:
        response = self._response(method)
        response.refuse(problem)
        self._record(method, response, self._clock.monotonic_s(), self._caller)
        self._stream.linger(self._limits.linger_s, self._limits.body_bytes)
        return False

    def _response(self, method: str) -> Response:
        budget = Budget(self._limits.transfer_s, bytes_per_s=self._limits.slowest_bytes_per_s)
        return Response(
            self._http,
            lambda data: self._stream.send(data, budget),
            method,
            _http_date(self._clock.now()),
        )

    def _defect(self, error: Exception) -> Problem:
        error_id = uuid.uuid4().hex[:12]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        source = f"{frame.filename}:{frame.lineno}"
        log.error("web_application_failed", error=type(error).__name__, error_id=error_id, source=source)
        return Problem.of(InternalError(f"the server failed; the log has it under {error_id}"))

    def _record(self, method: str, response: Response, started_s: float, caller: Caller) -> None:
        self._log.info(
            "http_request",
            dn=caller.principal.dn,
            peer=caller.peer,
            verb=method if method in _METHODS else "other",
            status=int(response.status or 0),
            bytes=response.body_bytes,
            seconds=round(self._clock.monotonic_s() - started_s, 4),
        )


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
