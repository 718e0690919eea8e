"""Making certificates, sensible or not: authorities, end entities, RFC 3820 proxies, CRLs, files.

Tests of what must be refused build it from these; `pki.TestPki` is what everything else needs. No
program is run; OpenSSL's subject hash is computed here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asn1crypto import core
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from srm_dicom.identity import dn
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.identity.proxyinfo import INHERIT_ALL, PROXY_CERT_INFO, ProxyInfo

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
Extensions = Iterable[tuple[x509.ExtensionType, bool]]

_BACKDATED = timedelta(minutes=5)
_TYPES = {
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def name_of(*components: tuple[str, str]) -> x509.Name:
    """Build a name of single-valued components, e.g. ``name_of(("DC", "test"), ("CN", "Alice"))``."""
    return x509.Name([x509.NameAttribute(_TYPES[kind], value) for kind, value in components])


def subject_hash(name: x509.Name) -> str:
    """Compute what ``openssl x509 -subject_hash`` prints: the stem of a file in a trust directory.

    It is the first four bytes, little-endian, of the SHA-1 of the name's canonical encoding: every
    value a UTF8String in lower case with single spaces, the outer SEQUENCE header left out.
    """
    parsed = asn1.Name.load(name.public_bytes())
    encoded = b""
    for rdn in parsed.chosen:
        attributes = []
        for attribute in rdn:
            text = " ".join(re.split(r"[ \t\n\v\f\r]+", attribute["value"].native.strip()))
            folded = "".join(char.lower() if char.isascii() else char for char in text)
            value = core.UTF8String(folded)
            attributes.append(tlv(0x30, attribute["type"].dump() + value.dump()))
        encoded += tlv(0x31, b"".join(sorted(attributes)))
    digest = hashlib.sha1(encoded, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def tlv(tag: int, content: bytes) -> bytes:
    """Encode one DER element."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def new_rsa_key() -> Key:
    """Draw an RSA key of 2048 bits, which every grid client takes."""
    return rsa.generate_private_key(65537, 2048)


def new_ec_key() -> Key:
    """Draw a P-256 key: a hundred times faster, for tests without foreign clients."""
    return ec.generate_private_key(ec.SECP256R1())


def key_usage(*names: str) -> x509.KeyUsage:
    """Build a keyUsage extension of the named bits."""
    return x509.KeyUsage(**{bit: bit in names for bit in _USAGES})


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its own certificate and key, and what it signs."""

    certificate: x509.Certificate
    key: Key

    @classmethod
    def create(
        cls,
        subject: x509.Name,
        *,
        key: Key | None = None,
        issuer: Authority | None = None,
        path_length: int | None = None,
        days: int = 3650,
    ) -> Authority:
        """Make a root, or a subordinate authority below `issuer`."""
        key = key or new_rsa_key()
        extensions = [
            (x509.BasicConstraints(ca=True, path_length=path_length), True),
            (key_usage("key_cert_sign", "crl_sign"), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ]
        now = datetime.now(UTC)
        certificate = sign_certificate(
            subject=subject,
            public_key=key.public_key(),
            issuer=issuer.certificate.subject if issuer else subject,
            issuer_key=issuer.key if issuer else key,
            not_before=now - timedelta(days=1),
            not_after=now + timedelta(days=days),
            extensions=extensions,
        )
        return cls(certificate, key)

    def issue(
        self,
        subject: x509.Name,
        public_key: CertificatePublicKeyTypes,
        extensions: Extensions,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> x509.Certificate:
        """Certify a key; without dates from an hour ago for a year."""
        now = datetime.now(UTC)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return sign_certificate(
            subject=subject,
            public_key=public_key,
            issuer=self.certificate.subject,
            issuer_key=self.key,
            not_before=not_before or now - timedelta(hours=1),
            not_after=not_after or now + timedelta(days=365),
            extensions=[*extensions, (identifier, False)],
        )

    def crl(
        self,
        serials: Iterable[int] = (),
        *,
        last_update: datetime | None = None,
        next_update: datetime | None = None,
    ) -> x509.CertificateRevocationList:
        """List the revoked serial numbers; without dates from an hour ago for 30 days."""
        now = datetime.now(UTC)
        last_update = last_update or now - timedelta(hours=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(last_update)
            .next_update(next_update or now + timedelta(days=30))
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(last_update)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256())

    def install(self, trust_dir: Path, *patterns: str) -> None:
        """Write certificate, an empty CRL and, unless there are no patterns, the signing policy."""
        stem = trust_dir / subject_hash(self.certificate.subject)
        pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        stem.with_suffix(".0").write_bytes(pem)
        self.publish_crl(trust_dir)
        if patterns:
            stem.with_suffix(".signing_policy").write_text(self.signing_policy(patterns), "utf-8")

    def signing_policy(self, patterns: Sequence[str]) -> str:
        """Return the text of the extended access control list that names whom this authority may sign."""
        quoted = " ".join(f'"{pattern}"' for pattern in patterns)
        return (
            f"access_id_CA  X509    '{dn.canonical(self.certificate.subject)}'\n"
            "pos_rights    globus  CA:sign\n"
            f"cond_subjects globus  '{quoted}'\n"
        )

    def publish_crl(self, trust_dir: Path, serials: Iterable[int] = ()) -> None:
        """Replace this authority's CRL in a trust directory."""
        path = trust_dir / f"{subject_hash(self.certificate.subject)}.r0"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(self.crl(serials).public_bytes(serialization.Encoding.PEM))
        fresh.replace(path)


