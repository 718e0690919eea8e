"""A connection to a metadata server: TLS in place, commands out, replies in, errors from the tree."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from srm_dicom import errors
from srm_dicom.errors import CatalogueUnavailable, InvalidRequest, MdmError
from srm_dicom.identity.credential import TRUST_ADVICE, Credential, refusal
from srm_dicom.wire import amga
from srm_dicom.wire.amga import Code

T = TypeVar("T")
DEFAULT_PORT = 8822
_PIECE_BYTES = 256 * 1024

LEAVES: Mapping[int, type[MdmError]] = {
    Code.NO_SUCH_ENTRY: errors.NotFound,
    Code.ILLEGAL_COMMAND: errors.NotSupported,
    Code.PERMISSION_DENIED: errors.NotAuthorised,
    Code.ILLEGAL_QUERY: errors.InvalidRequest,
    Code.LOCKED: errors.Overloaded,
    Code.NO_SUCH_ATTRIBUTE: errors.NotFound,
    Code.ENTRY_EXISTS: errors.AlreadyExists,
    Code.DIRECTORY_EXISTS: errors.AlreadyExists,
    Code.SEQUENCE: errors.InvalidRequest,
    Code.NOT_EMPTY: errors.NotEmpty,
    Code.TOO_LARGE: errors.TooLarge,
}
"""What a reply means on this side; any other code is the server's own trouble."""


class AmgaChannel:
    """One connection, opened when it is needed and opened again when the server has closed it.

    Args:
        endpoint: ``host:port``; without a port AMGA's own.
        credential: what to show, and whom to trust.
        timeout_s: for one call, its connection and handshake included.
    """

    def __init__(self, endpoint: str, credential: Credential, *, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._address = _address(endpoint)
        self._credential = credential
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._socket: ssl.SSLSocket | None = None
        self._protocol = amga.ClientConnection()

    def call(self, *words: str) -> Sequence[str]:
        """Send one command and return the rows of its reply.

        Raises:
            MdmError: what the server answered.
            CatalogueUnavailable: the server did not answer.
        """
        return self.batch([words])

    def batch(self, commands: Sequence[Sequence[str]]) -> Sequence[str]:
        """Send commands of which only the last has a reply, and return its rows.

        Raises:
            MdmError: what the server answered.
            CatalogueUnavailable: the server did not answer.
        """
        data = b"".join(amga.command(words) for words in commands)
        with self._lock:
            answer = self._exchange(data)
        if answer.code != Code.OK:
            leaf = LEAVES.get(answer.code, CatalogueUnavailable)
            raise leaf(answer.text or "refused by the metadata server")
        return answer.rows

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    def _exchange(self, data: bytes) -> amga.Reply:
        reused = self._socket is not None
        try:
            return self._converse(data)
        except (ConnectionError, ssl.SSLError, EOFError) as error:
            self.close()
            if not reused:
                raise _failure(self._endpoint, error) from error
        except OSError as error:
            self.close()
            raise _failure(self._endpoint, error) from error
        except MdmError:
            self.close()
            raise
        return self._exchange(data)

    def _converse(self, data: bytes) -> amga.Reply:
        deadline_s = time.monotonic() + self._timeout_s
        connection = self._socket or self._open(deadline_s)
        connection.settimeout(self._timeout_s)
        _say(connection, data)
        return self._await(connection, self._protocol.reply, deadline_s)

    def _open(self, deadline_s: float) -> ssl.SSLSocket:
        context = self._credential.client_context()
        self._protocol = amga.ClientConnection()
        plain = socket.create_connection(self._address, timeout=self._timeout_s)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._agree_on_tls(plain, deadline_s)
            self._socket = context.wrap_socket(plain, server_hostname=self._address[0])
        except BaseException:
            plain.close()
            raise
        _say(self._socket, amga.login())
        return self._socket

    def _agree_on_tls(self, plain: socket.socket, deadline_s: float) -> None:
        greeting = self._await(plain, self._protocol.greeting, deadline_s)
        plain.sendall(amga.choice("ssl"))
        agreed = self._await(plain, self._protocol.ready_for_handshake, deadline_s)
        if "ssl" not in greeting.ways or not agreed:
            raise CatalogueUnavailable(f"{self._endpoint} refuses TLS")

    def _await(self, connection: socket.socket, ready: Callable[[], T | None], deadline_s: float) -> T:
        while (value := ready()) is None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer in time")
            connection.settimeout(left_s)
            data = connection.recv(_PIECE_BYTES)
            if not data:
                raise EOFError("the server closed the connection")
            self._protocol.receive(data)
        return value


def _say(connection: ssl.SSLSocket, data: bytes) -> None:
    """Send; where that fails the server has said why before it closed, and that is read next."""
    with suppress(OSError):
        connection.sendall(data)


def _failure(endpoint: str, error: Exception) -> MdmError:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"{endpoint} is not who it should be: {error.verify_message}"
        return CatalogueUnavailable(reason, advice=TRUST_ADVICE)
    if isinstance(error, ssl.SSLError) and (refused := refusal(endpoint, error)) is not None:
        return refused
    if isinstance(error, OSError) and error.strerror:
        return CatalogueUnavailable(f"{endpoint}: {error.strerror}")
    return CatalogueUnavailable(f"{endpoint}: {error}")


def _address(endpoint: str) -> tuple[str, int]:
    host, colon, port = endpoint.rpartition(":")
    if not colon or port.endswith("]"):
        return endpoint.strip("[]"), DEFAULT_PORT
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidRequest("a metadata server is written host:port")
    return host.strip("[]"), int(port)
