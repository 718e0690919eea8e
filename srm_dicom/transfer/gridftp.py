"""The GridFTP door: accepts control connections and gives each a thread.

Nothing is awaited in the thread that accepts, so a client that connects and says nothing costs a
thread and a line buffer and delays nobody. Bounds: sessions in all, sessions from one address, seconds
until a login is complete.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections import Counter
from dataclasses import dataclass

from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.identity.gate import Gate
from srm_dicom.telemetry import logger
from srm_dicom.transfer.control import ControlConnection, ControlSettings, Services
from srm_dicom.transfer.dataport import DataSettings
from srm_dicom.transfer.files import ServedFiles, WrittenFiles
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.wire.gridftp.addresses import plain
from srm_dicom.wire.gridftp.dialogue import Limits

log = logger("transfer")

_BACKLOG = 512
_FULL = b"421 Too many sessions, try again later.\r\n"


@dataclass(frozen=True, slots=True)
class GridFtpSettings:
    """Where the door stands and what it bears.

    Attributes:
        host: address to listen on; ``::`` takes IPv4 as well.
        port: 2811 by custom, 0 takes any.
        data_ports: first and last port of passive data connections; (0, 0) takes any.
        data_host: address told to clients instead of the control connection's local one (behind NAT).
        login_s: deadline of a login, from the connection on.
        idle_s: a session without a command for this long ends.
        data_connect_s: deadline of a data connection with its handshake.
        data_stall_s: a peer that takes no byte for this long has gone.
        max_sessions: control connections at once.
        max_sessions_per_address: of them from one address.
        max_streams: data connections of one transfer.
        active: connect out to clients (PORT): MODE E downloads need it.
        third_party: networks besides the control peer that data may go to and come from.
        third_party_public: let PORT name any public address, as third-party copies do.
    """

    host: str = "127.0.0.1"
    port: int = 2811
    data_ports: tuple[int, int] = (20000, 20199)
    data_host: str | None = None
    login_s: float = 30.0
    idle_s: float = 600.0
    data_connect_s: float = 30.0
    data_stall_s: float = 120.0
    max_sessions: int = 1000
    max_sessions_per_address: int = 500
    max_streams: int = 16
    active: bool = True
    third_party: tuple[str, ...] = ()
    third_party_public: bool = True

    def services(
        self,
        files: ServedFiles,
        writing: WrittenFiles | None,
        gate: Gate,
        clock: Clock,
        audit: AuditLog | None,
    ) -> Services:
        """Put together what every session of a door shares.

        Raises:
            ConfigError: `third_party` holds something that is no network.
        """
        return Services(
            files,
            writing,
            gate,
            clock,
            ControlSettings(self.login_s, self.idle_s, Limits(self.max_streams)),
            DataSettings(
                self.data_ports, self.data_host, self.data_connect_s, self.data_stall_s, self.max_streams
            ),
            PeerPolicy.parse(
                active=self.active, third_party=self.third_party, public=self.third_party_public
            ),
            DoorLog(audit, "gridftp", clock),
        )


class GridFtpDoor:
    """Serves files over GridFTP from `start` to `stop`.

    Args:
        files: decides and opens.
        gate: says who is on the line.
        settings: bounds.
        clock: time.
        audit: logins and refusals go there.
        writing: takes uploads and changes names; None makes the door read-only.
    """

    def __init__(
        self,
        files: ServedFiles,
        gate: Gate,
        settings: GridFtpSettings,
        clock: Clock,
        audit: AuditLog | None = None,
        writing: WrittenFiles | None = None,
    ) -> None:
        self._settings = settings
        self._services = settings.services(files, writing, gate, clock, audit)
        self._lock = threading.Lock()
        self._live: dict[ControlConnection, threading.Thread] = {}
        self._from: Counter[str] = Counter()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that the door listens on, once it has started."""
        if self._listener is None:
            return self._settings.port
        return int(self._listener.getsockname()[1])

    @property
    def sessions(self) -> int:
        """How many control connections there are."""
        return len(self._live)

    def start(self) -> None:
        """Listen, and serve in threads.

        Raises:
            OSError: the address cannot be listened on.
        """
        host = self._settings.host
        self._listener = socket.create_server(
            (host, self._settings.port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=host == "::",
        )
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name="gridftp", daemon=True
        )
        self._acceptor.start()
        log.info("door_open", port=self.port, protocol="gsiftp")

    def stop(self, timeout_s: float = 5.0) -> None:
        """Close the door, cut every session and wait for their threads."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            live = dict(self._live)
        for connection in live:
            connection.cut()
        deadline_s = self._services.clock.monotonic_s() + timeout_s
        for thread in (self._acceptor, *live.values()):
            if thread is not None:
                thread.join(max(0.0, deadline_s - self._services.clock.monotonic_s()))

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, address = listener.accept()
            except OSError as error:
                if listener.fileno() < 0 or error.errno == errno.EINVAL:  # `stop` has shut it down
                    return
                log.warning("accept_failed", error=type(error).__name__, reason=error.strerror)
                self._services.clock.sleep(0.1)
                continue
            self._admit(sock, plain(address[0]))

    def _admit(self, sock: socket.socket, peer: str) -> None:
        with self._lock:
            full = (
                len(self._live) >= self._settings.max_sessions
                or self._from[peer] >= self._settings.max_sessions_per_address
            )
            if not full:
                self._from[peer] += 1
        if full:
            log.warning("session_refused", peer=peer, reason="too many sessions")
            with contextlib.suppress(OSError), sock:
                sock.settimeout(0)
                sock.send(_FULL)
            return
        self._begin(sock, peer)

    def _begin(self, sock: socket.socket, peer: str) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection = ControlConnection(sock, self._services)
        except OSError:
            sock.close()
            self._forget(None, peer)
            return
        thread = threading.Thread(target=self._run, args=(connection, peer), name="gridftp", daemon=True)
        with self._lock:
            self._live[connection] = thread
        thread.start()

    def _run(self, connection: ControlConnection, peer: str) -> None:
        try:
            connection.run()
        finally:
            self._forget(connection, peer)

    def _forget(self, connection: ControlConnection | None, peer: str) -> None:
        with self._lock:
            self._from[peer] -= 1
            if self._from[peer] <= 0:
                del self._from[peer]
            if connection is not None:
                self._live.pop(connection, None)
