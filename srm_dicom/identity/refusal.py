"""Why a handshake failed, and whose certificate it was.

OpenSSL gives the reason; when verification fails it does not give the certificate. `WitnessContext`
keeps the client's Certificate message of its one handshake (the message callback of `ssl`, there since
Python 3.8), so that the administrator reads a name beside the reason.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from cryptography import x509

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import dn
from srm_dicom.identity.proxyinfo import PROXY_CERT_INFO

_CERTIFICATE = 11
MAX_MESSAGE_BYTES = 128 * 1024


class WitnessContext(ssl.SSLContext):
    """A server's context for one connection that remembers which certificates were shown."""

    shown: bytes = b""
    shown_version: int = 0

    def __new__(cls, protocol: int) -> WitnessContext:
        """Make the context and start to listen."""
        context = super().__new__(cls, protocol)

        def witness(
            _tls: object, direction: str, version: int, _content: int, message: int, data: bytes
        ) -> None:
            if direction == "read" and message == _CERTIFICATE and len(data) <= MAX_MESSAGE_BYTES:
                context.shown, context.shown_version = data, version

        cast("Any", context)._msg_callback = witness  # noqa: SLF001 there is no public name
        return context

    def rest(self) -> None:
        """Stop listening when the handshake is over: being told of every record has its cost."""
        cast("Any", self)._msg_callback = None  # noqa: SLF001 there is no public name


def explain(context: ssl.SSLContext, error: ssl.SSLError, now: datetime) -> NotAuthenticated:
    """Put the reason of a failed handshake and the name of the certificate into one refusal."""
    shown, witnessed = _shown(context), isinstance(context, WitnessContext)
    nobody = "a client without a certificate" if witnessed else "a client"
    reason = getattr(error, "verify_message", None) or error.reason or "the handshake failed"
    reason = str(reason).lower().replace("_", " ")
    if not isinstance(error, ssl.SSLCertVerificationError):
        return NotAuthenticated(f"{_who(shown, nobody)}: {reason}")
    if "expired" in reason and "crl" not in reason:
        shown = [one for one in shown if one.not_valid_after_utc <= now] or shown
    elif "not yet valid" in reason and "crl" not in reason:
        shown = [one for one in shown if one.not_valid_before_utc > now] or shown
    elif "proxy" not in reason:
        shown = [one for one in shown if not _is_proxy(one)] or shown
    return NotAuthenticated(f"{_who(shown, nobody)}: {reason}")


def _who(certificates: Sequence[x509.Certificate], nobody: str) -> str:
    if not certificates:
        return nobody
    return dn.printable(certificates[0].subject)


def _is_proxy(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_oid(PROXY_CERT_INFO)
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False
    return True


def _shown(context: ssl.SSLContext) -> list[x509.Certificate]:
    if not isinstance(context, WitnessContext):
        return []
    certificates = []
    for der in _entries(context.shown, tls13=context.shown_version == ssl.TLSVersion.TLSv1_3):
        try:
            certificates.append(x509.load_der_x509_certificate(der))
        except ValueError:
            break
    return certificates


def _entries(message: bytes, *, tls13: bool) -> list[bytes]:
    """Take the certificates out of a Certificate message (RFC 5246, 7.4.2; RFC 8446, 4.4.2)."""
    at = 4 + (1 + message[4] if tls13 and len(message) > 4 else 0) + 3
    ders = []
    while at + 3 <= len(message):
        size = int.from_bytes(message[at : at + 3], "big")
        ders.append(message[at + 3 : at + 3 + size])
        at += 3 + size
        if tls13:
            at += 2 + int.from_bytes(message[at : at + 2], "big")
    return ders
