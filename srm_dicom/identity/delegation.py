"""Taking a delegated credential: GSI's ``D`` exchange (GridFTP, httpg), without I/O.

The server makes a key and sends a certificate request; the client signs it with the credential that it
came with and sends back one certificate, a proxy of itself. Clients always ask for this, so it has to
be answered; what is received is held in memory for the session and never written to a disk.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import dn
from srm_dicom.identity.chain import MALFORMED, check_proxy_name, is_limited, proxy_info
from srm_dicom.identity.credential import trusting

MAX_CERTIFICATE_BYTES = 100 * 1024

GONE = "the delegated credential is gone, submit again"
"""What is said when it is needed and this process has not seen it: it is in no file and no database."""


@dataclass(frozen=True)
class DelegatedCredential:
    """A proxy of the caller in our hands: certificates from the leaf up, without the root, and the key."""

    certificates: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey
    limited: bool
    expires: datetime

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a context show this credential; `ssl` reads files only, so through one in memory."""
        descriptor = os.memfd_create("delegated", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.pem())
            file.flush()
            path = Path(f"/proc/self/fd/{descriptor}")
            context.load_cert_chain(path, path)

    def pem(self) -> bytes:
        """Return the certificates and the key, not encrypted; nothing writes them to a disk."""
        pem = serialization.Encoding.PEM
        key = self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        first, *rest = (certificate.public_bytes(pem) for certificate in self.certificates)
        return b"".join((first, key, *rest))

    @classmethod
    def from_pem(cls, pem: bytes, *, limited: bool) -> Self:
        """Read what `pem` wrote, as another process of this site held it.

        Raises:
            NotAuthenticated: it is not that.
        """
        try:
            certificates = tuple(x509.load_pem_x509_certificates(pem))
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise NotAuthenticated("not a delegated credential") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise NotAuthenticated("not a delegated credential")
        expires = min(one.not_valid_after_utc for one in certificates)
        return cls(certificates, key, limited, expires)


@dataclass(frozen=True)
class Delegate:
    """What is shown to a server on behalf of the owner of a delegated credential; see `credential.Shown`."""

    credential: DelegatedCredential
    trust: Path

    def client_context(self, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Build a context that shows the delegated credential and verifies the server."""
        context = trusting(self.trust, maximum)
        self.credential.load_into(context)
        return context


class DelegationAcceptor:
    """One delegation: `request` goes to the client, its answer goes to `accept`."""

    def __init__(self, verified_chain: Sequence[bytes]) -> None:
        """Start for a caller who has been identified.

        Args:
            verified_chain: the chain of the session, DER, from the leaf to the root.
        """
        self._issuers = tuple(x509.load_der_x509_certificate(der) for der in verified_chain[:-1])
        self._key = ec.generate_private_key(ec.SECP256R1())

    def request(self) -> bytes:
        """Return the PKCS#10 certificate request, DER; the client chooses the name."""
        request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(self._key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.DER)

    def accept(self, der: bytes, now: datetime) -> DelegatedCredential:
        """Check the client's answer.

        Args:
            der: one certificate, DER.
            now: the present time.

        Raises:
            NotAuthenticated: not a valid RFC 3820 proxy of the caller for our key.
        """
        if len(der) > MAX_CERTIFICATE_BYTES:
            raise NotAuthenticated("the delegated certificate is too large")
        try:
            certificate = x509.load_der_x509_certificate(der)
            info = proxy_info(certificate)
            limited = info is not None and is_limited(certificate, info)
            certificate.verify_directly_issued_by(self._issuers[0])
            public_key = certificate.public_key()
        except (*MALFORMED, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise NotAuthenticated("the delegated certificate is not the caller's") from error
        name = dn.printable(certificate.subject)
        if info is None:
            raise NotAuthenticated(f"{name}: a delegated credential is an RFC 3820 proxy")
        check_proxy_name(certificate, self._issuers[0])
        if public_key != self._key.public_key():
            raise NotAuthenticated(f"{name}: delegated for another key than was asked for")
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise NotAuthenticated(f"{name}: the delegated certificate is not valid now")
        chain = (certificate, *self._issuers)
        expires = min(one.not_valid_after_utc for one in chain)
        return DelegatedCredential(chain, self._key, limited, expires)
