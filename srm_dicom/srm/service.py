"""The SOAP edge: one WSGI application that answers all 39 operations, whatever path they come to.

An operation of the contract is always answered in its own response type; a fault is for what is no
such operation, and for a caller whom nobody has verified. Who calls is what our own TLS layer says,
never what a header says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from srm_dicom.errors import MdmError, NotAuthenticated
from srm_dicom.identity.principal import Principal
from srm_dicom.soap.endpoint import application as soap_application
from srm_dicom.soap.rpc import rpc_operation
from srm_dicom.srm import checks
from srm_dicom.srm.caller import DEFAULT_LIMITS, Broker, Caller, Limits
from srm_dicom.srm.contract import NAMESPACE, contract
from srm_dicom.srm.encode import envelope
from srm_dicom.srm.operations import OPERATIONS, Operation
from srm_dicom.srm.status import of_error
from srm_dicom.srm.types import Record, T
from srm_dicom.srm.wsdl import DEFAULT_LOCATION, document
from srm_dicom.telemetry import logger
from srm_dicom.web.environ import DELEGATED

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logger("srm")

PRINCIPAL = "srm_dicom.principal"
"""Key of the WSGI environment under which `web` puts the verified caller."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment may change about this edge.

    Attributes:
        location: the address that the WSDL names.
        max_message_bytes: of one request; 50,000 SURLs take about 6 MiB.
    """

    location: str = DEFAULT_LOCATION
    max_message_bytes: int = 8 * 2**20
    limits: Limits = DEFAULT_LIMITS


def application(broker: Broker, settings: Settings | None = None) -> WSGIApplication:
    """Return the application.

    Args:
        broker: does the work and checks the rights.
        settings: bounds and address.
    """
    settings = settings or Settings()
    return soap_application(
        [
            rpc_operation(
                name,
                T[operation.request],
                T[operation.response],
                _function(operation, broker, settings.limits),
                encode=partial(envelope, name),
            )
            for name, operation in OPERATIONS.items()
        ],
        NAMESPACE,
        "SRMService",
        wsdl=document(settings.location),
        recover=_recover,
        max_message_bytes=settings.max_message_bytes,
    )


def _function(
    operation: Operation, broker: Broker, limits: Limits
) -> Callable[[WSGIEnvironment, Any], Record]:
    def call(environ: WSGIEnvironment, request: Any) -> Record:
        caller = Caller(principal_of(environ), broker, limits, environ.get(DELEGATED))
        return answer(operation, request, caller)

    return call


def principal_of(environ: WSGIEnvironment) -> Principal:
    """Return who calls.

    Raises:
        NotAuthenticated: nobody whom our own TLS layer has verified.
    """
    principal = environ.get(PRINCIPAL)
    if not isinstance(principal, Principal):
        raise NotAuthenticated("no verified credential came with this connection")
    return principal


def answer(operation: Operation, request: Any, caller: Caller) -> Record:
    """Return the response of one call.

    Raises:
        MdmError: what went wrong; it becomes the returnStatus of the response.
    """
    if request is None:
        # A wrapper without its part: what is mandatory in it will be missed.
        request = T[operation.request]()
    try:
        checks.complete(operation.request, request)
        return operation.handler(request, caller)
    except MdmError as error:
        log.info("refused", operation=operation.name, dn=caller.principal.dn, reason=error.message)
        raise


def _recover(name: str, error: MdmError) -> Record | None:
    """Return the response that tells of an error; None where only a fault can (srmPing has no status)."""
    if isinstance(error, NotAuthenticated):
        return None
    operation = OPERATIONS[name]
    if all(field.name != "returnStatus" for field in contract().types[operation.response]):
        return None
    response: Record = T[operation.response](returnStatus=of_error(error))
    return response
