"""GSI over TLS in memory: the tokens of ADAT and the wrapping of ENC, MIC and CONF (RFC 2228, GFD.020).

Nothing here touches a socket. An acceptor or initiator is stepped with the peer's token and returns
its own until it is complete; then its `channel` wraps and unwraps. Rules A, B and C of the package
are kept here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from cryptography import x509

from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.chain import proxy_info
from srm_dicom.identity.delegation import MAX_CERTIFICATE_BYTES, DelegatedCredential, DelegationAcceptor
from srm_dicom.identity.gate import Gate, verified_chain
from srm_dicom.identity.principal import Principal

TURN = b"\0"
DELEGATE = b"D"
NO_DELEGATION = b"0"
MAX_TOKENS = 16
_READ_BYTES = 64 * 1024


class SecureChannel:
    """A TLS session between two memory buffers."""

    def __init__(self, wrap: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = wrap(self._incoming, self._outgoing)

    def feed(self, token: bytes) -> None:
        """Take TLS records from the peer."""
        self._incoming.write(token)

    def shake_hands(self) -> bool:
        """Go on with the handshake; tell whether it is finished.

        Raises:
            ssl.SSLError: the peer's credential or its TLS is refused.
        """
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def take_token(self) -> bytes:
        """Return the TLS records that the peer has to get."""
        return self._outgoing.read()

    @property
    def silent(self) -> bool:
        """Tell whether there is nothing to send."""
        return not self._outgoing.pending

    def write(self, plain: bytes) -> None:
        """Encrypt; `take_token` has the result."""
        self.tls.write(plain)

    def read(self, limit: int = _READ_BYTES) -> bytes:
        """Return what has been decrypted, at most `limit` bytes; empty when nothing has.

        Raises:
            NotAuthenticated: the peer's bytes are not records of this session.
        """
        plain = bytearray()
        try:
            while len(plain) < limit:
                part = self.tls.read(limit - len(plain))
                if not part:
                    break
                plain += part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise NotAuthenticated(why(error)) from error
        return bytes(plain)

    def wrap(self, plain: bytes) -> bytes:
        """Protect bytes as one token."""
        self.write(plain)
        return self.take_token()

    def unwrap(self, token: bytes) -> bytes:
        """Open the peer's token.

        Raises:
            NotAuthenticated: it is not a token of this session.
        """
        self.feed(token)
        return self.read()


def why(error: ssl.SSLError) -> str:
    """Say what OpenSSL refused, in its own words, without the file and line of its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return f"TLS: {(error.reason or 'protocol error').replace('_', ' ').lower()}"


@dataclass(frozen=True, slots=True)
class Step:
    """What to send to the peer (nothing when empty), and whether the context is complete."""

    token: bytes
    complete: bool


class _Phase(Enum):
    HANDSHAKE = auto()
    FLAG = auto()
    CERTIFICATE = auto()
    COMPLETE = auto()


