"""The SOAP edge: a WSGI application over the service; ``GET ?wsdl`` answers the contract."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mdm_keys.service import KeyService
from mdm_keys.wsdl import document
from srm_dicom.errors import InternalError, InvalidRequest, MdmError, TooLarge
from srm_dicom.identity.principal import Principal
from srm_dicom.soap.envelope import body_entry
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra import plain
from srm_dicom.wire.hydra.contract import OPERATIONS
from srm_dicom.wire.hydra.messages import CONTENT_TYPE, fault, read_request, response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logger("keys")

PRINCIPAL = "srm_dicom.principal"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Room for the largest bulk call."""


def method_name(operation: str) -> str:
    """Return the name of the service's method for an operation."""
    return re.sub("[A-Z]", lambda match: "_" + match[0].lower(), operation)


def application(service: KeyService, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> WSGIApplication:
    """Return the WSGI application of a key server.

    Args:
        service: what the operations do.
        max_message_bytes: of a request.
    """
    methods: Mapping[str, Callable[..., Any]] = {
        name: getattr(service, method_name(name)) for name in OPERATIONS
    }

    def answer(principal: Principal, message: bytes) -> bytes:
        operation, arguments = plain.read_request(message) or read_request(body_entry(message))
        return response(operation.name, methods[operation.name](principal, *arguments))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            status, body = _post(environ, answer, max_message_bytes)
        elif environ["QUERY_STRING"].lower() == "wsdl":
            status, body = "200 OK", document(_location(environ))
        else:
            status, body = (
                "405 Method Not Allowed",
                fault(InvalidRequest("a call is a SOAP message sent by POST")),
            )
        start_response(status, [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))])
        return [body]

    return app


def _post(
    environ: WSGIEnvironment, answer: Callable[[Principal, bytes], bytes], max_message_bytes: int
) -> tuple[str, bytes]:
    try:
        return "200 OK", answer(environ[PRINCIPAL], _message(environ, max_message_bytes))
    except MdmError as error:
        return "500 Internal Server Error", fault(error)
    except Exception as error:  # noqa: BLE001 - the edge of a wire session
        return "500 Internal Server Error", fault(_defect(error))


def _message(environ: WSGIEnvironment, max_message_bytes: int) -> bytes:
    message: bytes = environ["wsgi.input"].read(max_message_bytes + 1)
    if len(message) > max_message_bytes:
        raise TooLarge(f"a message has at most {max_message_bytes} bytes")
    return message


def _defect(error: Exception) -> InternalError:
    error_id = uuid.uuid4().hex[:12]
    log.error("key_operation_failed", error=type(error).__name__, error_id=error_id)
    return InternalError(f"the server failed; the log has it under {error_id}")


def _location(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return f"https://{host}{environ.get('PATH_INFO') or '/'}"
