"""M2Crypto as the TLS below the gate, instead of the standard library's `ssl`; an optional extra.

What is here looks to the doors like the part of `ssl` that they use, so that they need not know. OpenSSL
verifies the path here as there. M2Crypto does not give out the path that was verified: it is followed anew,
signature by signature, from the certificates that were sent to the trust directory (`signerpath`).

M2Crypto keeps one verify callback for the whole process, so that a callback set anywhere would decide for
contexts everywhere that have one: none is ever set here.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from M2Crypto import X509, m2

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import signerpath
from srm_dicom.identity.chain import MALFORMED
from srm_dicom.identity.proxyinfo import PROXY_CERT_INFO

T = TypeVar("T")

Certificates = Sequence[x509.Certificate]
Follow = Callable[[x509.Certificate, Certificates], Certificates]
"""Returns the authorities of an end entity, up to the root; raises `NotAuthenticated`."""

_MEMORY_EOF = -1  # an empty buffer is no end: OpenSSL asks for more
_DEPTH = 100  # as in `ssl`; how many proxies are too many is `chain`'s to say
_READ_BYTES = 64 * 1024
_MOST_SENT = 40
_VERSIONS = {
    ssl.TLSVersion.TLSv1_2: ssl.OP_NO_TLSv1_3,
    ssl.TLSVersion.TLSv1_3: ssl.Options(0),
}


class Context:
    """The server's side of one connection.

    Args:
        certificate: this host's, with its chain.
        key: that belongs to it.
        trust: directory of authorities.
        follow: finds the authorities of an end entity.
        maximum: the newest TLS that is spoken.
        crl_required: refuse the users of an authority without a current CRL.
        nameless: let clients pass that show no certificate.
        ciphers: in OpenSSL's words.

    Raises:
        OSError: the host's certificate or key is not usable.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        trust: Path,
        follow: Follow,
        *,
        maximum: ssl.TLSVersion,
        crl_required: bool,
        nameless: bool,
        ciphers: str,
    ) -> None:
        self.follow = follow
        self.handle: Any = m2.ssl_ctx_new(m2.sslv23_method())  # the old name of any TLS
        mode = m2.SSL_VERIFY_PEER | (0 if nameless else m2.SSL_VERIFY_FAIL_IF_NO_PEER_CERT)
        m2.ssl_ctx_set_verify_default(self.handle, mode)  # without a callback
        m2.ssl_ctx_set_verify_depth(self.handle, _DEPTH)
        m2.ssl_ctx_set_session_cache_mode(self.handle, m2.SSL_SESS_CACHE_OFF)
        options = ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        old = ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
        m2.ssl_ctx_set_options(self.handle, int(options | old | _VERSIONS[maximum]))
        flags = m2.VERIFY_ALLOW_PROXY_CERTS
        if crl_required:
            flags |= m2.X509_V_FLAG_CRL_CHECK | m2.X509_V_FLAG_CRL_CHECK_ALL
        m2.x509_store_set_flags(m2.ssl_ctx_get_cert_store(self.handle), flags)
        try:
            m2.ssl_ctx_set_cipher_list(self.handle, ciphers)
            m2.ssl_ctx_load_verify_locations(self.handle, None, str(trust))
            m2.ssl_ctx_use_cert_chain(self.handle, str(certificate))
            m2.ssl_ctx_use_privkey(self.handle, str(key))
        except Exception as error:
            raise OSError(str(error)) from error

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = True) -> Tls:
        """Begin a session between two buffers; see `ssl.SSLContext.wrap_bio`."""
        if not server_side:
            raise ValueError("this is the server's side")
        return Tls(self, incoming, outgoing)

    def wrap_socket(self, sock: socket.socket, **_ignored: bool) -> TlsSocket:
        """Begin a session on a socket, which is taken over; see `ssl.SSLContext.wrap_socket`."""
        return TlsSocket(sock, self)

    def __del__(self) -> None:
        """Free what OpenSSL holds."""
        if handle := getattr(self, "handle", None):
            m2.ssl_ctx_free(handle)


