"""Securing a data connection (DCAU A, PROT): rules D, E and F of `srm_dicom.wire.gridftp`."""

from __future__ import annotations

import _ssl
import socket
import ssl
from typing import Any, cast

from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.delegation import DelegatedCredential
from srm_dicom.identity.gate import Gate
from srm_dicom.wire.gridftp.datapeer import SameUser
from srm_dicom.wire.gridftp.gsi import NO_DELEGATION, TURN, why


class DataSecurity:
    """Puts TLS on data connections with the credential that the user delegated.

    Under DCAU A the only trust anchor is the end-entity certificate that was verified on the control
    connection: its proxies are the same user, nobody else is. Under DCAU S the gate says who the peer is.

    Args:
        delegated: None when the client delegated nothing; then nothing can be secured.
        end_entity: DER of the user's certificate.
        gate: knows the authorities of other peers.
    """

    def __init__(
        self, delegated: DelegatedCredential | None, end_entity: bytes, gate: Gate, clock: Clock
    ) -> None:
        self._delegated = delegated
        self._end_entity = end_entity
        self._gate = gate
        self._clock = clock
        self._contexts: dict[tuple[bool, bool], ssl.SSLContext] = {}
        self._same_user = SameUser()

    @property
    def possible(self) -> bool:
        """Tell whether there is a credential to show."""
        return self._delegated is not None

    def secure(
        self, sock: socket.socket, *, accepted: bool, private: bool, subject: str = ""
    ) -> socket.socket:
        """Shake hands on a fresh connection, within its own timeout.

        Args:
            sock: becomes part of what is returned.
            accepted: we accepted the connection, so we are the TLS server (rule D).
            private: PROT S, E or P: stay in TLS.
            subject: name of the peer (DCAU S); empty, the user of the control connection (DCAU A).

        Returns:
            An `ssl.SSLSocket` if private, else a plain socket for clear bytes.

        Raises:
            NotAuthenticated: the peer is not who it has to be.
            OSError: the connection or the handshake failed.
        """
        tls = self._context(server=accepted, same_user=not subject).wrap_socket(
            sock, server_side=accepted, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        try:
            self._shake_hands(tls, subject)
            if private:
                return tls
            _exchange_flags(tls, accepted=accepted)
            return _plain(tls)
        except BaseException:
            tls.close()
            raise

    def _shake_hands(self, tls: ssl.SSLSocket, subject: str) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLError as error:
            raise NotAuthenticated(f"the data connection is refused: {why(error)}") from error
        if tls.session_reused:
            raise NotAuthenticated("data connections do not resume sessions")
        chain = _sent_chain(tls)
        end_entity = self._gate.end_entity(chain, subject) if subject else self._end_entity
        self._same_user.verify(chain, end_entity, self._clock.now())

    def _context(self, *, server: bool, same_user: bool) -> ssl.SSLContext:
        key = server, same_user
        if key not in self._contexts:
            self._contexts[key] = self._server_context(same_user) if server else self._client_context()
        return self._contexts[key]

    def _server_context(self, same_user: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= (
            ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        )
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if same_user:
            context.load_verify_locations(cadata=self._end_entity)
        else:
            context.load_verify_locations(capath=str(self._gate.authorities))
        self._show_credential(context)
        return context

    def _client_context(self) -> ssl.SSLContext:
        """A client's context cannot verify a user's certificate (wrong purpose): rule F does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._show_credential(context)
        return context

    def _show_credential(self, context: ssl.SSLContext) -> None:
        if self._delegated is None:
            raise NotAuthenticated("no credential was delegated")
        self._delegated.load_into(context)


def _sent_chain(tls: ssl.SSLSocket) -> list[bytes]:
    """Return the peer's certificates as it sent them, the leaf first."""
    if hasattr(tls, "get_unverified_chain"):  # public from Python 3.13
        return list(tls.get_unverified_chain() or ())
    inner = cast("Any", tls)._sslobj  # noqa: SLF001 the only way before 3.13
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in inner.get_unverified_chain() or ()]


def _exchange_flags(tls: ssl.SSLSocket, *, accepted: bool) -> None:
    """Rule E for PROT C: in TLS 1.3 the acceptor's NUL, then the initiator's flag, then clear bytes."""
    turn = tls.version() == "TLSv1.3"
    if accepted:
        if turn:
            tls.sendall(TURN)
        expected, got = NO_DELEGATION, tls.recv(1)
    else:
        expected = got = TURN
        if turn:
            got = tls.recv(1)
        tls.sendall(NO_DELEGATION)
    if got != expected:
        raise NotAuthenticated("the data connection's handshake does not end as GSI's does")


def _plain(tls: ssl.SSLSocket) -> socket.socket:
    """Give up the TLS session without a word and go on with its socket in clear."""
    timeout, family, kind = tls.gettimeout(), tls.family, tls.type
    sock = socket.socket(family, kind, fileno=tls.detach())
    sock.settimeout(timeout)
    return sock