class GsiAcceptor:
    """The server's half of a login.

    Attributes:
        principal: who is on the line; None before the handshake is finished.
        end_entity: the caller's own certificate, DER; data connections are compared with it.
        delegated: what the caller delegated; all real clients do.
    """

    def __init__(
        self, gate: Gate, context: ssl.SSLContext, clock: Clock, max_tokens: int = MAX_TOKENS
    ) -> None:
        """Start a login.

        Args:
            gate: identifies the caller after the handshake.
            context: of this connection alone (`Gate.server_context`).
            clock: for the dates of what is delegated.
            max_tokens: more rounds than this are no login.
        """
        self.channel = SecureChannel(lambda into, out: context.wrap_bio(into, out, server_side=True))
        self.principal: Principal | None = None
        self.end_entity = b""
        self.delegated: DelegatedCredential | None = None
        self._gate = gate
        self._context = context
        self._clock = clock
        self._tokens_left = max_tokens
        self._phase = _Phase.HANDSHAKE
        self._delegation: DelegationAcceptor | None = None
        self._certificate = bytearray()

    def step(self, token: bytes) -> Step:
        """Take the client's token and return ours.

        Raises:
            NotAuthenticated: the login is refused; the acceptor cannot be used any more.
        """
        self._tokens_left -= 1
        if self._tokens_left < 0:
            raise NotAuthenticated("the login takes too many rounds")
        self.channel.feed(token)
        if self._phase is _Phase.HANDSHAKE:
            self._handshake()
        elif self._phase is _Phase.FLAG:
            self._flag()
        elif self._phase is _Phase.CERTIFICATE:
            self._take_certificate()
        return Step(self.channel.take_token(), self._phase is _Phase.COMPLETE)

    def _handshake(self) -> None:
        try:
            if not self.channel.shake_hands():
                return
        except ssl.SSLError as error:
            raise self._gate.refusal(self._context, error) from error
        self.principal = self._gate.identify(self.channel.tls)
        chain = verified_chain(self.channel.tls)
        self.end_entity = next(der for der in chain if not _is_proxy(der))
        if self.channel.silent:
            self.channel.write(TURN)
        self._phase = _Phase.FLAG

    def _flag(self) -> None:
        flag = self.channel.read(1)
        if flag == DELEGATE:
            self._delegation = DelegationAcceptor(verified_chain(self.channel.tls))
            self.channel.write(self._delegation.request())
            self._phase = _Phase.CERTIFICATE
        elif flag == NO_DELEGATION:
            self._phase = _Phase.COMPLETE
        elif flag:
            raise NotAuthenticated("the client's delegation flag is neither D nor 0")

    def _take_certificate(self) -> None:
        self._certificate += self.channel.read()
        if len(self._certificate) > MAX_CERTIFICATE_BYTES:
            raise NotAuthenticated("the delegated certificate is too large")
        if self._delegation is not None and _complete_der(self._certificate):
            self.delegated = self._delegation.accept(bytes(self._certificate), self._clock.now())
            self._phase = _Phase.COMPLETE


def _is_proxy(der: bytes) -> bool:
    return proxy_info(x509.load_der_x509_certificate(der)) is not None


def _complete_der(data: bytes | bytearray) -> bool:
    """Tell whether the data hold one whole DER element, by its header alone."""
    if len(data) < 2:
        return False
    if data[1] < 0x80:
        return len(data) >= 2 + data[1]
    octets = data[1] & 0x7F
    return len(data) >= 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")


class GsiInitiator:
    """The client's half of a login, up to its delegation flag.

    Args:
        context: shows the user's credential and verifies the server (`Credential.client_context`).
        host: the name that the server's certificate must have.
        flag: whether to delegate; whoever says `DELEGATE` answers the server's request itself.
    """

    def __init__(self, context: ssl.SSLContext, host: str, flag: bytes = NO_DELEGATION) -> None:
        self.channel = SecureChannel(lambda into, out: context.wrap_bio(into, out, server_hostname=host))
        self._flag = flag
        self._phase = _Phase.HANDSHAKE

    @property
    def complete(self) -> bool:
        """Tell whether the flag has been sent."""
        return self._phase is _Phase.COMPLETE

    def step(self, token: bytes) -> bytes:
        """Take the server's token (empty at first) and return ours; empty when it is the server's turn.

        Raises:
            NotAuthenticated: the server is refused, or does not speak GSI.
        """
        self.channel.feed(token)
        if self._phase is _Phase.HANDSHAKE and self._shake_hands():
            self._phase = _Phase.FLAG
            if not self.channel.silent:
                return self.channel.take_token()
        if self._phase is _Phase.FLAG:
            self._take_turn()
        return self.channel.take_token()

    def _shake_hands(self) -> bool:
        try:
            return self.channel.shake_hands()
        except ssl.SSLError as error:
            raise NotAuthenticated(f"the server is refused: {why(error)}") from error

    def _take_turn(self) -> None:
        turn = self.channel.read(1)
        if turn not in (b"", TURN):
            raise NotAuthenticated("the server's turn byte is not NUL")
        self.channel.write(self._flag)
        self._phase = _Phase.COMPLETE
