"""The HTTP server under SRM, WebDAV, keys and pages: one thread a connection, https and httpg on one port.

Accepting does nothing but start a thread, so no peer can delay another one before it is authenticated
(ADR 0001 has the figures). The number of connections is bounded, and of them those from one address and
those of one identity; when a bound is reached, the peer (of that address) that has been silent longest
without having authenticated makes room, and only if there is none the newcomer is turned away.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.tokens import TokenVerifier
from srm_dicom.listening import accepted, listener, make_room
from srm_dicom.telemetry import logger
from srm_dicom.turns import Turns
from srm_dicom.web.connection import Connection, Door
from srm_dicom.web.limits import Limits

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logger("web")

_BACKLOG = 1024
_PAUSE_S = 0.05  # after a failed accept: the process is out of descriptors or threads


class WebServer:
    """Serves a WSGI application to callers that the gate lets in.

    The socket is bound when the object is made, so `port` is known before `start`.

    Args:
        app: gets ``srm_dicom.principal`` and ``srm_dicom.peer`` in its environment.
        gate: verifies callers and holds the host credential.
        host: name or address to listen on; ``::`` takes IPv4 as well.
        port: 0 for any.
        maximum_tls: TLS 1.2 where Globus clients call (httpg), else TLS 1.3.
        limits: what one peer may cost.
        name: of the service, for threads and logs.
        clock: deadlines and the ends of credentials.
        audit: logins and refusals go there.
        tokens: takes WLCG tokens, from callers with a certificate or without; None takes none.

    Raises:
        OSError: the address is not to be had.
    """

    def __init__(  # noqa: PLR0913 - a server has this many sides
        self,
        app: WSGIApplication,
        gate: Gate,
        *,
        host: str,
        port: int,
        maximum_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        limits: Limits | None = None,
        name: str,
        clock: Clock | None = None,
        audit: AuditLog | None = None,
        tokens: TokenVerifier | None = None,
    ) -> None:
        self._listener = listener(host, port, _BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._door = Door(
            name,
            app,
            gate,
            maximum_tls,
            self._limits,
            self._clock,
            (host, self.port),
            DoorLog(audit, name, self._clock),
            tokens,
            Turns(self._limits.connections, self._limits.connections_per_identity),
        )
        self._places = Turns(self._limits.connections, self._limits.connections_per_address)
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._stopping = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name=f"{name}-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor.start()
        log.info("web_server_started", port=self.port, server=self._door.name)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Accept no more, let exchanges that are going on end, and close the rest.

        Args:
            timeout_s: what the exchanges may take; after it they are cut off.
        """
        self._stopping.set()
        _close_listener(self._listener)
        until_s = self._clock.monotonic_s() + timeout_s
        if self._acceptor.ident is not None:
            self._acceptor.join(timeout_s)
        for connection in self._open():
            connection.stop()
        self._join(until_s)
        for connection in self._open():
            connection.abort()
        self._join(self._clock.monotonic_s() + 1.0)
        log.info("web_server_stopped", port=self.port, server=self._door.name)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, peer = accepted(self._listener)
            except OSError as error:
                if not self._stopping.is_set():
                    log.warning("accept_failed", port=self.port, error=type(error).__name__)
                self._stopping.wait(_PAUSE_S)
                continue
            self._admit(sock, peer)

    def _admit(self, sock: socket.socket, peer: str) -> None:
        connection = Connection(sock, peer, self._door)
        thread = threading.Thread(
            target=self._run, args=(connection,), name=f"{self._door.name}-{peer}", daemon=True
        )
        if not make_room(self._places, peer, self._guests, self._drop):
            log.warning("connection_refused", peer=peer, port=self.port, reason="too many connections")
            sock.close()
            return
        with self._lock:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError as error:  # the machine gives no more threads
            self._forget(connection)
            sock.close()
            log.warning("accept_failed", port=self.port, error=type(error).__name__)

    def _guests(self) -> list[tuple[Connection, str, bool]]:
        return [(one, one.peer, one.identified) for one in self._open()]

    def _drop(self, connection: Connection) -> None:
        self._forget(connection)
        connection.abort()

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            thread = self._connections.pop(connection, None)
        if thread is not None:  # else it has made room before
            self._places.release(connection.peer)

    def _open(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def _join(self, until_s: float) -> None:
        with self._lock:
            threads = list(self._connections.values())
        for thread in threads:
            thread.join(max(0.0, until_s - self._clock.monotonic_s()))


def _close_listener(listening: socket.socket) -> None:
    with suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)  # close alone would leave a blocked accept waiting
    listening.close()
