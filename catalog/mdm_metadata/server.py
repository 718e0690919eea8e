"""The metadata server: listens, gives every connection a thread, bounds how many there are and whose."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from mdm_metadata.connection import Connection
from mdm_metadata.dispatch import Dispatcher
from mdm_metadata.settings import MetadataSettings
from mdm_metadata.tree import Collections
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.db.database import Database
from srm_dicom.identity.gate import Gate
from srm_dicom.listening import accepted, listener, make_room
from srm_dicom.telemetry import logger
from srm_dicom.turns import Place, Turns

__all__ = ["MetadataServer", "MetadataSettings"]

log = logger("metadata")

_BACKLOG = 128


class MetadataServer:
    """AMGA on one port over one database.

    The socket is bound when the object is made, so `port` is known before `start`.

    Args:
        settings: what the configuration says.
        gate: verifies callers and holds the host credential.
        audit: every decision is in it before it is answered.
        clock: deadlines, ends of collections and credentials.

    Raises:
        ConfigError: the database URL is not one.
        OSError: the address is not to be had.
    """

    def __init__(self, settings: MetadataSettings, gate: Gate, audit: AuditLog, clock: Clock) -> None:
        self._settings = settings
        self._gate = gate
        self._clock = clock
        self._database = Database(settings.database)
        self.collections = Collections(self._database, settings.indexed)
        self._dispatcher = Dispatcher(self.collections, settings, audit, clock)
        self._listener = listener(settings.host, settings.port, _BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[Connection, tuple[threading.Thread, str]] = {}
        self._places = Turns(settings.sessions, settings.sessions_per_address)
        self._identities = Turns(settings.sessions, settings.sessions_per_identity)
        self._acceptor = threading.Thread(target=self._accept, name="metadata-accept", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._acceptor.start()
        log.info("listening", port=self.port)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End every session and return when they have ended, or when the time is up."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sessions = dict(self._open)
        for connection in sessions:
            connection.close()
        deadline_s = self._clock.monotonic_s() + timeout_s
        for thread, _ in sessions.values():
            thread.join(max(0.0, deadline_s - self._clock.monotonic_s()))
        self._database.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = accepted(self._listener)
            except OSError:
                if self._listener.fileno() < 0:
                    return
                self._clock.sleep(0.05)
                continue
            self._begin(sock, peer)

    def _begin(self, sock: socket.socket, peer: str) -> None:
        if not make_room(self._places, peer, self._guests, self._drop):
            log.warning("too_many_sessions", peer=peer, count=self._settings.sessions)
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place = Place(self._identities)
        connection = Connection(sock, peer, self._gate, self._dispatcher, self._settings, self._clock, place)
        thread = threading.Thread(target=self._serve, args=(connection,), name="metadata", daemon=True)
        with self._lock:
            self._open[connection] = thread, peer
        try:
            thread.start()
        except RuntimeError:
            log.warning("too_many_sessions", peer=peer, reason="the machine gives no more threads")
            self._forget(connection)
            sock.close()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            self._forget(connection)

    def _guests(self) -> list[tuple[Connection, str, bool]]:
        with self._lock:
            return [(one, peer, one.identified) for one, (_, peer) in self._open.items()]

    def _drop(self, connection: Connection) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            found = self._open.pop(connection, None)
        if found is not None:  # else it has made room before
            self._places.release(found[1])
