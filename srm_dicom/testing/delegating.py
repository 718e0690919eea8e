"""Clients that delegate, as every real GridFTP client does and some of httpg; ours never need to."""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from srm_dicom.client.http import HttpClient
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.proxyinfo import LIMITED
from srm_dicom.testing.certificates import proxy_certificate, read_credential
from srm_dicom.wire.gridftp.gsi import DELEGATE, GsiInitiator
from srm_dicom.wire.httpg import DELEGATION, der_size


class DelegatingInitiator:
    """Logs in as `GsiInitiator` does, asks to delegate, and signs a limited proxy for the server's key."""

    def __init__(self, credential: Credential, host: str) -> None:
        self._inner = GsiInitiator(credential.client_context(), host, flag=DELEGATE)
        self._credential = credential
        self.channel = self._inner.channel

    def step(self, token: bytes) -> bytes:
        """Take the server's token and return ours."""
        if not self._inner.complete:
            return self._inner.step(token)
        request = x509.load_der_x509_csr(self.channel.unwrap(token))
        public_key = request.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise TypeError("the server asks for a proxy of an EC key")
        chain, key = read_credential(self._credential)
        certificate = proxy_certificate(chain[0], key, public_key, language=LIMITED)
        return self.channel.wrap(certificate.public_bytes(serialization.Encoding.DER))


class DelegatingHttpClient(HttpClient):
    """Speaks httpg and delegates at the beginning of every connection.

    Args:
        url: ``https://host:port`` of an httpg server: the flag is sent here.
        credential: shown, and what is delegated.
    """

    def __init__(self, url: str, credential: Credential) -> None:
        super().__init__(url, credential)
        self._signer = credential

    def _secured(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        tls = super()._secured(context)
        tls.sendall(DELEGATION)
        request = b""
        while (size_bytes := der_size(request)) is None or len(request) < size_bytes:
            request += tls.recv(65536)
        chain, key = read_credential(self._signer)
        public_key = x509.load_der_x509_csr(request).public_key()
        certificate = proxy_certificate(chain[0], key, public_key)
        tls.sendall(certificate.public_bytes(serialization.Encoding.DER))
        return tls
