"""The SOAP edge: one WSGI application that answers all 39 operations, whatever path they come to.

An operation of the contract is always answered in its own response type; a fault is for what is no
such operation. Who calls is what our own TLS layer has verified, never what a header says.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spyne.application import Application
from spyne.decorator import rpc
from spyne.error import ValidationError
from spyne.model.fault import Fault
from spyne.protocol.soap import Soap11
from spyne.server.wsgi import WsgiApplication
from spyne.service import Service, ServiceMeta

from srm_dicom.errors import InternalError, InvalidRequest, MdmError
from srm_dicom.identity.principal import Principal
from srm_dicom.srm import checks
from srm_dicom.srm.caller import DEFAULT_LIMITS, Broker, Caller, Limits
from srm_dicom.srm.contract import NAMESPACE
from srm_dicom.srm.encode import envelope
from srm_dicom.srm.operations import OPERATIONS, Operation
from srm_dicom.srm.status import of_error
from srm_dicom.srm.types import Record, T
from srm_dicom.srm.wsdl import DEFAULT_LOCATION, document
from srm_dicom.telemetry import logger

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logger("srm")

PRINCIPAL = "srm_dicom.principal"
"""Key of the WSGI environment under which `web` puts the verified caller."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment may change about this edge.

    Attributes:
        location: the address that the WSDL names.
        max_body_bytes: a longer request is refused before it is read.
    """

    location: str = DEFAULT_LOCATION
    max_body_bytes: int = 8 * 2**20
    limits: Limits = DEFAULT_LIMITS


def application(broker: Broker, settings: Settings | None = None) -> WSGIApplication:
    """Return the application.

    Args:
        broker: does the work and checks the rights.
        settings: bounds and address.
    """
    settings = settings or Settings()
    methods = {name: _method(operation, broker, settings.limits) for name, operation in OPERATIONS.items()}
    service = ServiceMeta("SRM", (Service,), methods)
    spyne = Application([service], NAMESPACE, in_protocol=_Lenient(), out_protocol=Soap11())
    calls: WSGIApplication = WsgiApplication(spyne, max_content_length=settings.max_body_bytes)
    wsdl = document(settings.location)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            return calls(environ, start_response)
        if environ["REQUEST_METHOD"] == "GET" and environ.get("QUERY_STRING", "").lower() == "wsdl":
            return _whole(start_response, "200 OK", "text/xml; charset=utf-8", wsdl)
        return _whole(start_response, "405 Method Not Allowed", "text/plain", _HINT)

    return serve


_HINT = b"This is an SRM v2.2 endpoint: POST SOAP to it, or GET ?wsdl.\n"


def _whole(start_response: StartResponse, status: str, content_type: str, body: bytes) -> list[bytes]:
    start_response(
        status, [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Allow", "POST, GET")]
    )
    return [body]


class _Lenient(Soap11):  # type: ignore[misc]
    """Soap11 that leaves judging values to `srm.checks`, where a wrong one gets a status, not a fault."""

    def __init__(self) -> None:
        super().__init__(parse_xsi_type=False)

    def deserialize(self, ctx: Any, message: Any) -> None:
        try:
            super().deserialize(ctx, message)
        except ValidationError as error:
            ctx.in_object = [error]


def _method(operation: Operation, broker: Broker, limits: Limits) -> Any:
    """Return a spyne method: rpc style, one part each way, named as its type (WSDL of SRM v2.2)."""

    def call(ctx: Any, request: Any) -> Record:
        caller = Caller(_principal(ctx.transport.req_env), broker, limits)
        response = answer(operation, request, caller)
        ctx.out_document = envelope(operation.name, response)
        return response

    call.__name__ = operation.name
    declare = rpc(
        T[operation.request].customize(sub_ns="", nullable=True),
        _returns=T[operation.response].customize(sub_ns=""),
        _in_variable_names={"request": operation.request},
        _out_variable_name=operation.response,
    )
    return declare(call)


def _principal(environ: WSGIEnvironment) -> Principal:
    principal = environ.get(PRINCIPAL)
    if not isinstance(principal, Principal):
        raise Fault("Client.Authentication", "no verified credential came with this connection")
    return principal


def answer(operation: Operation, request: Any, caller: Caller) -> Record:
    """Return the response of one call; what goes wrong is told in its returnStatus.

    Raises:
        Fault: srmPing went wrong, whose response has no returnStatus.
    """
    try:
        if operation.since is not None:
            _check(operation, request)
        return operation.handler(request, caller)
    except MdmError as error:
        return _refusal(operation, error, caller)
    except Exception as error:
        # The edge of a wire session: whatever it was, the caller gets an answer.
        incident = uuid.uuid4().hex[:12]
        log.exception("defect", operation=operation.name, error_id=incident, error=type(error).__name__)
        return _refusal(operation, InternalError(f"a defect of this server, incident {incident}"), caller)


def _check(operation: Operation, request: Any) -> None:
    if isinstance(request, ValidationError):
        raise InvalidRequest(f"an element of {operation.request} has a value that is none of its type")
    checks.complete(operation.request, request)


def _refusal(operation: Operation, error: MdmError, caller: Caller) -> Record:
    log.info(
        "refused",
        operation=operation.name,
        dn=caller.principal.dn,
        error=type(error).__name__,
        reason=error.message,
    )
    response = T[operation.response]
    if "returnStatus" not in response._type_info:  # noqa: SLF001 - spyne's table of a model's elements
        raise Fault("Server", error.message)
    made: Record = response(returnStatus=of_error(error))
    return made
