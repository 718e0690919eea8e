"""A throw-away virtual organisation: a VOMS server's certificate, its ``.lsc`` file, and what it signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asn1crypto import cms, core
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from srm_dicom.identity import dn
from srm_dicom.identity.attributecert import (
    ATTRIBUTE_CERTIFICATES,
    AUTHORITY_KEY_IDENTIFIER,
    FQANS,
    NO_REVOCATION,
    SIGNER_CERTIFICATES,
)
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.testing.certificates import Key, read_credential
from srm_dicom.testing.pki import TestPki

_SERVER = "voms.mdm.test"


@dataclass
class TestVo:
    """One virtual organisation of a `TestPki`; its ``.lsc`` is written below ``vomsdir``."""

    __test__ = False  # pytest: not a test class

    pki: TestPki
    name: str
    vomsdir: Path = field(init=False)
    server: HostCredential = field(init=False)

    def __post_init__(self) -> None:
        self.vomsdir = self.pki.directory / "vomsdir"
        self.server = self.pki.host(_SERVER)
        self.list_server(self.server)

    def list_server(self, server: HostCredential) -> None:
        """Name a server whose attribute certificates are this organisation's."""
        certificate = read_credential(server)[0][0]
        path = self.vomsdir / self.name / f"{_SERVER}.lsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{dn.canonical(certificate.subject)}\n{dn.canonical(certificate.issuer)}\n", "utf-8")

    def proxy(self, credential: Credential, *fqans: str, **options: Any) -> Credential:
        """Sign a proxy that carries these groups; `options` are those of `TestPki.proxy`."""
        attributes = extension([self.attributes(credential, *fqans)])
        return self.pki.proxy(credential, extensions=[(attributes, False)], **options)

    def attributes(self, credential: Credential, *fqans: str, **changes: Any) -> bytes:
        """Sign an attribute certificate; `changes` are other fields of a `Recipe`."""
        end_entity = self.pki.end_entity(credential)
        chain, key = read_credential(self.server)
        defaults: dict[str, Any] = {"uri": f"{self.name}://{_SERVER}:15000", "signer": chain[0], "key": key}
        return Recipe(end_entity, fqans, **(defaults | changes)).der()


def extension(certificates: Sequence[bytes]) -> x509.ExtensionType:
    """Pack attribute certificates into a proxy's extension."""
    inner = _sequence(b"".join(certificates))
    return x509.UnrecognizedExtension(ATTRIBUTE_CERTIFICATES, _sequence(inner))


def _sequence(content: bytes) -> bytes:
    return bytes(core.Sequence(contents=content).dump())


@dataclass(frozen=True)
class Recipe:
    """An attribute certificate to be signed, sensible or not; what is None is as it should be."""

    end_entity: x509.Certificate
    fqans: Sequence[str]
    uri: str
    signer: x509.Certificate
    key: Key
    embedded: Sequence[x509.Certificate] | None = None
    holder_issuer: x509.Name | None = None
    holder_serial: int | None = None
    issuer: x509.Name | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    extensions: Sequence[tuple[str, bool, bytes]] = ()
    hash_name: str = "sha256"
    outer_hash_name: str | None = None

    def der(self) -> bytes:
        """Sign it."""
        scheme = "ecdsa" if isinstance(self.key, ec.EllipticCurvePrivateKey) else "rsa"
        info = self._info({"algorithm": f"{self.hash_name}_{scheme}"})
        outer = f"{self.outer_hash_name or self.hash_name}_{scheme}"
        whole: Any = cms.AttributeCertificateV2(
            {
                "ac_info": info,
                "signature_algorithm": {"algorithm": outer},
                "signature": _sign(self.key, info.dump(), self.hash_name),
            }
        )
        return bytes(whole.dump())

    def _info(self, algorithm: dict[str, str]) -> Any:
        now = datetime.now(UTC).replace(microsecond=0)
        holder = {
            "issuer": [_directory_name(self.holder_issuer or self.end_entity.issuer)],
            "serial": self.holder_serial or self.end_entity.serial_number,
        }
        issuer = {"issuer_name": [_directory_name(self.issuer or self.signer.subject)]}
        return cms.AttributeCertificateInfoV2(
            {
                "version": "v2",
                "holder": {"base_certificate_id": holder},
                "issuer": cms.AttCertIssuer(name="v2_form", value=issuer),
                "signature": algorithm,
                "serial_number": x509.random_serial_number(),
                "att_cert_validity_period": {
                    "not_before_time": self.not_before or now - timedelta(minutes=5),
                    "not_after_time": self.not_after or now + timedelta(hours=12),
                },
                "attributes": [_groups(self.uri, self.fqans)],
                "extensions": self._extensions(),
            }
        )

    def _extensions(self) -> list[Any]:
        certificates = [self.signer] if self.embedded is None else self.embedded
        carried = _sequence(_sequence(b"".join(one.public_bytes(Encoding.DER) for one in certificates)))
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()).public_bytes()
        values = {
            NO_REVOCATION: core.Null().dump(),
            AUTHORITY_KEY_IDENTIFIER: key_id,
            SIGNER_CERTIFICATES: carried,
        }
        own = [(oid, False, value) for oid, value in values.items()]
        return [_extension(*fields) for fields in (*own, *self.extensions)]


def _extension(oid: str, critical: bool, value: bytes) -> Any:
    flag = core.Boolean(True).dump() if critical else b""
    der = core.ObjectIdentifier(oid).dump() + flag + core.OctetString(value).dump()
    return asn1.Extension.load(_sequence(der))


def _directory_name(name: x509.Name) -> asn1.GeneralName:
    return asn1.GeneralName(name="directory_name", value=asn1.Name.load(name.public_bytes()))


def _groups(uri: str, fqans: Sequence[str]) -> Any:
    syntax: Any = cms.IetfAttrSyntax(
        {
            "policy_authority": [asn1.GeneralName(name="uniform_resource_identifier", value=uri)],
            "values": [
                cms.IetfAttrValue(name="octets", value=core.OctetString(fqan.encode())) for fqan in fqans
            ],
        }
    )
    return {"type": FQANS, "values": [syntax]}


def _sign(key: Key, data: bytes, hash_name: str) -> bytes:
    algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}[hash_name]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(algorithm))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), algorithm)
    raise TypeError("attribute certificates are signed with RSA or EC keys")
