"""The gate: one per process, decides for every door who is on the line.

OpenSSL verifies the path (signatures, dates, CRLs of the whole chain, the proxy rules of RFC 3820 that
it knows); `chain` decides what OpenSSL does not know. A session without a verified chain is refused:
that is what a resumed session looks like, and resumption skips verification and CRLs. Hence no tickets
and one context per connection, which also makes every handshake see the CRLs of that moment.
"""

from __future__ import annotations

import _ssl
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from cryptography import x509

from srm_dicom.clock import Clock
from srm_dicom.errors import ConfigError, NotAuthenticated
from srm_dicom.identity import dn
from srm_dicom.identity.credential import HostCredential
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.proxyinfo import LIMITED, PROXY_CERT_INFO, ProxyInfo

__all__ = ["Gate", "HostCredential", "TrustSettings", "verified_chain"]


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """Whom this site trusts.

    Attributes:
        certificates: directory of authorities: ``<hash>.0``, ``<hash>.signing_policy``, ``<hash>.r0``.
        crl: ``require`` refuses users of an authority without a current CRL; ``if-present`` lets an
            authority without any CRL pass, and still refuses a stale or forged one.
        ban_file: names, groups and authorities that may not enter; None bans nobody.
        vomsdir: directory of ``<vo>/<host>.lsc``; None accepts no VOMS attributes.
    """

    certificates: Path
    crl: Literal["require", "if-present"] = "require"
    ban_file: Path | None = None
    vomsdir: Path | None = None


class Gate:
    """Turns a finished handshake into a `Principal`, or refuses it and says why."""

    def __init__(self, trust: TrustSettings, host: HostCredential, clock: Clock) -> None:
        self._trust = trust
        self._host = host
        self._clock = clock

    def server_context(self, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Build the server's side of one connection; call it again for the next one.

        Raises:
            ConfigError: the host credential or the trust directory cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = maximum
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if self._trust.crl == "require":
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        try:
            context.load_verify_locations(capath=str(self._trust.certificates))
            context.load_cert_chain(self._host.certificate, self._host.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the host credential {self._host.certificate} is not usable: {error}"
            ) from error
        return context

    def identify(self, tls: ssl.SSLSocket | ssl.SSLObject) -> Principal:
        """Say who is on the other side of a finished handshake.

        Raises:
            NotAuthenticated: naming the certificate and the reason.
        """
        chain = [x509.load_der_x509_certificate(der) for der in verified_chain(tls)]
        limited, depth = False, -1
        for certificate in chain:
            depth += 1
            try:
                extension = certificate.extensions.get_extension_for_oid(PROXY_CERT_INFO)
            except x509.ExtensionNotFound:
                break
            limited |= ProxyInfo.parse(extension.value.public_bytes()).language == LIMITED
        else:
            raise NotAuthenticated("no end-entity certificate")
        expires = min(certificate.not_valid_after_utc for certificate in chain[: depth + 1])
        return Principal(dn.canonical(chain[depth].subject), (), limited, expires)


def verified_chain(tls: ssl.SSLSocket | ssl.SSLObject) -> list[bytes]:
    """Return the chain that OpenSSL verified, DER, from the leaf to the root.

    Raises:
        NotAuthenticated: there is none: no certificate was shown, or the session was resumed.
    """
    if hasattr(tls, "get_verified_chain"):  # public from Python 3.13
        ders = list(tls.get_verified_chain() or ())
    else:
        inner = cast("Any", tls)._sslobj  # noqa: SLF001 the only way before 3.13
        found = inner.get_verified_chain() if inner is not None else None
        ders = [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in found or ()]
    if not ders:
        raise NotAuthenticated("no certificate was verified in this session")
    return ders
