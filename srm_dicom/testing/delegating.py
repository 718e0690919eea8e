"""A GSI client that delegates, as every real GridFTP client does; ours never needs to."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from srm_dicom.identity.credential import Credential
from srm_dicom.identity.proxyinfo import LIMITED
from srm_dicom.testing.certificates import proxy_certificate, read_credential
from srm_dicom.wire.gridftp.gsi import DELEGATE, GsiInitiator


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
