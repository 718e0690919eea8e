"""The bench on which the cases are made: a throw-away PKI and tools that sign anything, sensible or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from asn1crypto import pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from srm_dicom.identity.credential import Credential
from srm_dicom.testing.certificates import (
    Authority,
    Key,
    key_usage,
    name_of,
    new_ec_key,
    pem_key,
    proxy_certificate,
    read_credential,
    sign_certificate,
    subject_hash,
    tlv,
    write_credential,
)
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo

BASE = (("DC", "test"), ("DC", "mdm"))
ALICE = "/DC=test/DC=mdm/CN=Alice"
EVERYTHING = "/DC=test/DC=mdm/*"
VO = "biomed.test"
HOST = "localhost"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
USER: Sequence[tuple[x509.ExtensionType, bool]] = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (key_usage("digital_signature", "key_encipherment"), True),
)
AUTHORITY: Sequence[tuple[x509.ExtensionType, bool]] = (
    (x509.BasicConstraints(ca=True, path_length=None), True),
    (key_usage("key_cert_sign", "crl_sign"), True),
)
SIGNS: tuple[x509.ExtensionType, bool] = (key_usage("digital_signature"), True)
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def now() -> datetime:
    """Return the time to the second, as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Workshop:
    """Makes credentials for one case.

    Attributes:
        pki: authority, trust directory, users.
        directory: for the files that are made.
        settings: other than default fields of `TrustSettings` that the case is about.
        key: draws the keys of users and proxies.
    """

    pki: TestPki
    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    key: Callable[[], Key] = new_ec_key
    _count: int = 0

    @classmethod
    def at(cls, directory: Path, *, fast: bool = True) -> Workshop:
        """Open one in an empty directory; `fast` with EC keys."""
        made = directory / "made"
        made.mkdir(parents=True)
        pki = TestPki(directory / "pki", fast=fast)
        return cls(pki, made, key=pki.new_key)

    @property
    def trust_dir(self) -> Path:
        """The directory of authorities."""
        return self.pki.trust_dir

    @cached_property
    def vo(self) -> TestVo:
        """The organisation whose groups are believed."""
        return TestVo(self.pki, VO)

    def crl_path(self) -> Path:
        """The revocation list of the authority."""
        return self.trust_dir / f"{subject_hash(self.pki.authority.certificate.subject)}.r0"

    def alice(self) -> Credential:
        """Return the ordinary user, certificate and key in one file."""
        return self.save(*read_credential(self.pki.user("Alice")))

    def save(self, chain: Sequence[x509.Certificate], key: Key) -> Credential:
        """Write a credential file."""
        path = self.new_path()
        write_credential(path, chain, key)
        return Credential(path, path, self.trust_dir)

    def save_bytes(self, data: bytes) -> Credential:
        """Write a file of any content."""
        path = self.new_path()
        path.write_bytes(data)
        return Credential(path, path, self.trust_dir)

    def new_path(self) -> Path:
        """Return a name for a file."""
        self._count += 1
        return self.directory / f"{self._count}.pem"

    def user(
        self,
        *common_names: str,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = USER,
        authority: Authority | None = None,
        key: Any = None,
        **options: Any,
    ) -> Credential:
        """Issue an end entity below the usual name."""
        return self.named(
            name_of(*BASE, *(("CN", name) for name in common_names or ("Alice",))),
            extensions,
            authority,
            key=key,
            **options,
        )

    def named(
        self,
        subject: x509.Name,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = USER,
        authority: Authority | None = None,
        *,
        key: Any = None,
        **options: Any,
    ) -> Credential:
        """Issue an end entity of any name; `options` are those of `sign_certificate`."""
        authority, key = authority or self.pki.authority, key or self.key()
        filled: dict[str, Any] = {
            "issuer": authority.certificate.subject,
            "not_before": now() - DAY,
            "not_after": now() + DAY,
        } | options
        certificate = sign_certificate(
            subject=subject,
            public_key=key.public_key(),
            issuer_key=authority.key,
            extensions=extensions,
            **filled,
        )
        above = [] if authority is self.pki.authority else [authority.certificate]
        return self.save([certificate, *above], key)

    def below(self, issuer: Credential, **options: Any) -> Credential:
        """Sign a proxy with options of `proxy_certificate`."""
        chain, issuer_key = read_credential(issuer)
        key = self.key()
        certificate = proxy_certificate(chain[0], issuer_key, key.public_key(), **options)
        return self.save([certificate, *chain], key)

    def forged(
        self,
        above: Credential,
        *extensions: tuple[x509.ExtensionType, bool],
        subject: x509.Name | None = None,
        issuer_key: Key | None = None,
        key: Any = None,
        **options: Any,
    ) -> Credential:
        """Sign a proxy of any shape."""
        chain, own_key = read_credential(above)
        key = key or self.key()
        own = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "12345")])
        filled: dict[str, Any] = {
            "issuer": chain[0].subject,
            "not_before": now() - DAY,
            "not_after": now() + DAY,
        } | options
        certificate = sign_certificate(
            subject=subject or x509.Name([*chain[0].subject.rdns, own]),
            public_key=key.public_key(),
            issuer_key=issuer_key or own_key,
            extensions=extensions,
            **filled,
        )
        return self.save([certificate, *chain], key)

    def authority(
        self,
        name: str,
        *patterns: str,
        install: bool = True,
        below: Authority | None = None,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = AUTHORITY,
        key: Any = None,
        **options: Any,
    ) -> Authority:
        """Make an authority of any shape, a root unless `below` another, and install it."""
        subject, key = name_of(*BASE, ("CN", name)), key or self.key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        filled: dict[str, Any] = {"not_before": now() - DAY, "not_after": now() + 365 * DAY} | options
        certificate = sign_certificate(
            subject=subject,
            public_key=key.public_key(),
            issuer=below.certificate.subject if below else subject,
            issuer_key=below.key if below else key,
            extensions=[*extensions, (identifier, False)],
            **filled,
        )
        made = Authority(certificate, key)
        if install:
            made.install(self.trust_dir, *patterns)
        return made

    def patched(self, credential: Credential, old: bytes, new: bytes) -> Credential:
        """Replace bytes in the leaf by as many others, and sign it again as its authority."""
        chain, key = read_credential(credential)
        leaf = pem.armor("CERTIFICATE", resigned(chain[0], self.pki.authority.key, old, new))
        return self.save_bytes(b"".join([leaf, pem_key(key), *map(pem_of, chain[1:])]))


def resigned(
    certificate: x509.Certificate,
    key: Key,
    old: bytes,
    new: bytes,
    hash_algorithm: Any = None,
    algorithm: bytes | None = None,
) -> bytes:
    """Return the DER of a certificate with other bytes in it, signed by `key`.

    Args:
        certificate: to be changed.
        key: of its issuer.
        old: what is replaced, wherever it stands.
        new: as many bytes.
        hash_algorithm: to sign with, SHA-256 by default.
        algorithm: DER of the algorithm identifier that goes with it.
    """
    is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
    usual = _ECDSA_SHA256 if is_ec else _RSA_SHA256
    algorithm, hash_algorithm = algorithm or usual, hash_algorithm or hashes.SHA256()
    signed = certificate.tbs_certificate_bytes
    if old not in signed or len(old) != len(new):
        raise ValueError("there is nothing to replace, or by something of another length")
    signed = signed.replace(old, new).replace(usual, algorithm)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed, padding.PKCS1v15(), hash_algorithm)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(signed, ec.ECDSA(hash_algorithm))
    else:
        raise TypeError("RSA and EC keys only")
    return tlv(0x30, signed + algorithm + tlv(0x03, b"\0" + signature))


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)
