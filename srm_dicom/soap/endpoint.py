"""The WSGI application of a SOAP endpoint: whatever arrives, a SOAP envelope with a length goes back.

spyne reads and writes the types; calling the function and telling errors is done here, in one place, because
spyne's own transport lets some requests escape as bare stack traces and quotes the rest in its faults.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from lxml import etree

from srm_dicom.errors import InternalError, InvalidRequest, MdmError, NotSupported, TooLarge
from srm_dicom.soap.compat import Application, MethodContext, ServerBase, Soap11
from srm_dicom.soap.envelope import body_entry
from srm_dicom.soap.faults import fault
from srm_dicom.soap.reader import message_reader
from srm_dicom.soap.rpc import Operation, rpc_service
from srm_dicom.telemetry import logger

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logger("soap")

MAX_MESSAGE_BYTES = 2 * 1024 * 1024

Recover = Callable[[str, MdmError], Any]


class Codec(Protocol):
    """Reads and writes the messages of operations."""

    def decode(self, operation: Operation, entry: etree._Element) -> Any:
        """Read a body entry as an object with an attribute a part.

        Raises:
            InvalidRequest: a value is not of its type.
        """
        ...

    def encode(self, operation: Operation, result: Any) -> bytes:
        """Write the response envelope."""
        ...


def application(
    operations: Iterable[Operation],
    tns: str,
    name: str,
    *,
    wsdl: bytes | None = None,
    recover: Recover | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    codec: Codec | None = None,
) -> WSGIApplication:
    """Make the WSGI application of some operations.

    Args:
        operations: the port type.
        tns: namespace of the wrapper elements.
        name: of the service.
        wsdl: what ``GET ...?wsdl`` answers.
        recover: turns the error of a known operation into its response, called as
            ``recover(operation_name, error)``; None, or an answer of None, means a fault.
        max_message_bytes: of a request.
        codec: reads and writes the messages where spyne cannot.
    """
    declared = tuple(operations)
    codec = codec or _SpyneCodec(declared, tns, name)
    return _Endpoint(declared, tns, codec, wsdl, recover, max_message_bytes)


class _Endpoint:
    def __init__(
        self,
        operations: tuple[Operation, ...],
        tns: str,
        codec: Codec,
        wsdl: bytes | None,
        recover: Recover | None,
        max_message_bytes: int,
    ) -> None:
        self._codec = codec
        self._operations = {f"{{{tns}}}{operation.name}": operation for operation in operations}
        self._wsdl = wsdl
        self._recover = recover
        self._max_message_bytes = max_message_bytes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method == "POST":
            status, body = self._post(environ)
        elif method in ("GET", "HEAD") and self._wsdl and environ["QUERY_STRING"].lower() == "wsdl":
            status, body = "200 OK", self._wsdl
        else:
            status, body = "405 Method Not Allowed", fault(InvalidRequest("a SOAP message is sent by POST"))
        headers = [("Content-Type", "text/xml; charset=utf-8"), ("Content-Length", str(len(body)))]
        if status.startswith("405"):
            headers.append(("Allow", "POST"))
        start_response(status, headers)
        return [body]

    def _post(self, environ: WSGIEnvironment) -> tuple[str, bytes]:
        try:
            return "200 OK", self._answer(environ)
        except MdmError as error:
            return "500 Internal Server Error", fault(error)

    def _answer(self, environ: WSGIEnvironment) -> bytes:
        entry = body_entry(self._message(environ))
        operation = self._operations.get(entry.tag)
        if operation is None:
            raise NotSupported("this service has no such operation")
        try:
            result = operation.call(environ, self._codec.decode(operation, entry))
            return self._codec.encode(operation, result)
        except MdmError as error:
            return self._recovered(operation, error)
        except Exception as error:  # noqa: BLE001 - the edge of a wire session
            return self._recovered(operation, _defect(operation, error))

    def _message(self, environ: WSGIEnvironment) -> bytes:
        data: bytes = environ["wsgi.input"].read(self._max_message_bytes + 1)
        if len(data) > self._max_message_bytes:
            raise TooLarge(f"a message has at most {self._max_message_bytes} bytes")
        return data

    def _recovered(self, operation: Operation, error: MdmError) -> bytes:
        response = self._recover(operation.name, error) if self._recover else None
        if response is None:
            raise error
        return self._codec.encode(operation, response)


class _SpyneCodec(ServerBase):  # type: ignore[misc]
    """Reads by the types that spyne knows; writes by spyne what does not write itself."""

    transport = "http://schemas.xmlsoap.org/soap/http"

    def __init__(self, operations: tuple[Operation, ...], tns: str, name: str) -> None:
        super().__init__(Application([rpc_service(operations)], tns, name, Soap11(), Soap11()))
        self._tns = tns
        self._readers = {operation.name: message_reader(operation.parts) for operation in operations}

    def decode(self, operation: Operation, entry: etree._Element) -> Any:
        """Read a body entry as the request message of an operation.

        Raises:
            InvalidRequest: a value is not of its type.
        """
        return self._readers[operation.name](entry)

    def encode(self, operation: Operation, result: Any) -> bytes:
        """Write the response message of an operation."""
        if operation.encode is not None:
            return operation.encode(result)
        context = self._context(operation)
        context.out_object = [] if operation.result is None else [result]
        self.app.out_protocol.serialize(context, self.app.out_protocol.RESPONSE)
        encoded: bytes = etree.tostring(context.out_document, xml_declaration=True, encoding="utf-8")
        return encoded

    def _context(self, operation: Operation) -> Any:
        context = MethodContext(self, MethodContext.SERVER)
        context.method_request_string = f"{{{self._tns}}}{operation.name}"
        (context,) = self.app.in_protocol.generate_method_contexts(context)
        return context


def _defect(operation: Operation, error: Exception) -> InternalError:
    error_id = uuid.uuid4().hex[:12]
    log.error(
        "soap_operation_failed", operation=operation.name, error=type(error).__name__, error_id=error_id
    )
    return InternalError(f"the server failed; the log has it under {error_id}")
