"""VOMS: which groups and roles of which virtual organisation a caller has.

A proxy may carry attribute certificates. One that passes every check below adds its FQANs; one that
fails any of them adds nothing and leaves a note that says why. Whether it also costs the caller the login
is a setting of the gate: no ACL denies by group, so losing attributes can only lose rights.

The order of the checks: holder is our end entity; valid now; for this host; from a server that the
organisation's ``.lsc`` files name, with a path to the trust directory; signed by that server. The name of
the organisation and that all groups are its own has been checked by `attributecert.parse`.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import attributecert, dn, signerpath
from srm_dicom.identity.attributecert import ATTRIBUTE_CERTIFICATES, AttributeCertificate
from srm_dicom.identity.chain import MALFORMED, Standing
from srm_dicom.identity.trust import Trust

_UNREADABLE = (
    *MALFORMED,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    UnsupportedAlgorithm,
    InvalidRequest,
    OSError,
)
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_ASN1_NAME: Any = asn1.Name  # asn1crypto has no annotations
_REMEMBERED = timedelta(seconds=20)
_MOST_REMEMBERED = 1000
_NEXT_CHAIN = re.compile(r"^-+\s*NEXT CHAIN\s*-+\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Attributes:
    """The outcome: groups in the order of the credential, when they end, and what was dropped."""

    fqans: tuple[str, ...] = ()
    expires: datetime | None = None
    notes: tuple[str, ...] = ()


class Memory:
    """Attribute certificates that were good a moment ago: users log in again and again with the same.

    What is remembered holds for one state of the trust directory, for twenty seconds, and never
    beyond the end of the attribute certificate itself.
    """

    def __init__(self) -> None:
        self._good: dict[tuple[bytes, x509.Certificate], tuple[Trust, datetime, AttributeCertificate]] = {}

    def recall(
        self, der: bytes, end_entity: x509.Certificate, trust: Trust, now: datetime
    ) -> AttributeCertificate | None:
        """Return what was found good, if that still holds."""
        state, since, certificate = self._good.get((der, end_entity), (None, now, None))
        if certificate is None or state is not trust or not since <= now < since + _REMEMBERED:
            return None
        return certificate if certificate.not_before <= now < certificate.not_after else None

    def keep(
        self,
        der: bytes,
        end_entity: x509.Certificate,
        trust: Trust,
        now: datetime,
        certificate: AttributeCertificate,
    ) -> None:
        """Remember what was found good."""
        if len(self._good) >= _MOST_REMEMBERED:
            self._good.clear()
        self._good[der, end_entity] = (trust, now, certificate)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Everything that attribute certificates are checked against.

    Attributes:
        vomsdir: directory of ``<vo>/<host>.lsc``.
        trust: roots, CRLs and signing policies.
        hosts: names of this server, lower case, for restricted certificates.
        now: the present time.
        crl_required: refuse servers of an authority without any revocation list.
        memory: shared by the verifiers of one gate.
    """

    vomsdir: Path
    trust: Trust
    hosts: AbstractSet[str]
    now: datetime
    crl_required: bool = True
    memory: Memory = field(default_factory=Memory)

    def attributes(self, standing: Standing) -> Attributes:
        """Collect the groups of a caller, from the first certificate that has any, leaf first."""
        for certificate in (*standing.proxies, standing.end_entity):
            try:
                extension = certificate.extensions.get_extension_for_oid(ATTRIBUTE_CERTIFICATES)
            except x509.ExtensionNotFound:
                continue
            return self._collect(extension.value.public_bytes(), standing.end_entity)
        return Attributes()

    def _collect(self, extension: bytes, end_entity: x509.Certificate) -> Attributes:
        fqans: dict[str, None] = {}
        ends: list[datetime] = []
        notes: list[str] = []
        try:
            ders = attributecert.split(extension)
        except _UNREADABLE:
            return Attributes(notes=("the VOMS extension is malformed",))
        for number, der in enumerate(ders, start=1):
            try:
                certificate = self.verify(der, end_entity)
            except NotAuthenticated as error:
                notes.append(f"VOMS attribute certificate {number}: {error.message}")
                continue
            fqans.update(dict.fromkeys(certificate.fqans))
            ends.append(certificate.not_after)
        return Attributes(tuple(fqans), min(ends, default=None), tuple(notes))

    def verify(self, der: bytes, end_entity: x509.Certificate) -> AttributeCertificate:
        """Check one attribute certificate.

        Raises:
            NotAuthenticated: with the first check that failed.
        """
        known = self.memory.recall(der, end_entity, self.trust, self.now)
        if known is not None:
            return known
        try:
            certificate = attributecert.parse(der)
            self._check(certificate, end_entity)
        except _UNREADABLE as error:
            raise NotAuthenticated(f"malformed: {ascii(str(error))[1:-1][:200]}") from error
        self.memory.keep(der, end_entity, self.trust, self.now, certificate)
        return certificate

    def _check(self, certificate: AttributeCertificate, end_entity: x509.Certificate) -> None:
        if not _same_name(certificate.holder_issuer, end_entity.issuer):
            raise NotAuthenticated("made for somebody of another authority")
        if certificate.holder_serial != end_entity.serial_number:
            raise NotAuthenticated("made for another certificate")
        if not certificate.not_before <= self.now < certificate.not_after:
            raise NotAuthenticated("not valid now")
        if certificate.targets is not None and self.hosts.isdisjoint(certificate.targets):
            raise NotAuthenticated("restricted to other hosts")
        if not certificate.signers:
            raise NotAuthenticated("without the certificate of its server")
        signer, *others = certificate.signers
        if not _same_name(certificate.issuer, signer.subject):
            raise NotAuthenticated("its issuer is not the server whose certificate it brings")
        signerpath.validate(signer, others, self.trust, self.now, crl_required=self.crl_required)
        self._check_listed(signer, certificate.vo)
        _check_signature(certificate, signer)

    def _check_listed(self, signer: x509.Certificate, vo: str) -> None:
        """Hold the organisation's ``.lsc`` files: line pairs of a server's subject and issuer."""
        wanted = [dn.canonical(signer.subject), dn.canonical(signer.issuer)]
        for path in sorted((self.vomsdir / vo).glob("*.lsc")):
            for block in _NEXT_CHAIN.split(path.read_text("utf-8")):
                if _first_pair(block) == wanted:
                    return
        raise NotAuthenticated(f"{wanted[0]} is not a server of {vo} here")


