"""One connection from accept to close, in a thread of its own.

The handshake happens here, not where connections are accepted: a peer that says nothing costs one
thread until its deadline and delays nobody. Whatever goes wrong ends this connection and no other.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srm_dicom.audit.doors import DoorLog
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError, NotAuthenticated
from srm_dicom.identity.delegation import DelegatedCredential, DelegationAcceptor
from srm_dicom.identity.gate import Gate, is_nameless, verified_chain
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.tokens import TokenVerifier
from srm_dicom.identity.watch import Watch
from srm_dicom.telemetry import logger
from srm_dicom.turns import Place, Turns
from srm_dicom.web.bearer import NAMELESS, Bearers
from srm_dicom.web.environ import Caller
from srm_dicom.web.limits import Limits
from srm_dicom.web.session import Session
from srm_dicom.web.stream import Budget, PeerGone, Stalled, Stream
from srm_dicom.wire.httpg import Opening, der_size, opening

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logger("web")


@dataclass(frozen=True, slots=True)
class Door:
    """What all connections of one server share."""

    name: str
    app: WSGIApplication
    gate: Gate
    maximum_tls: ssl.TLSVersion
    limits: Limits
    clock: Clock
    address: tuple[str, int]
    visitors: DoorLog
    tokens: TokenVerifier | None
    identities: Turns


class Connection:
    """A peer; `run` is the body of its thread, everything else may be called from others."""

    def __init__(self, sock: socket.socket, peer: str, door: Door) -> None:
        self._socket = sock
        self.peer = peer
        self._door = door
        self._session: Session | None = None
        self._place = Place(door.identities)
        self._stopping = False

    @property
    def identified(self) -> bool:
        """True once the peer's credential has been accepted, and had not too many connections."""
        return self._place.held

    @property
    def busy(self) -> bool:
        """True in the middle of an exchange."""
        return self._session is not None and self._session.busy

    def run(self) -> None:
        """Serve the peer until one side has had enough."""
        try:
            self._serve()
        except (NotAuthenticated, ssl.SSLError) as error:
            self._refused(error)
        except (PeerGone, Stalled, OSError) as error:
            log.debug("connection_broken", peer=self.peer, port=self._door.address[1], reason=_reason(error))
        except MdmError as error:
            log.warning("connection_failed", peer=self.peer, error=type(error).__name__, reason=error.message)
        except Exception as error:  # noqa: BLE001 - the edge of a wire session
            log.warning("connection_failed", peer=self.peer, error=type(error).__name__)
        finally:
            self._place.leave()
            self._socket.close()

    def stop(self) -> None:
        """End the connection after the exchange that is going on, at once if there is none."""
        self._stopping = True
        if not self.busy:
            self.abort()

    def abort(self) -> None:
        """End the connection now; its thread notices by itself."""
        self._stopping = True
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not SSLSocket's: that drops its state

    def _serve(self) -> None:
        door = self._door
        until_s = door.clock.monotonic_s() + door.limits.handshake_s
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(door.limits.handshake_s)
        if not self._socket.recv(1, socket.MSG_PEEK):  # who says nothing is not worth a context
            raise PeerGone
        context = door.gate.server_context(maximum=door.maximum_tls, nameless=door.tokens is not None)
        tls = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = tls
        if self._stopping:
            return
        tls.settimeout(max(0.001, until_s - door.clock.monotonic_s()))
        principal = self._identify(tls)
        watch = Watch(door.gate, principal, door.clock)
        stream = Stream(tls, door.clock, watch)
        try:
            self._greet(tls, stream, principal, watch)
        finally:
            stream.close()

    def _identify(self, tls: ssl.SSLSocket) -> Principal:
        door = self._door
        try:
            tls.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise door.gate.refusal(tls.context, error) from error
        if door.tokens is not None and is_nameless(tls):
            return NAMELESS
        principal = door.gate.identify(tls)
        door.visitors.entered(principal)
        self._place.take(principal.dn)  # if there is none, the answer to the first request says so
        return principal

    def _greet(self, tls: ssl.SSLSocket, stream: Stream, principal: Principal, watch: Watch) -> None:
        door = self._door
        how, first = opening(stream.receive(Budget(door.limits.idle_s)))
        if how is not Opening.HTTPS and principal is NAMELESS:
            raise NotAuthenticated("httpg is for certificates")
        delegated = self._delegated(tls, stream) if how is Opening.HTTPG_DELEGATING else None
        if how is Opening.HTTPS and not first:
            return  # the peer left without a word
        chain = () if principal is NAMELESS else tuple(verified_chain(tls))
        self._session = Session(
            stream,
            door.app,
            Caller(principal, self.peer, delegated, chain),
            bearers=Bearers(door.tokens, door.gate, door.visitors, self._place),
            watch=watch,
            address=door.address,
            limits=door.limits,
            clock=door.clock,
        )
        self._session.serve(first, lambda: self._stopping)

    def _delegated(self, tls: ssl.SSLSocket, stream: Stream) -> DelegatedCredential:
        """Take the credential that the peer offers; it lives as long as this session."""
        acceptor = DelegationAcceptor(verified_chain(tls))
        budget = Budget(self._door.limits.handshake_s)
        stream.send(acceptor.request(), budget)
        received = b""
        while (size_bytes := der_size(received)) is None or len(received) < size_bytes:
            piece = stream.receive(budget)
            if not piece:
                raise PeerGone
            received += piece
        return acceptor.accept(received, self._door.clock.now())

    def _refused(self, error: NotAuthenticated | ssl.SSLError) -> None:
        reason = error.message if isinstance(error, NotAuthenticated) else _reason(error)
        if isinstance(error, NotAuthenticated | ssl.SSLCertVerificationError):
            self._door.visitors.refused(reason)
        log.warning("connection_refused", peer=self.peer, port=self._door.address[1], reason=reason)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or type(error).__name__).lower().replace('_', ' ')}"
    return type(error).__name__
