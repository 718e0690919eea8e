"""A transfer node as the doors of its site use it: it sends and receives shares of files.

Doors come over TLS and show the host certificates that `doors` names; nobody else is let in. A door says
whose session it is, once, because it has verified that; what that caller may read and write is decided
here anew, by the same rules, and written into this node's audit log. Under DCAU data connections show what
the caller delegated to the door and believe none but the caller (or the peer that DCAU S names).

A node looks after its door: when the link ends, so does all that it does for the session.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from srm_dicom.audit.doors import DoorLog
from srm_dicom.clock import Clock
from srm_dicom.errors import InvalidRequest, MdmError, NotAuthorised, NotFound, NotSupported, Overloaded
from srm_dicom.identity.delegation import DelegatedCredential
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.watch import Watch
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.rights.declare import Right, requires
from srm_dicom.telemetry import logger
from srm_dicom.transfer.accepting import Acceptor, Bounds
from srm_dicom.transfer.dataends import DataSettings, Ends
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.files import ServedFiles, WrittenFiles
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.transfer.receiving import Target
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.transfer.stripelink import StripeLink, refusal_of
from srm_dicom.transfer.stripes import Connecting, receive_blocks, send_share
from srm_dicom.turns import Place, Turns
from srm_dicom.wire.gridftp import stripes
from srm_dicom.wire.gridftp.addresses import Address, plain
from srm_dicom.wire.gridftp.blocks import Flag, Header
from srm_dicom.wire.gridftp.replies import Reply

log = logger("transfer")

_PROGRESS_EVERY_S = 1.0
_IDLE_S = 3600.0
"""A link that nothing has been asked on for so long ends; sessions of doors end sooner."""


@dataclass(frozen=True, slots=True)
class NodeServices:
    """What every link of a node shares.

    Attributes:
        doors: names of the host certificates of the doors that may ask.
        sessions: of doors, in all, and ...
        sessions_per_address: ... from one machine.
        identities: counts the sessions of each caller of the doors.
        handshake_s: deadline of a handshake.
    """

    files: ServedFiles
    writing: WrittenFiles
    gate: Gate
    clock: Clock
    data: DataSettings
    policy: PeerPolicy
    doors: frozenset[str]
    log: DoorLog
    sessions: int = 2000
    sessions_per_address: int = 1500
    identities: Turns = field(default_factory=lambda: Turns(2000, 1500))
    handshake_s: float = 10.0


class StripeNode(Acceptor):
    """Serves the doors of the site from `start` to `stop`."""

    def __init__(self, services: NodeServices, host: str, port: int) -> None:
        bounds = Bounds(host, port, services.sessions, services.sessions_per_address)
        super().__init__(bounds, "stripes", lambda sock: DoorsLink(sock, services), services.clock)


class DoorsLink:
    """One link, from its handshake to its end; `run` is its thread."""

    def __init__(self, sock: socket.socket, services: NodeServices) -> None:
        sock.settimeout(services.handshake_s)
        self._sock = sock
        self._services = services
        self._peer = plain(sock.getpeername()[0])
        self.identified = False

    def run(self) -> None:
        """Serve one session of a door; never raises."""
        try:
            with self._secured() as tls:
                link = StripeLink(tls, _IDLE_S, self._services.clock)
                NodeSession(link, Ends.of(tls), self._services).run()
        except MdmError as error:
            log.warning("door_refused", peer=self._peer, reason=error.message)
            self._services.log.refused(error.message)
        except OSError:
            log.info("link_ended", peer=self._peer)
        except Exception as error:
            log.exception("session_failed", peer=self._peer, error=type(error).__name__)
        finally:
            self._sock.close()

    def cut(self) -> None:
        """Make `run` end soon; from another thread."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            return

    def _secured(self) -> ssl.SSLSocket:
        """Shake hands with a door.

        Raises:
            NotAuthenticated, NotAuthorised: it is none.
            OSError: the connection is lost.
        """
        gate = self._services.gate
        context = gate.server_context()
        tls = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock = tls
        try:
            tls.do_handshake()
        except ssl.SSLError as error:
            raise gate.refusal(context, error) from error
        self._admit(gate.identify(tls))
        return tls

    @requires(Right.SCRATCH_WRITE)
    def _admit(self, door: Principal) -> None:
        if door.dn not in self._services.doors or door.limited:
            raise NotAuthorised(
                "this port is for the doors of the site", advice="[stripes] doors lists them by their names."
            )
        self._services.log.entered(door)
        self.identified = True


