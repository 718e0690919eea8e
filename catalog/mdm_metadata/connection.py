"""One session on the wire: greeting, TLS in place, commands until the caller or a deadline ends it.

This is the only module that knows both the socket and the protocol. A caller that the gate refuses is
told why as the answer to its first command, for AMGA has no answer to a login.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime

from mdm_metadata.commands import Session
from mdm_metadata.dispatch import Dispatcher, refusal
from mdm_metadata.settings import MetadataSettings
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    InternalError,
    InvalidRequest,
    MdmError,
    NotAuthenticated,
    NotSupported,
    Overloaded,
)
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.watch import LOOK_EVERY_S, Watch
from srm_dicom.telemetry import logger
from srm_dicom.turns import Place
from srm_dicom.wire import amga

log = logger("metadata")

SERVER = "srm-dicom metadata server"
_PIECE_BYTES = 64 * 1024
_AGREED = b"OK\n"
_FOREVER = datetime.max.replace(tzinfo=UTC)
_NOBODY = "anonymous"  # no DN: those start with a slash


class Connection:
    """Serves one accepted socket in the calling thread.

    Args:
        sock: the socket; closed at the end.
        peer: its address, for the log.
        gate: verifies callers.
        dispatcher: answers commands.
        settings: the deadlines.
        clock: deadlines and the ends of credentials.
        place: of the session among those of its caller.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        gate: Gate,
        dispatcher: Dispatcher,
        settings: MetadataSettings,
        clock: Clock,
        place: Place,
    ) -> None:
        self._sock = sock
        self._peer = peer
        self._gate = gate
        self._dispatcher = dispatcher
        self._settings = settings
        self._clock = clock
        self._place = place
        self._protocol = amga.ServerConnection()

    @property
    def identified(self) -> bool:
        """True once the caller has come in."""
        return self._place.held

    def serve(self) -> None:
        """Serve until the end; never raises."""
        try:
            self._converse()
        except MdmError as error:
            log.info("session_refused", peer=self._peer, reason=error.message)
            with suppress(OSError):
                self._send(refusal(error))
        except (OSError, ssl.SSLError) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                self._dispatcher.door.refused(_reason(error))
            log.info("session_ended", peer=self._peer, reason=_reason(error))
        except Exception as error:  # noqa: BLE001 - the edge of a wire session
            log.error(  # noqa: TRY400 - a traceback may hold what the caller typed
                "session_failed", peer=self._peer, error=type(error).__name__
            )
            with suppress(OSError):
                self._send(refusal(InternalError("a defect of this server; see its log")))
        finally:
            self._place.leave()
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()

    def close(self) -> None:
        """End the session from another thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _converse(self) -> None:
        self._send(amga.greeting(SERVER, ["ssl", "plain"] if self._settings.allow_plain else ["ssl"]))
        choice = self._next_event(self._settings.handshake_s)
        refused: MdmError | None
        principal, refused = self._enter(choice)
        self._next_event(self._settings.handshake_s)  # the login lines; a certificate said it all
        if refused is None and not self._place.take(principal.dn):
            refused = Overloaded("you have too many sessions", advice="End some, or try again later.")
        if refused is not None:
            self._dispatcher.door.refused(refused.message)
            self._next_event(self._settings.handshake_s)
            raise refused
        self._dispatcher.door.entered(principal)
        log.info("session", peer=self._peer, dn=principal.dn, fqans=list(principal.fqans))
        self._commands(principal)

    def _enter(self, choice: amga.Event) -> tuple[Principal, NotAuthenticated | None]:
        """Let the caller in the way it asked for, or learn why it may not come in."""
        nobody = Principal(_NOBODY, (), limited=True, expires=_FOREVER)
        way = choice.way if isinstance(choice, amga.Choice) else ""
        if way == "plain" and self._settings.allow_plain:
            self._send(_AGREED)
            return nobody, None
        if way != "ssl":
            raise NotSupported("this server is entered with ssl")
        if self._protocol.unread_bytes:
            raise InvalidRequest("the handshake begins after the server's answer")
        self._send(_AGREED)
        tls = self._gate.server_context().wrap_socket(
            self._sock, server_side=True, do_handshake_on_connect=False
        )
        self._sock = tls
        tls.settimeout(self._settings.handshake_s)
        tls.do_handshake()
        try:
            return self._gate.identify(tls), None
        except NotAuthenticated as error:
            return nobody, error

    def _commands(self, principal: Principal) -> None:
        session = self._dispatcher.session(principal)
        watch = Watch(self._gate, principal, self._clock) if principal.dn != _NOBODY else None
        while True:
            left_s = (principal.expires - self._clock.now()).total_seconds()
            try:
                event = self._next_event(min(self._settings.idle_s, left_s), watch)
            except InvalidRequest as error:
                self._send(refusal(error))
                continue
            if watch is not None:
                watch.now()
            self._answer(session, principal, event)

    def _answer(self, session: Session, principal: Principal, event: amga.Event) -> None:
        if not isinstance(event, amga.Command):
            self._send(amga.CANCELLED)
            return
        answer = self._dispatcher.answer(session, principal, event.words)
        log.info(
            "command",
            dn=principal.dn,
            verb=answer.verb,
            status=int(answer.code),
            count=answer.rows,
        )
        if answer.data:
            self._send(answer.data)

    def _next_event(self, wait_s: float, watch: Watch | None = None) -> amga.Event:
        """Wait for the caller's next event.

        Raises:
            OSError: too late, or the caller has gone.
            NotAuthenticated: the caller may not be here any more.
        """
        deadline_s = self._clock.monotonic_s() + wait_s
        while (event := self._protocol.next_event()) is None:
            data = self._receive_within(min(LOOK_EVERY_S, deadline_s - self._clock.monotonic_s()))
            if data == b"":
                raise ConnectionResetError("the caller has gone")
            if watch is not None:
                watch()
            if self._clock.monotonic_s() > deadline_s:
                raise TimeoutError("the caller was too slow")
            self._protocol.receive(data or b"")
        return event

    def _receive_within(self, seconds: float) -> bytes | None:
        self._sock.settimeout(max(0.001, seconds))
        try:
            return self._sock.recv(_PIECE_BYTES)
        except TimeoutError:
            return None

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE_BYTES):
            self._sock.settimeout(self._settings.send_s)
            self._sock.sendall(data[start : start + _PIECE_BYTES])


def _reason(error: OSError) -> str:
    """Return what the system or OpenSSL said; never bytes of the session."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS failed"
    return error.strerror or (str(error) if isinstance(error, TimeoutError) else "the caller has gone")
