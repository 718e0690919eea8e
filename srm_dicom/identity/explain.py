"""What would the doors say to this credential? Asks the code that listens, through a real handshake.

A client and a server side of TLS are connected in memory; the server side is a `Gate`. The client side
shows whatever the file has, good or bad: it does not judge keys or the server. A file that cannot be
shown at all is refused like any other; nothing that a file holds makes this fail.
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from srm_dicom.clock import Clock
from srm_dicom.errors import InvalidRequest, MdmError, NotAuthenticated
from srm_dicom.identity.credential import HostCredential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal

_MAX_FLIGHTS = 10
MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: who it would be, or why it would be refused."""

    accepted: bool
    dn: str = ""
    fqans: tuple[str, ...] = ()
    limited: bool = False
    reason: str = ""


def explain(
    file: Path, trust: TrustSettings, *, clock: Clock, host: str = "localhost", key: Path | None = None
) -> Verdict:
    """Judge a credential file.

    Args:
        file: a proxy file, or a certificate (chain) whose key is in `key`.
        trust: what the doors would be given.
        clock: the time for the checks that are not OpenSSL's.
        host: the name of this server, which VOMS attributes may be restricted to.
        key: the private key, if it is not in `file`.
    """
    try:
        with tempfile.TemporaryDirectory() as directory:
            client = _client(file, key, Path(directory))
            gate = Gate(trust, _throw_away_host(Path(directory), host, clock), clock)
            principal, notes = _meet(client, gate)
    except MdmError as error:
        return Verdict(accepted=False, reason=error.message)
    except Exception as error:  # noqa: BLE001 - the file and the trust directory may hold anything
        return Verdict(accepted=False, reason=f"cannot be judged: {type(error).__name__}")
    return Verdict(True, principal.dn, principal.fqans, principal.limited, "; ".join(notes))


def _client(file: Path, key: Path | None, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    chain = _as_pem(file, directory / "chain.pem")
    try:
        context.load_cert_chain(chain, key or chain, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        text = _why_not_shown(chain, key or chain, error)
        raise NotAuthenticated(f"{file.name}: cannot be shown at all: {text}") from error
    return context


def _as_pem(file: Path, copy: Path) -> Path:
    """Return the file, or a PEM copy of one that is a single certificate in DER."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise NotAuthenticated(f"{file.name}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise NotAuthenticated(f"{file.name}: has more than {MAX_FILE_BYTES} bytes")
    if b"-----BEGIN" in data or not data.startswith(b"\x30"):
        return file
    try:
        certificate = x509.load_der_x509_certificate(data)
    except ValueError:
        return file
    copy.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return copy


def _no_password() -> str:
    raise NotAuthenticated("the private key is encrypted")


def _why_not_shown(chain: Path, key: Path, error: OSError) -> str:
    if b"-----BEGIN CERTIFICATE" not in chain.read_bytes():
        return "no certificate in it"
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return "no private key in it"
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or "its certificate or private key cannot be read").lower().replace("_", " ")


def _throw_away_host(directory: Path, host: str, clock: Clock) -> HostCredential:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "explain-credential")])
    now = clock.now()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_ascii(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "host.pem"
    path.write_bytes(certificate.public_bytes(pem) + private)
    return HostCredential(path, path)


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidRequest("the host is no DNS name") from error


def _meet(client: ssl.SSLContext, gate: Gate) -> tuple[Principal, tuple[str, ...]]:
    """Run the handshake in memory and ask the gate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = gate.server_context()
    ours = context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    done = False
    for _ in range(_MAX_FLIGHTS):
        try:
            _step(theirs)
        except ssl.SSLError as error:
            reason = (error.reason or "TLS failed").lower().replace("_", " ")
            raise NotAuthenticated(f"the credential cannot be shown at all: {reason}") from error
        try:
            done = _step(ours)
        except ssl.SSLError as error:
            raise gate.refusal(context, error) from error
        if done:
            return gate.identify_with_notes(ours)
    raise NotAuthenticated("the handshake did not end")


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
