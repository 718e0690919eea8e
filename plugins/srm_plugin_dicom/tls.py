"""DICOM over TLS (PS3.15, annex B.9 and B.12): TLS 1.2 or 1.3, and both sides show a certificate.

A context is made for each connection: TLS 1.2's session cache cannot be switched off, and a resumed
session shows no certificate. A PACS and this program know each other by certificates of `authorities`;
the AE title and the address are asked for as well, as without TLS.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsCredential:
    """PEM files.

    Attributes:
        certificate: what we show, with its chain; None where a server does not ask for one.
        key: its private key, readable by this program only.
        authorities: who signs the certificates of those on the other side.
        name: what the server's certificate must say; empty means its host.
    """

    certificate: Path | None
    key: Path | None
    authorities: Path
    name: str = ""


def server_context(credential: TlsCredential) -> ssl.SSLContext:
    """Return a context for one connection to us; a client without a certificate is refused.

    Raises:
        ConfigError: a file cannot be read or does not fit.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, credential)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    return context


def client_context(credential: TlsCredential) -> ssl.SSLContext:
    """Return a context for one connection from us; the server's name is checked.

    Raises:
        ConfigError: a file cannot be read or does not fit.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, credential)


def accept_tls(connection: socket.socket, credential: TlsCredential) -> ssl.SSLSocket:
    """Take over a connection that has just come in; the handshake is still to be done."""
    context = server_context(credential)
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


def _context(protocol: ssl._SSLMethod, credential: TlsCredential) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    try:
        if credential.certificate is not None:
            context.load_cert_chain(credential.certificate, credential.key)
        context.load_verify_locations(credential.authorities)
    except OSError as error:  # ssl.SSLError is one too
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"the TLS files beside {credential.authorities} cannot be used: {reason}",
            advice="Check that certificate and key belong together and can be read.",
        ) from None
    return context
