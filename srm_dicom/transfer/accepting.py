"""Accepting connections and giving each a thread.

Nothing is awaited in the thread that accepts, so a client that connects and says nothing costs a thread and
delays nobody. Bounds: sessions in all, and sessions from one address; where one is reached, the oldest of
those who have not said who they are makes room, and only if there is none the newcomer is turned away.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from srm_dicom.clock import Clock
from srm_dicom.listening import accepted, listener, make_room
from srm_dicom.telemetry import logger
from srm_dicom.turns import Turns

log = logger("transfer")

_BACKLOG = 512


class Session(Protocol):
    """One connection; hashable by identity."""

    @property
    def identified(self) -> bool:
        """True once the other side has proven who it is."""

    def run(self) -> None:
        """Serve until the other side leaves or has to; never raises."""

    def cut(self) -> None:
        """Make `run` end soon; from another thread."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where to listen and how much to bear.

    Attributes:
        host: address to listen on; ``::`` takes IPv4 as well.
        port: 0 takes any.
        sessions: connections at once.
        sessions_per_address: of them from one address.
        full: what one too many is told.
    """

    host: str
    port: int
    sessions: int
    sessions_per_address: int
    full: bytes = b""


class Acceptor:
    """Accepts from `start` to `stop`.

    Args:
        bounds: where, and how much.
        protocol: its name, for the log and the names of threads.
        begin: makes the session of a connection; an OSError of it means that the client has gone.
    """

    def __init__(
        self, bounds: Bounds, protocol: str, begin: Callable[[socket.socket], Session], clock: Clock
    ) -> None:
        self._bounds = bounds
        self._protocol = protocol
        self._make = begin
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[Session, tuple[threading.Thread, str]] = {}
        self._places = Turns(bounds.sessions, bounds.sessions_per_address)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, once it is."""
        if self._listener is None:
            return self._bounds.port
        return int(self._listener.getsockname()[1])

    @property
    def sessions(self) -> int:
        """How many connections there are."""
        return len(self._live)

    def start(self) -> None:
        """Listen, and serve in threads.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._listener = listener(self._bounds.host, self._bounds.port, _BACKLOG)
        self._thread = self._new_thread(self._accept, self._listener)
        self._thread.start()
        log.info("door_open", port=self.port, protocol=self._protocol)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop accepting, cut every session and wait for their threads."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            live = dict(self._live)
        for session in live:
            session.cut()
        deadline_s = self._clock.monotonic_s() + timeout_s
        for thread in (self._thread, *(thread for thread, _ in live.values())):
            if thread is not None:
                thread.join(max(0.0, deadline_s - self._clock.monotonic_s()))

    def _new_thread(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        return threading.Thread(target=target, args=arguments, name=self._protocol, daemon=True)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, peer = accepted(listening)
            except OSError as error:
                if listening.fileno() < 0 or error.errno == errno.EINVAL:  # `stop` has shut it down
                    return
                log.warning("accept_failed", error=type(error).__name__, reason=error.strerror)
                self._clock.sleep(0.1)
                continue
            self._admit(sock, peer)

    def _admit(self, sock: socket.socket, peer: str) -> None:
        if not make_room(self._places, peer, self._guests, self._drop):
            self._turn_away(sock, peer, "too many sessions")
        else:
            self._begin(sock, peer)

    def _guests(self) -> list[tuple[Session, str, bool]]:
        with self._lock:
            return [(one, peer, one.identified) for one, (_, peer) in self._live.items()]

    def _drop(self, session: Session) -> None:
        self._forget(session)
        session.cut()

    def _turn_away(self, sock: socket.socket, peer: str, reason: str) -> None:
        log.warning("session_refused", peer=peer, reason=reason)
        with contextlib.suppress(OSError), sock:
            sock.settimeout(0)
            sock.send(self._bounds.full)

    def _begin(self, sock: socket.socket, peer: str) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            session = self._make(sock)
        except OSError:
            sock.close()
            self._places.release(peer)
            return
        thread = self._new_thread(self._run, session)
        with self._lock:
            self._live[session] = thread, peer
        try:
            thread.start()
        except RuntimeError:
            self._forget(session)
            self._turn_away(sock, peer, "the machine gives no more threads")

    def _run(self, session: Session) -> None:
        try:
            session.run()
        finally:
            self._forget(session)

    def _forget(self, session: Session) -> None:
        with self._lock:
            found = self._live.pop(session, None)
        if found is not None:  # else it has made room before
            self._places.release(found[1])
