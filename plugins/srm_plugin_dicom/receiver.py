"""The C-STORE SCP: listens, admits, gives each association a thread of its own.

Who may come is decided by `admission`: the AE title that calls, the title that is called and the address. A
connection from an address of no peer is closed before a byte is read or a thread is made for it. What is not
TLS may be attended by another process (`Attend`); its thread waits here for that.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Sequence

from srm_dicom.clock import Clock
from srm_dicom.errors import ConfigError
from srm_dicom.listening import accepted, listener
from srm_dicom.telemetry import logger
from srm_plugin_dicom import pdu
from srm_plugin_dicom.admission import Admission, Peer
from srm_plugin_dicom.association import Association, Limits
from srm_plugin_dicom.stores import Handler, ObjectInfo, ObjectSink
from srm_plugin_dicom.tls import TlsCredential, accept_tls, server_context

__all__ = ["Handler", "Limits", "ObjectInfo", "ObjectSink", "Peer", "Receiver"]

PAUSE_S = 0.1
"""Before it is listened again where the process has no descriptor for a connection."""

log = logger("dicom")


Attend = Callable[[socket.socket, str, Admission, Limits], bool]
"""Leaves a connection from an address to whoever attends it elsewhere; tells whether that was done."""


class Receiver:
    """One AE: a title, a port and a handler for what arrives."""

    def __init__(
        self,
        ae_title: str,
        *,
        bind: str,
        port: int,
        peers: Sequence[Peer],
        handler: Handler,
        clock: Clock,
        limits: Limits | None = None,
        tls: TlsCredential | None = None,
    ) -> None:
        """Bind the port; 0 takes a free one, see `port`. With `tls`, nobody is served in the clear.

        Raises:
            ConfigError: the port cannot be bound, or the TLS files cannot be used.
        """
        if tls is not None:
            server_context(tls)
        self._tls = tls
        self._attend: Attend = _nobody
        self._ae_title = ae_title
        self._admission = Admission(ae_title, tuple(peers))
        self._addresses = frozenset().union(*(peer.addresses for peer in peers))
        self._handler = handler
        self._clock = clock
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._stopped = False
        try:
            self._listener = listener(bind, port, backlog=64)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "unknown reason"
            raise ConfigError(
                f"{ae_title} cannot listen on {bind}:{port}: {reason}",
                advice="Another stager or registrar may be running here.",
            ) from error
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"dicom-{ae_title}", daemon=True)

    def start(self, attend: Attend | None = None) -> None:
        """Listen from now on, and leave connections to `attend`; those over TLS cannot be left to anybody."""
        self._attend = attend or _nobody
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Close the port and every association; wait for their threads, together at most `timeout_s`."""
        end_s = self._clock.monotonic_s() + timeout_s
        with self._lock:
            self._stopped = True
            threads = list(self._open.values())
            for connection in self._open:
                _shut(connection)
        _shut(self._listener)
        self._listener.close()
        for thread in (self._thread, *threads):
            if thread.is_alive():
                thread.join(max(0.0, end_s - self._clock.monotonic_s()))

    @property
    def associations(self) -> int:
        """How many associations are open now."""
        with self._lock:
            return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                connection, address = accepted(self._listener)
            except OSError as error:
                with self._lock:
                    if self._stopped:
                        return
                log.warning("accept_failed", error=type(error).__name__, reason=error.strerror)
                self._clock.sleep(PAUSE_S)
                continue
            self._admit_connection(connection, address)

    def _admit_connection(self, connection: socket.socket, address: str) -> None:
        if address not in self._addresses:
            log.warning("connection_refused", peer=address, reason="address of no peer")
            connection.close()
            return
        thread = threading.Thread(target=self._serve, args=(connection, address), daemon=True)
        with self._lock:
            full = self._stopped or len(self._open) >= self._limits.max_associations
            if not full:
                self._open[connection] = thread
        if full:
            _turn_away(connection)
            return
        try:
            thread.start()
        except RuntimeError:  # the system has no thread for it
            with self._lock:
                del self._open[connection]
            _turn_away(connection)

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = secured = self._secured(connection, self._tls)
                secured.do_handshake()
            elif self._attend(connection, address, self._admission, self._limits):
                return
            Association(
                connection,
                address,
                admit=self._admission,
                handler=self._handler,
                clock=self._clock,
                limits=self._limits,
            ).run()
        except OSError as error:  # of TLS: an association contains its own
            log.warning("tls_refused", peer=address, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the edge of a wire session: others must go on
            log.error("association_failed", peer=address, error=type(error).__name__)  # noqa: TRY400
        finally:
            with self._lock:
                self._open.pop(connection, None)
            _shut(connection)
            connection.close()

    def _secured(self, connection: socket.socket, tls: TlsCredential) -> ssl.SSLSocket:
        """Return what the connection becomes; its handshake has the time to negotiate, in all."""
        secured = accept_tls(connection, tls)
        with self._lock:
            self._open[secured] = self._open.pop(connection)
            if self._stopped:
                _shut(secured)
        secured.settimeout(self._limits.negotiate_s)
        return secured


def _nobody(*_connection: object) -> bool:
    return False


def _turn_away(connection: socket.socket) -> None:
    """Reject without reading: the request that is on its way is not needed for that."""
    log.warning("association_rejected", reason="limit")
    try:
        connection.settimeout(1.0)
        connection.sendall(pdu.encode_associate_reject(pdu.Rejection.LIMIT))
    except OSError:
        pass
    finally:
        _shut(connection)
        connection.close()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