def _first_pair(block: str) -> list[str]:
    """Return the first two names of a block; a block that cannot be read names nobody."""
    lines = (line.strip() for line in block.splitlines())
    try:
        return [dn.normalise(line) for line in lines if line and not line.startswith("#")][:2]
    except InvalidRequest:
        return []


def _same_name(name: Any, other: x509.Name) -> bool:
    """Compare as RFC 5280, 7.1 says; VOMS servers in Java encode names anew.

    Mostly the same bytes stand below the tag that a name has in its place, and preparing strings is slow.
    """
    encoded = other.public_bytes()
    return bool(name.chosen.dump() == encoded or name == _ASN1_NAME.load(encoded))


def _check_signature(certificate: AttributeCertificate, signer: x509.Certificate) -> None:
    scheme, hash_name = certificate.algorithm
    algorithm, key = _HASHES.get(hash_name), signer.public_key()
    if algorithm is None:
        raise NotAuthenticated(f"signed with the weak hash {hash_name}")
    try:
        usage = signer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.digital_signature:
            raise NotAuthenticated("its server's certificate is not for signing")
    except x509.ExtensionNotFound:
        pass
    try:
        if isinstance(key, rsa.RSAPublicKey) and scheme == "rsassa_pkcs1v15":
            key.verify(certificate.signature, certificate.signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and scheme == "ecdsa":
            key.verify(certificate.signature, certificate.signed, ec.ECDSA(algorithm))
        else:
            raise NotAuthenticated(f"signed with {scheme}, which its server's key does not make")
    except InvalidSignature as error:
        raise NotAuthenticated("the signature is wrong") from error
