"""Reading a VOMS attribute certificate (RFC 5755) into plain values. Pure; nothing is believed here.

Attribute certificates are put into a proxy by its owner, so every byte may have been written by an
attacker: sizes are bounded, the DER has to be complete, names of organisations and groups are checked
against their grammar before anybody uses them in a comparison or a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asn1crypto import cms, core, parser
from cryptography import x509

ATTRIBUTE_CERTIFICATES = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
FQANS = "1.3.6.1.4.1.8005.100.100.4"
SIGNER_CERTIFICATES = "1.3.6.1.4.1.8005.100.100.10"
GENERIC_ATTRIBUTES = "1.3.6.1.4.1.8005.100.100.11"
TARGETS = "2.5.29.55"
NO_REVOCATION = "2.5.29.56"
AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"

MAX_BYTES = 64 * 1024
MAX_CERTIFICATES = 8
MAX_FQANS = 1000
_MAX_NESTING = 12
_KNOWN = frozenset(
    {SIGNER_CERTIFICATES, GENERIC_ATTRIBUTES, TARGETS, NO_REVOCATION, AUTHORITY_KEY_IDENTIFIER}
)
_VO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_WORD = r"[A-Za-z0-9_.-]+"
_FQAN = re.compile(
    rf"(?P<group>(?:/{_WORD})+?)(?P<role>/Role={_WORD})?(?P<capability>/Capability={_WORD})?\Z"
)


class _Certificates(core.SequenceOf):
    _child_spec = core.Any


class _CertificateLists(core.SequenceOf):
    _child_spec = _Certificates


_LISTS: Any = _CertificateLists  # asn1crypto has no annotations


@dataclass(frozen=True, slots=True)
class AttributeCertificate:
    """What an attribute certificate says.

    Attributes:
        holder_issuer: name of the authority of the person whom it is about (an asn1crypto Name).
        holder_serial: serial number of that person's certificate.
        issuer: name of the VOMS server (an asn1crypto Name).
        not_before: start of validity.
        not_after: end of validity.
        vo: the one virtual organisation that it speaks for.
        fqans: groups and roles of that organisation, in order.
        signers: embedded certificates of the server, its own first.
        targets: hosts that it is restricted to; None for no restriction.
        algorithm: signature scheme and hash, e.g. ``("rsassa_pkcs1v15", "sha256")``.
        signed: the bytes that are signed.
        signature: the signature.
    """

    holder_issuer: Any
    holder_serial: int
    issuer: Any
    not_before: datetime
    not_after: datetime
    vo: str
    fqans: tuple[str, ...]
    signers: tuple[x509.Certificate, ...]
    targets: tuple[str, ...] | None
    algorithm: tuple[str, str]
    signed: bytes
    signature: bytes


def split(extension: bytes) -> list[bytes]:
    """Take the attribute certificates out of a proxy's extension, a sequence of sequences.

    Raises:
        ValueError: not DER, too large, or too many.
    """
    found = _nested(extension)
    if not found:
        raise ValueError("the extension has no attribute certificate")
    return found


def _nested(der: bytes) -> list[bytes]:
    if len(der) > MAX_BYTES:
        raise ValueError("too large")
    found = [bytes(one.dump()) for many in _LISTS.load(der, strict=True) for one in many]
    if len(found) > MAX_CERTIFICATES:
        raise ValueError("too many certificates")
    return found


def parse(der: bytes) -> AttributeCertificate:
    """Read one attribute certificate.

    Raises:
        ValueError: it is malformed, or says what it may not say.
        TypeError, KeyError, IndexError, AttributeError: asn1crypto's, for other kinds of malformed.
    """
    certificate: Any = cms.AttributeCertificateV2.load(der, strict=True)
    info = certificate["ac_info"]
    algorithm = certificate["signature_algorithm"]
    if algorithm.dump() != info["signature"].dump():
        raise ValueError("inner and outer signature algorithm differ")
    holder = info["holder"]["base_certificate_id"]
    if holder.native is None:
        raise ValueError("no holder")
    validity = info["att_cert_validity_period"]
    vo, fqans = _attributes(info["attributes"])
    extensions = _extensions(info["extensions"])
    signers = _nested(extensions[SIGNER_CERTIFICATES]) if SIGNER_CERTIFICATES in extensions else []
    return AttributeCertificate(
        holder_issuer=_directory_name(holder["issuer"]),
        holder_serial=holder["serial"].native,
        issuer=_directory_name(_issuer_names(info["issuer"])),
        not_before=validity["not_before_time"].native,
        not_after=validity["not_after_time"].native,
        vo=vo,
        fqans=fqans,
        signers=tuple(map(x509.load_der_x509_certificate, signers)),
        targets=tuple(_hosts(extensions[TARGETS])) if TARGETS in extensions else None,
        algorithm=(algorithm.signature_algo, algorithm.hash_algo),
        signed=info.dump(),
        signature=certificate["signature"].native,
    )


def _issuer_names(issuer: Any) -> Any:
    return issuer.chosen["issuer_name"] if issuer.name == "v2_form" else issuer.chosen


def _directory_name(names: Any) -> Any:
    if len(names) != 1 or names[0].name != "directory_name":
        raise ValueError("a holder or issuer is not one directory name")
    return names[0].chosen


def _extensions(extensions: Any) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for extension in extensions:
        oid = extension["extn_id"].dotted
        if oid in found:
            raise ValueError(f"extension {oid} twice")
        if extension["critical"].native and oid not in _KNOWN:
            raise ValueError(f"unknown critical extension {oid}")
        found[oid] = bytes(extension["extn_value"])
    return found


def _attributes(attributes: Any) -> tuple[str, tuple[str, ...]]:
    organisations: set[str] = set()
    fqans: list[str] = []
    for attribute in attributes:
        if attribute["type"].dotted != FQANS:
            continue
        for value in attribute["values"]:
            syntax: Any = cms.IetfAttrSyntax.load(value.dump())
            (name,) = syntax["policy_authority"]
            organisations.add(_organisation(name))
            fqans.extend(_text(one) for one in syntax["values"])
    if len(organisations) != 1:
        raise ValueError("not exactly one virtual organisation")
    if len(fqans) > MAX_FQANS:
        raise ValueError(f"more than {MAX_FQANS} groups")
    vo = organisations.pop()
    return vo, tuple(_fqan(text, vo) for text in fqans)


def _organisation(name: Any) -> str:
    vo, separator, _ = name.native.partition("://")
    if not separator or not _VO.match(vo):
        raise ValueError("not the name of a virtual organisation")
    return str(vo)


def _text(value: Any) -> str:
    native = value.native
    return native.decode("ascii") if isinstance(native, bytes) else str(native)


def _fqan(text: str, vo: str) -> str:
    match = _FQAN.match(text)
    if match is None or len(text) > 1024:
        raise ValueError("a group is not written like one")
    if match["group"].split("/")[1] != vo:
        raise ValueError(f"{vo} names a group of another virtual organisation")
    role = match["role"] if match["role"] != "/Role=NULL" else None
    capability = match["capability"] if match["capability"] != "/Capability=NULL" else None
    return match["group"] + (role or "") + (capability or "")


def _hosts(der: bytes, depth: int = 0) -> Iterator[str]:
    """Yield the hosts of a target list; RFC 5755 and the VOMS C API nest them at different depths."""
    if depth > _MAX_NESTING:
        raise ValueError("targets are nested too deep")
    while der:
        class_, method, tag, header, body, trailer = parser.parse(der)
        if method:
            yield from _hosts(body, depth + 1)
        elif class_ == 2 and tag in (2, 6):
            yield body.decode("ascii").rpartition("://")[2].partition("/")[0].partition(":")[0].lower()
        der = der[len(header) + len(body) + len(trailer) :]
