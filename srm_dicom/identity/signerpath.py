"""The path of a certificate that no handshake has seen, that of a VOMS server, or that nobody tells of.

OpenSSL's verification is behind `ssl` only, so this is done here, for the plain case: end entity,
authorities, root in the trust directory; signatures, dates, CA flags, path lengths, revocation and signing
policy at each step. Names compare by value: two authorities may encode the same string differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import dn
from srm_dicom.identity.trust import Trust

_MAX_STEPS = 8
_STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})
_MIN_RSA_BITS = 2048
_MIN_EC_BITS = 256
_EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)  # which bring a hash of their own
_KEYS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, *_EDWARDS)


def validate(
    signer: x509.Certificate,
    others: Sequence[x509.Certificate],
    trust: Trust,
    now: datetime,
    *,
    crl_required: bool = True,
) -> tuple[x509.Certificate, ...]:
    """Follow a certificate up to the trust directory; returns the authorities, the root last.

    Args:
        signer: the end entity.
        others: subordinate authorities that came with it.
        trust: roots, CRLs and signing policies.
        now: the present time.
        crl_required: refuse where an authority has no revocation list at all.

    Raises:
        NotAuthenticated: naming the certificate and the reason.
    """
    current, path = signer, list[x509.Certificate]()
    for depth in range(_MAX_STEPS):
        _check_itself(current, now)
        if current.issuer == current.subject:
            if depth == 0 or not trust.is_anchor(current):
                raise _refused(current, "not an authority that is trusted here")
            return tuple(path)
        issuer = _issuer(current, others, trust, depth)
        trust.policies.check(dn.canonical(issuer.subject), dn.canonical(current.subject))
        trust.revocations.check(current, issuer, now, required=crl_required)
        path.append(issuer)
        current = issuer
    raise _refused(signer, "too many authorities above it")


def _check_itself(certificate: x509.Certificate, now: datetime) -> None:
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise _refused(certificate, "not valid now")
    key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise _refused(certificate, "its key is too short")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _MIN_EC_BITS:
        raise _refused(certificate, "its key is too short")
    if not isinstance(key, _KEYS):
        raise _refused(certificate, "its key is neither RSA, EC nor Edwards")
    root = certificate.issuer == certificate.subject
    if not root and algorithm is not None and algorithm.name not in _STRONG_HASHES:
        raise _refused(certificate, "signed with a weak hash")


def _issuer(
    certificate: x509.Certificate, others: Sequence[x509.Certificate], trust: Trust, depth: int
) -> x509.Certificate:
    known = trust.authorities.get(certificate.issuer, [])
    for candidate in (*known, *(other for other in others if other.subject == certificate.issuer)):
        if has_signed(candidate, certificate) and _may_certify(candidate, depth):
            return candidate
    raise _refused(certificate, "its issuer is not known here")


def has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Say whether a certificate bears the signature of another one's key; names are not looked at."""
    key, parameters = authority.public_key(), certificate.signature_algorithm_parameters
    signed, hash_algorithm = certificate.tbs_certificate_bytes, certificate.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(certificate.signature, signed, parameters)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, AsymmetricPadding):
            key.verify(certificate.signature, signed, parameters, hash_algorithm)  # type: ignore[arg-type]
        elif isinstance(key, _EDWARDS):
            key.verify(certificate.signature, signed)
        else:
            return False
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _may_certify(authority: x509.Certificate, authorities_below: int) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            return False
        if constraints.path_length is not None and constraints.path_length < authorities_below:
            return False
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as error:
        return error.oid == x509.KeyUsage.oid


def _refused(certificate: x509.Certificate, reason: str) -> NotAuthenticated:
    return NotAuthenticated(f"{dn.printable(certificate.subject)}: {reason}")