class Tls:
    """A session: the part of `ssl.SSLObject` that is used here."""

    session_reused = False  # there is neither a cache nor a ticket

    def __init__(self, context: Context, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self.context = context
        self._incoming, self._outgoing = incoming, outgoing
        self._handle: Any = m2.ssl_new(context.handle)
        self._in, self._out = m2.bio_new(m2.bio_s_mem()), m2.bio_new(m2.bio_s_mem())
        m2.bio_set_mem_eof_return(self._in, _MEMORY_EOF)
        m2.ssl_set_bio(self._handle, self._in, self._out)  # which frees them with the session

    def do_handshake(self) -> None:
        """Go on; see `ssl.SSLObject.do_handshake`.

        Raises:
            ssl.SSLWantReadError: the peer has to say something first.
            ssl.SSLError: the peer is refused.
        """
        if self._step(m2.ssl_accept, self._handle) != 1:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the handshake goes on")

    def read(self, limit: int = _READ_BYTES) -> bytes:
        """Return what has been decrypted; empty when the peer has said goodbye.

        Raises:
            ssl.SSLWantReadError: there is nothing yet.
            ssl.SSLError: what came is no record of this session.
        """
        plain = self._step(m2.ssl_read_nbio, self._handle, limit)
        if plain is None:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing has come")
        return bytes(plain)

    def write(self, data: bytes) -> int:
        """Encrypt.

        Raises:
            ssl.SSLError: the session has ended.
        """
        if not data:
            return 0
        count = int(self._step(m2.ssl_write_nbio, self._handle, bytes(data)))
        if count <= 0:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the session has ended")
        return count

    def unwrap(self) -> None:
        """Say goodbye, and wait for no answer."""
        self._step(m2.ssl_shutdown, self._handle)

    def version(self) -> str:
        """Return the protocol that is spoken."""
        return str(m2.ssl_get_version(self._handle))

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        """Return the certificate that the peer showed, DER."""
        if not binary_form:
            raise ValueError("in binary form only")
        found = m2.ssl_get_peer_cert(self._handle)
        return X509.X509(found, 1).as_der() if found is not None else None

    def get_verified_chain(self) -> list[bytes]:
        """Return the path from the leaf to the root; empty when no certificate was shown.

        Raises:
            NotAuthenticated: OpenSSL verified a path that cannot be followed with certainty.
        """
        der = self.getpeercert(binary_form=True)
        if der is None:
            return []
        try:
            leaf, sent = x509.load_der_x509_certificate(der), self._sent()
            path = _proxies(leaf, sent)
            path += self.context.follow(path[-1], sent)
        except MALFORMED as error:
            raise NotAuthenticated(f"a certificate of the chain is malformed: {error}") from error
        return [certificate.public_bytes(Encoding.DER) for certificate in path]

    def _sent(self) -> list[x509.Certificate]:
        stack = m2.ssl_get_peer_cert_chain(self._handle)
        count = m2.sk_x509_num(stack) if stack is not None else 0
        if count > _MOST_SENT:
            raise NotAuthenticated(f"more than {_MOST_SENT} certificates were sent")
        ders = (X509.X509(m2.sk_x509_value(stack, number)).as_der() for number in range(count))
        return [x509.load_der_x509_certificate(der) for der in ders]

    def _step(self, call: Callable[..., T], *arguments: Any) -> T:
        """Give OpenSSL what has come, let it work, and take what it wants to send."""
        if data := self._incoming.read():
            m2.bio_write(self._in, data)
        try:
            return call(*arguments)
        except Exception as error:  # M2Crypto's own error, whose base is plain Exception
            raise self._translated(error) from error
        finally:
            while m2.bio_ctrl_pending(self._out):
                self._outgoing.write(m2.bio_read(self._out, _READ_BYTES))

    def _translated(self, error: Exception) -> ssl.SSLError:
        verdict = m2.ssl_get_verify_result(self._handle)
        if verdict:
            refused = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, "certificate verify failed")
            refused.verify_code = verdict
            refused.verify_message = m2.x509_get_verify_error(verdict)
            refused.reason = "CERTIFICATE_VERIFY_FAILED"
            return refused
        made = ssl.SSLError(ssl.SSL_ERROR_SSL, "TLS failed")
        made.reason = str(error).partition(" (")[0] or "TLS failed"
        return made

    def __del__(self) -> None:
        """Free what OpenSSL holds."""
        if handle := getattr(self, "_handle", None):
            m2.ssl_free(handle)


class TlsSocket(socket.socket):
    """A session on a socket: the part of `ssl.SSLSocket` that is used here."""

    session_reused = False

    def __init__(self, sock: socket.socket, context: Context) -> None:
        timeout_s = sock.gettimeout()
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.settimeout(timeout_s)
        self.context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = Tls(context, self._incoming, self._outgoing)
        self.getpeercert = self._tls.getpeercert
        self.get_verified_chain = self._tls.get_verified_chain
        self.version = self._tls.version

    def do_handshake(self) -> None:
        """Finish the handshake, within the socket's timeout for each flight.

        Raises:
            OSError: the peer is refused, has gone or is too slow.
        """
        self._until_done(self._tls.do_handshake)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return decrypted bytes; empty when the peer has gone."""
        if flags:
            return super().recv(size, flags)
        try:
            return self._until_done(lambda: self._tls.read(size))
        except ssl.SSLEOFError:
            return b""

    def send(self, data: Any, flags: int = 0) -> int:
        """Encrypt and send a record's worth of data."""
        del flags
        count = self._tls.write(bytes(data[:_READ_BYTES]))
        self._flush()
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Encrypt and send everything."""
        view = memoryview(data)
        while view:
            view = view[self.send(view, flags) :]

    def unwrap(self) -> None:
        """Say goodbye, and wait for no answer."""
        self._tls.unwrap()
        self._flush()

    def _until_done(self, step: Callable[[], T]) -> T:
        """Repeat a step with what arrives."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = super().recv(_READ_BYTES)
                if not data:
                    raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer has gone") from None
                self._incoming.write(data)
            except ssl.SSLError:
                self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            super().sendall(data)


def _proxies(leaf: x509.Certificate, sent: Certificates) -> list[x509.Certificate]:
    """Return the leaf and, below an end entity, the proxies and the end entity itself."""
    path = [leaf]
    while any(extension.oid == PROXY_CERT_INFO for extension in path[-1].extensions):
        issuer = next((one for one in sent if signerpath.has_signed(one, path[-1])), None)
        if issuer is None or issuer in path:
            raise NotAuthenticated("the row of proxies cannot be followed")
        path.append(issuer)
    return path
