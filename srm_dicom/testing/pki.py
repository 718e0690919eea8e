"""A throw-away public key infrastructure: an authority, users, hosts and RFC 3820 proxies.

What it writes is what real grid clients read: a trust directory with ``<hash>.0``,
``<hash>.signing_policy`` and ``<hash>.r0``, users' certificate and key files, and proxies as one PEM file
of mode 0600.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from srm_dicom.identity import dn
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.identity.proxyinfo import INHERIT_ALL, LIMITED
from srm_dicom.testing.certificates import (
    Authority,
    Extensions,
    Key,
    key_usage,
    name_of,
    new_ec_key,
    new_rsa_key,
    pem_key,
    proxy_certificate,
    read_credential,
    subject_hash,
    write_credential,
    write_private,
)

_NAMESPACE = (("DC", "test"), ("DC", "mdm"))

GFAL_PYTHON = str(Path(__file__).with_name("gfal_python.py"))


@dataclass
class TestPki:
    """A directory with one authority, its trust directory, and whatever it is asked to issue.

    Opening a directory again continues it: same authority, same revocations. `fast` draws EC keys,
    for tests that start no foreign client.
    """

    __test__ = False  # pytest: not a test class

    directory: Path
    fast: bool = False
    trust_dir: Path = field(init=False)
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.trust_dir = self.directory / "certificates"
        self._issued = self.directory / "issued"
        self._proxies = itertools.count(1)
        for directory in (self.directory, self.trust_dir, self._issued, self.directory / "ca"):
            directory.mkdir(parents=True, exist_ok=True)
        certificate, key = self.directory / "ca" / "cert.pem", self.directory / "ca" / "key.pem"
        if certificate.exists():
            chain, loaded = read_credential(HostCredential(certificate, key))
            self.authority = Authority(chain[0], loaded)
            return
        self.authority = Authority.create(name_of(*_NAMESPACE, ("CN", "MDM Test CA")), key=self.new_key())
        self.authority.install(self.trust_dir, "/DC=test/DC=mdm/*")
        write_private(key, pem_key(self.authority.key))
        certificate.write_bytes(self.authority.certificate.public_bytes(serialization.Encoding.PEM))

    def new_key(self) -> Key:
        """Draw a key of this directory's kind."""
        return new_ec_key() if self.fast else new_rsa_key()

    def user(self, name: str) -> Credential:
        """Issue an end-entity certificate for ``/DC=test/DC=mdm/CN=<name>``, or return the one there is."""
        certificate, key = self._paths(f"user-{name}")
        if not certificate.exists():
            extensions = [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage("digital_signature", "key_encipherment"), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            ]
            self._issue(name, extensions, certificate, key)
        return Credential(certificate, key, self.trust_dir)

    def host(self, name: str = "localhost") -> HostCredential:
        """Issue a host certificate, good for loopback and for the machine's own name as well."""
        certificate, key = self._paths(f"host-{name}")
        if not certificate.exists():
            hosts = dict.fromkeys((name, "localhost", socket.gethostname(), socket.getfqdn()))
            addresses = map(ipaddress.ip_address, ("127.0.0.1", "127.0.0.2", "::1"))
            alternatives = [*map(x509.DNSName, hosts), *map(x509.IPAddress, addresses)]
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            extensions: list[tuple[x509.ExtensionType, bool]] = [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage("digital_signature", "key_encipherment"), True),
                (x509.ExtendedKeyUsage(usages), False),
                (x509.SubjectAlternativeName(alternatives), False),
            ]
            self._issue(name, extensions, certificate, key)
        return HostCredential(certificate, key)

    def proxy(
        self,
        credential: Credential,
        *,
        limited: bool = False,
        lifetime_s: float = 43200,
        path_length: int | None = None,
        extensions: Extensions = (),
    ) -> Credential:
        """Sign an RFC 3820 proxy with a user's certificate or with another proxy."""
        chain, issuer_key = read_credential(credential)
        key = self.new_key()
        certificate = proxy_certificate(
            chain[0],
            issuer_key,
            key.public_key(),
            language=LIMITED if limited else INHERIT_ALL,
            path_length=path_length,
            lifetime_s=lifetime_s,
            extensions=extensions,
        )
        stem = credential.certificate.stem.removesuffix("-cert")
        path = next(
            path
            for number in self._proxies
            if not (path := self._issued / f"{stem}-proxy{number}.pem").exists()
        )
        write_credential(path, [certificate, *chain], key)
        return Credential(path, path, self.trust_dir)

    def revoke(self, credential: Credential | HostCredential) -> None:
        """Put the end-entity certificate of a credential on a fresh CRL."""
        path = self.trust_dir / f"{subject_hash(self.authority.certificate.subject)}.r0"
        known = [entry.serial_number for entry in x509.load_pem_x509_crl(path.read_bytes())]
        self.authority.publish_crl(self.trust_dir, [*known, self.end_entity(credential).serial_number])

    def dn(self, credential: Credential | HostCredential) -> str:
        """Return the canonical name of the person or host, never that of a proxy."""
        return dn.canonical(self.end_entity(credential).subject)

    def environment(self, credential: Credential) -> dict[str, str]:
        """Return the variables that make a grid client use this credential."""
        variables = {"X509_CERT_DIR": str(self.trust_dir), "GFAL_PYTHONBIN": GFAL_PYTHON}
        if credential.certificate == credential.key:
            variables["X509_USER_PROXY"] = str(credential.certificate)
        variables["X509_USER_CERT"] = str(credential.certificate)
        variables["X509_USER_KEY"] = str(credential.key)
        return variables

    def _paths(self, stem: str) -> tuple[Path, Path]:
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem)
        return self._issued / f"{safe}-cert.pem", self._issued / f"{safe}-key.pem"

    def _issue(
        self,
        common_name: str,
        extensions: Extensions,
        certificate: Path,
        key_path: Path,
    ) -> None:
        key = self.new_key()
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        subject = name_of(*_NAMESPACE, ("CN", common_name))
        issued = self.authority.issue(subject, key.public_key(), [*extensions, (own, False)])
        write_private(key_path, pem_key(key))
        certificate.write_bytes(issued.public_bytes(serialization.Encoding.PEM))

    def end_entity(self, credential: Credential | HostCredential) -> x509.Certificate:
        """Return the certificate of the person or host below whatever proxies there are."""
        chain, _ = read_credential(credential)
        issuer = self.authority.certificate.subject
        return next((certificate for certificate in chain if certificate.issuer == issuer), chain[-1])
