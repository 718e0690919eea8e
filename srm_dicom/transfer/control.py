"""One control connection: a thread that moves bytes between its socket and the sans-IO session.

The session answers what needs no I/O, the performer does the rest, one action at a time, in order. While a
transfer runs, the guard reads the control connection for ABOR and for its end, and asks the gate again
whether the caller may still be here.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass, field

from srm_dicom.audit.doors import DoorLog
from srm_dicom.clock import Clock
from srm_dicom.errors import Aborted, InternalError, InvalidRequest, MdmError, NotAuthenticated
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.watch import LOOK_EVERY_S
from srm_dicom.telemetry import logger
from srm_dicom.transfer.arriving import CannotConnect
from srm_dicom.transfer.dataends import DataSettings, Ends
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.files import ServedFiles, WrittenFiles
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.transfer.performer import Performer
from srm_dicom.transfer.replies import reply_for
from srm_dicom.transfer.storing import Line
from srm_dicom.transfer.stripelink import StripeNodes
from srm_dicom.turns import Place, Turns
from srm_dicom.wire.gridftp import actions
from srm_dicom.wire.gridftp.addresses import plain
from srm_dicom.wire.gridftp.dialogue import Dialogue, Limits, Stage
from srm_dicom.wire.gridftp.gsi import GsiAcceptor
from srm_dicom.wire.gridftp.lines import LineReader
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.session import ServerSession

log = logger("transfer")

_GREETING = "srm-dicom GridFTP door ready."
_RECEIVE_BYTES = 16 * 1024
_GUARD_EVERY_S = 0.25
_ASK_GATE_EVERY_S = 1.0


class SessionOver(Exception):
    """The session has to end now; never leaves this module."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Bounds of control connections: seconds until a login is complete, seconds of silence after it."""

    login_s: float = 30.0
    idle_s: float = 600.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Services:
    """What every session of a door shares.

    Attributes:
        writing: None at a door that only sends.
        identities: counts the sessions of each.
        sums: turns of those who have files read for their checksums.
        nodes: the site's other transfer nodes, if it has any.
    """

    files: ServedFiles
    writing: WrittenFiles | None
    gate: Gate
    clock: Clock
    control: ControlSettings
    data: DataSettings
    policy: PeerPolicy
    door: DoorLog
    identities: Turns
    sums: Turns
    nodes: StripeNodes | None = None