class NodeSession:
    """What a door asks for one session of its own."""

    def __init__(self, link: StripeLink, ends: Ends, services: NodeServices) -> None:
        self._link = link
        self._services = services
        self._clock = services.clock
        begin = stripes.decode_asked(link.receive(_no_guard))
        if not isinstance(begin, stripes.Begin):
            raise InvalidRequest("a door says first whose session it is")
        self._principal = Principal(begin.dn, begin.fqans, begin.limited, begin.expires, begin.emergency)
        self._watch = Watch(services.gate, self._principal, self._clock)
        delegated = (
            DelegatedCredential.from_pem(begin.credential, limited=begin.limited)
            if begin.credential
            else None
        )
        self._security = DataSecurity(delegated, begin.end_entity, services.gate, self._clock)
        ends = Ends(ends.family, ends.bind, plain(begin.peer))
        self._port = DataPort(services.data, services.policy, ends, self._clock)
        self._port.owner = self._principal.dn
        self._place = Place(services.identities)
        self._next_s = 0.0

    def run(self) -> None:
        """Answer until the door leaves.

        Raises:
            OSError: it has.
            InvalidRequest, TooLarge: it speaks something else.
        """
        try:
            self._answer(self._welcome)
            while True:
                asked = stripes.decode_asked(self._link.receive(_no_guard))
                self._answer(self._work(asked))
        finally:
            self._port.close()
            self._place.leave()

    def _work(self, asked: stripes.Asked) -> Callable[[], stripes.Message]:
        match asked:
            case stripes.Listen():
                return self._listen
            case stripes.Send():
                return lambda: self._send(asked)
            case stripes.Receive():
                return lambda: self._receive(asked)
        raise InvalidRequest("a door says once whose session it is")

    def _answer(self, work: Callable[[], stripes.Message]) -> None:
        try:
            answer = work()
        except _DoorGone as error:
            raise ConnectionAbortedError(str(error)) from error
        except (MdmError, OSError) as error:
            answer = refusal_of(error)
        self._link.send(answer, _no_guard)

    def _welcome(self) -> stripes.Done:
        self._watch.now()
        if not self._place.take(self._principal.dn):
            raise Overloaded("you have too many sessions", advice="Close some, or try again later.")
        return stripes.Done()

    def _listen(self) -> stripes.Listening:
        self._watch.now()
        address = self._port.listen()
        return stripes.Listening(address.host, address.port)

    @requires(Right.FILE_READ)
    def _send(self, asked: stripes.Send) -> stripes.Done:
        self._watch.now()
        share = stripes.Share(
            tuple(Address(plain(host), port) for host, port in asked.targets),
            tuple(Header(Flag(flags), 0, offset) for flags, offset in asked.ends),
            asked.ranges,
        )
        if asked.fresh or share.targets != self._port.targets:
            self._port.aim(share.targets)
        with self._services.files.open(self._principal, _path(asked.path)) as file:
            if any(not 0 <= start <= end <= file.size_bytes for start, end in share.ranges):
                raise InvalidRequest("a share lies outside its file")
            how = self._how(asked.way, lambda: stripes.Progress(0))
            send_share(self._port, file, share, asked.base, how)
        moved_bytes = sum(end - start for start, end in share.ranges)
        log.info("share_sent", dn=self._principal.dn, path=asked.path, bytes=moved_bytes)
        return stripes.Done(moved_bytes)

    @requires(Right.FILE_WRITE)
    def _receive(self, asked: stripes.Receive) -> stripes.Done:
        self._watch.now()
        path, writing = _path(asked.path), self._services.writing
        if not asked.way.parameters.private and writing.private_only(self._principal, path):
            raise NotSupported("what is written here must not cross a network in clear: PROT P first")
        with writing.join(self._principal, path) as file:
            target = Target(file, asked.base)
            how = self._how(asked.way, lambda: stripes.Progress(*target.so_far()))
            receive_blocks(self._port, target, how)
        log.info("share_received", dn=self._principal.dn, path=asked.path, bytes=target.moved_bytes)
        return stripes.Done(*target.so_far())

    def _how(self, way: stripes.Way, progress: Callable[[], stripes.Progress]) -> Connecting:
        def guard() -> None:
            now_s = self._clock.monotonic_s()
            if now_s < self._next_s:
                return
            self._next_s = now_s + _PROGRESS_EVERY_S
            self._watch()
            try:
                self._link.check()
                self._link.send(progress(), _no_guard)
            except OSError as error:
                raise _DoorGone("the door has ended the transfer") from error

        return Connecting(way.parameters, self._security, _untold, guard)


class _DoorGone(Exception):
    """The link has ended while something was done for it; never leaves this module."""


def _path(text: str) -> SitePath:
    try:
        return parse_path(text)
    except InvalidRequest as error:
        raise NotFound("no such name") from error


def _no_guard() -> None:
    """Leave the deadlines to what is waited for."""


def _untold(_reply: Reply) -> None:
    """Say nothing: the door tells its client."""