def sign_certificate(
    *,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    issuer_key: Key,
    not_before: datetime,
    not_after: datetime,
    extensions: Extensions,
    serial: int | None = None,
) -> x509.Certificate:
    """Sign whatever is asked, sensible or not."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, signature_hash(issuer_key))


def signature_hash(key: Key) -> hashes.SHA256 | None:
    """Return what goes with a key: SHA-256, or nothing where the key's scheme has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def proxy_info(
    language: str, path_length: int | None = None, text: bytes | None = None
) -> x509.ExtensionType:
    """Build a proxyCertInfo extension (RFC 3820, 3.8)."""
    return x509.UnrecognizedExtension(PROXY_CERT_INFO, ProxyInfo(language, path_length, text).der())


def proxy_certificate(
    issuer: x509.Certificate,
    issuer_key: Key,
    public_key: CertificatePublicKeyTypes,
    *,
    language: str = INHERIT_ALL,
    path_length: int | None = None,
    not_before: datetime | None = None,
    lifetime_s: float = 43200,
    extensions: Extensions = (),
) -> x509.Certificate:
    """Sign an RFC 3820 proxy: the issuer's name and one more CN, a serial number."""
    serial = secrets.randbits(31) | 1
    own = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, str(serial))])
    now = datetime.now(UTC)
    end = min(now + timedelta(seconds=lifetime_s), issuer.not_valid_after_utc)
    standard = [  # GridSite, when it signs a proxy of this one, overlooks a proxyCertInfo that comes first
        (key_usage("digital_signature", "key_encipherment"), True),
        (proxy_info(language, path_length), True),
    ]
    return sign_certificate(
        subject=x509.Name([*issuer.subject.rdns, own]),
        public_key=public_key,
        issuer=issuer.subject,
        issuer_key=issuer_key,
        not_before=not_before or min(now, end) - _BACKDATED,
        not_after=end,
        extensions=[*standard, *extensions],
        serial=serial,
    )


def pem_key(key: Key) -> bytes:
    """Encode a private key without a password, in the form that the oldest client reads."""
    old = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL if old else serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_credential(path: Path, chain: Sequence[x509.Certificate], key: Key) -> None:
    """Write a proxy file: certificate, key, the rest of the chain; mode 0600."""
    pems = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain]
    write_private(path, b"".join([pems[0], pem_key(key), *pems[1:]]))


def read_credential(credential: Credential | HostCredential) -> tuple[list[x509.Certificate], Key]:
    """Read a chain and its key back."""
    key = serialization.load_pem_private_key(credential.key.read_bytes(), password=None)
    if not isinstance(key, Key):
        raise TypeError("a key that signs no certificates here")
    return x509.load_pem_x509_certificates(credential.certificate.read_bytes()), key


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(data)