class ControlConnection:
    """One session, from the greeting to the close; `run` is its thread."""

    def __init__(self, sock: socket.socket, services: Services) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._services = services
        self._clock = services.clock
        self._peer = plain(sock.getpeername()[0])
        self._port = DataPort(services.data, services.policy, Ends.of(sock), services.clock)
        self._login_by_s = self._clock.monotonic_s() + services.control.login_s
        self._look_again_s = 0.0
        self._ask_gate_again_s = 0.0
        self._welcomed = False
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._place = Place(services.identities)
        self._dialogue = Dialogue(self._new_acceptor, services.control.limits, self._place.take)
        self._session = ServerSession(
            self._dialogue,
            reply_for,
            greeting=_GREETING,
            lines=LineReader(),
        )
        self._performer = Performer(
            self._session,
            services.files,
            services.writing,
            self._port,
            services.gate,
            self._clock,
            Line(self._tell, self._guard, self._look),
            sums=services.sums,
            nodes=services.nodes,
        )

    @property
    def identified(self) -> bool:
        """True once the client has shown who it is, and had not too many sessions."""
        return self._place.held

    def run(self) -> None:
        """Serve until the client leaves or has to; never raises."""
        try:
            self._serve()
        except OSError:
            log.info("control_connection_lost", peer=self._peer)
        except Exception as error:
            log.exception("session_failed", peer=self._peer, error=type(error).__name__)
        finally:
            self._port.close()
            self._performer.close()
            self._place.leave()
            self._sock.close()
            self._log_end()

    def cut(self) -> None:
        """Make `run` end soon; from another thread."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _serve(self) -> None:
        while True:
            action = self._session.next_action()
            self._welcome()
            if action is not None and not self._session.closed:
                self._perform(action)
            self._flush()
            if self._session.closed:
                return
            if action is None and not self._session.waits and not self._receive():
                return

    def _welcome(self) -> None:
        """Write a login down before the client hears of it."""
        if self._welcomed or self._dialogue.stage is not Stage.OPEN:
            return
        self._welcomed = True
        self._port.owner = self._dialogue.principal.dn
        try:
            self._services.door.entered(self._dialogue.principal)
        except MdmError as error:
            self._session.close(reply_for(error))

    def _flush(self) -> None:
        data = self._session.data_to_send()
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                self._wait_to_send()

    def _wait_to_send(self) -> None:
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLOUT)
        if not poll.poll(self._services.control.login_s * 1000):
            raise TimeoutError("the client does not read its replies")

    def _receive(self) -> bool:
        """Wait for the client; tell whether there is anything left to do."""
        deadline_s = self._clock.monotonic_s() + self._patience_s()
        data = None
        while data is None:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                self._session.close(Reply.of(421, "The session has been idle for too long, or has expired."))
                self._flush()
                return False
            data = self._receive_within(min(left_s, self._port.forget_stale(), LOOK_EVERY_S))
            self._recheck()
            if self._session.closed:
                self._flush()
                return False
        if data:
            self._session.receive_data(data)
        return bool(data)

    def _receive_within(self, seconds: float) -> bytes | None:
        if not self._poll.poll(seconds * 1000):
            return None
        try:
            return self._sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None

    def _patience_s(self) -> float:
        if self._dialogue.stage is not Stage.OPEN:
            return self._login_by_s - self._clock.monotonic_s()
        left_s = (self._dialogue.principal.expires - self._clock.now()).total_seconds()
        return min(self._services.control.idle_s, left_s)

    def _recheck(self) -> None:
        """End the session of a caller who may not be here any more."""
        try:
            self._ask_gate()
        except SessionOver as over:
            self._session.close(over.reply)

    def _ask_gate(self) -> None:
        """Ask once a second, as often as the gate looks at its directory, and at once what has expired."""
        if self._dialogue.stage is not Stage.OPEN:
            return
        now_s, principal = self._clock.monotonic_s(), self._dialogue.principal
        if now_s < self._ask_gate_again_s and self._clock.now() < principal.expires:
            return
        self._ask_gate_again_s = now_s + _ASK_GATE_EVERY_S
        try:
            self._services.gate.recheck(principal)
        except NotAuthenticated as error:
            raise SessionOver(Reply.of(421, error.message)) from error

    def _new_acceptor(self) -> GsiAcceptor:
        gate = self._services.gate
        return GsiAcceptor(gate, gate.server_context(), self._clock)

    def _perform(self, action: actions.Action) -> None:
        try:
            self._performer.perform(action)
        except SessionOver as over:
            self._session.close(over.reply)
        except MdmError as error:
            self._session.reply(reply_for(error))
        except CannotConnect as error:
            self._port.close()
            self._session.reply(Reply.of(425, str(error)))
        except OSError as error:
            self._session.reply(Reply.of(426, f"The transfer failed: {error.strerror or error}"))
        except Exception as error:  # of one command, a database that is locked, say: the next may do
            log.exception("command_failed", peer=self._peer, error=type(error).__name__)
            self._session.reply(reply_for(InternalError("the server failed; its log says of what")))

    def _tell(self, reply: Reply) -> None:
        self._session.reply(reply)
        self._flush()

    def _guard(self) -> None:
        self._flush()
        now_s = self._clock.monotonic_s()
        if now_s < self._look_again_s:
            return
        self._look_again_s = now_s + _GUARD_EVERY_S
        self._look()

    def _look(self, seconds: float = 0.0) -> None:
        """End what runs when the caller has gone or goes now, may not be here any more, or has said ABOR."""
        self._ask_gate()
        until_s = self._clock.monotonic_s() + seconds
        while not (self._session.full or self._session.closed):
            if not self._poll.poll(1e3 * max(0.0, until_s - self._clock.monotonic_s())):
                break
            data = self._sock.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionAbortedError("the control connection ended")
            self._session.receive_data(data)
        if seconds and self._session.full:
            raise InvalidRequest("too many commands wait behind this one to see whether you are there")
        if self._session.abort_waits():
            raise Aborted("the client aborted the transfer")

    def _log_end(self) -> None:
        acceptor = self._dialogue.acceptor
        if self._dialogue.refusal:
            log.warning("login_refused", peer=self._peer, reason=self._dialogue.refusal)
            self._services.door.refused(self._dialogue.refusal)
        elif acceptor is not None and acceptor.principal is not None:
            log.info("session_closed", peer=self._peer, dn=acceptor.principal.dn)
