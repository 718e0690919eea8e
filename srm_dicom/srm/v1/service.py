"""The WSGI application of SRM v1.1, at its customary path beside that of v2.2.

What goes wrong in an operation that answers a RequestStatus is one: state Failed, the reason in errorMessage.
The others have no place for a reason and answer a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srm_dicom.errors import MdmError, NotAuthenticated
from srm_dicom.soap.endpoint import application as soap_application
from srm_dicom.soap.rpc import Operation as RpcOperation
from srm_dicom.srm.caller import Broker, Caller
from srm_dicom.srm.service import principal_of
from srm_dicom.srm.v1.codec import Codec
from srm_dicom.srm.v1.contract import MESSAGES, SIGNATURES
from srm_dicom.srm.v1.operations import OPERATIONS, Operation
from srm_dicom.srm.v1.statuses import FAILED, Structure, without_request
from srm_dicom.srm.v1.wsdl import DEFAULT_LOCATION, document
from srm_dicom.telemetry import logger
from srm_dicom.web.environ import DELEGATED

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logger("srm")

PATH = "/srm/managerv1"
"""Where every client of SRM v1.1 looks for it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment may change about this edge.

    Attributes:
        location: the address that the WSDL names.
        max_message_bytes: of one request.
    """

    location: str = DEFAULT_LOCATION
    max_message_bytes: int = 8 * 2**20


def application(broker: Broker, settings: Settings | None = None) -> WSGIApplication:
    """Return the application.

    Args:
        broker: does the work and checks the rights.
        settings: bounds and address.
    """
    settings = settings or Settings()
    return soap_application(
        [
            RpcOperation(name, dict.fromkeys(SIGNATURES[name].parts, object), None, _function(one, broker))
            for name, one in OPERATIONS.items()
        ],
        MESSAGES,
        "SRMServerV1",
        wsdl=document(settings.location),
        recover=_recover,
        max_message_bytes=settings.max_message_bytes,
        codec=Codec(),
    )


def _function(operation: Operation, broker: Broker) -> Callable[..., Any]:
    def call(environ: WSGIEnvironment, *arguments: Any) -> Any:
        caller = Caller(principal_of(environ), broker, delegated=environ.get(DELEGATED))
        try:
            return operation.handler(caller, *arguments)
        except MdmError as error:
            log.info("refused", operation=operation.name, dn=caller.principal.dn, reason=type(error).__name__)
            raise

    return call


def _recover(name: str, error: MdmError) -> Structure | None:
    """Return the RequestStatus that tells of an error; None where only a fault can."""
    if isinstance(error, NotAuthenticated) or SIGNATURES[name].result != "RequestStatus":
        return None
    return without_request(name, FAILED, error.message)
