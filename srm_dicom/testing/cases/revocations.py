"""Revocation lists: what is on them, and lists that are not to be relied on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases.case import Case, Make, bad, good
from srm_dicom.testing.cases.workshop import (
    DAY,
    EVERYTHING,
    HOUR,
    Workshop,
    now,
)
from srm_dicom.testing.certificates import (
    Authority,
    new_ec_key,
    subject_hash,
)

Builder = x509.CertificateRevocationListBuilder
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def crl(change: Callable[[Builder], Builder] = lambda builder: builder, **dates: datetime) -> Make:
    """Replace the revocation list by another, and show a proxy."""

    def make(shop: Workshop) -> Credential:
        authority = shop.pki.authority
        builder = Builder(
            authority.certificate.subject,
            dates.get("last_update", now() - DAY),
            dates.get("next_update", now() + DAY),
        )
        signed = change(builder).sign(authority.key, hashes.SHA256())
        shop.crl_path().write_bytes(signed.public_bytes(Encoding.PEM))
        return shop.below(shop.alice())

    return make


def _point(**options: Any) -> Callable[[Builder], Builder]:
    fields: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    point = x509.IssuingDistributionPoint(**fields | options)
    return lambda builder: builder.add_extension(point, critical=True)


def _crl_file(change: Callable[[Workshop], bytes | None], suffix: str = ".r0") -> Make:
    def make(shop: Workshop) -> Credential:
        data, path = change(shop), shop.crl_path().with_suffix(suffix)
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        return shop.below(shop.alice())

    return make


def _listing_alice(shop: Workshop, reason: x509.ReasonFlags | None = None) -> x509.CertificateRevocationList:
    serial = shop.pki.end_entity(shop.alice()).serial_number
    entry = x509.RevokedCertificateBuilder(serial, now() - HOUR)
    if reason is not None:
        entry = entry.add_extension(x509.CRLReason(reason), critical=False)
    subject = shop.pki.authority.certificate.subject
    builder = Builder(subject, now() - HOUR, now() + DAY, revoked_certificates=[entry.build()])
    return builder.sign(shop.pki.authority.key, hashes.SHA256())


def _revoked_because(reason: x509.ReasonFlags | None) -> Make:
    return _crl_file(lambda shop: _listing_alice(shop, reason).public_bytes(Encoding.PEM))


def _revoked_itself(shop: Workshop) -> Credential:
    shop.pki.revoke(shop.alice())
    return shop.alice()


def _revoked_below(shop: Workshop) -> Credential:
    proxy = shop.below(shop.below(shop.alice()))
    shop.pki.revoke(shop.alice())
    return proxy


def _forged_crl(shop: Workshop) -> bytes:
    return Authority(shop.pki.authority.certificate, new_ec_key()).crl().public_bytes(Encoding.PEM)


def _revoked_subordinate(shop: Workshop) -> Credential:
    below = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority)
    shop.pki.authority.publish_crl(shop.trust_dir, [below.certificate.serial_number])
    return shop.below(shop.user("Alice", authority=below))


def _subordinate_without_crl(shop: Workshop) -> Credential:
    below = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority)
    (shop.trust_dir / f"{subject_hash(below.certificate.subject)}.r0").unlink()
    return shop.user("Alice", authority=below)


CASES: Mapping[str, Case] = {
    "another CRL": good(crl()),
    "revoked": bad(_revoked_itself, "CN=Alice: certificate revoked"),
    "proxy of a revoked user": bad(_revoked_below, "CN=Alice: certificate revoked"),
    "revoked for a lost key": bad(_revoked_because(x509.ReasonFlags.key_compromise), "revoked"),
    "on hold": bad(_revoked_because(x509.ReasonFlags.certificate_hold), "revoked"),
    "removed in a full list": bad(_revoked_because(x509.ReasonFlags.remove_from_crl), "revoked"),
    "revoked in a second list": bad(
        _crl_file(lambda shop: _listing_alice(shop).public_bytes(Encoding.PEM), ".r1"), "revoked"
    ),
    "revoked subordinate authority": bad(_revoked_subordinate, "revoked"),
    "no CRL": bad(_crl_file(lambda _: None), "unable to get certificate crl"),
    "subordinate authority without CRL": bad(_subordinate_without_crl, "unable to get certificate crl"),
    "stale CRL": bad(crl(last_update=now() - 9 * DAY, next_update=now() - DAY), "crl has expired"),
    "CRL of tomorrow": bad(crl(last_update=now() + DAY, next_update=now() + 2 * DAY), "crl is not yet valid"),
    "forged CRL": bad(_crl_file(_forged_crl), "crl signature failure"),
    "empty CRL file": bad(_crl_file(lambda _: b""), "unable to get certificate crl"),
    "indirect CRL": bad(crl(_point(indirect_crl=True)), "crl"),
    "CRL of authorities only": bad(crl(_point(only_contains_ca_certs=True)), "crl"),
    "CRL of users only": bad(crl(_point(only_contains_user_certs=True)), "crl"),
    "CRL for some reasons": bad(
        crl(_point(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}))), "crl"
    ),
    "delta CRL": bad(  # OpenSSL or we refuse it, each in other words
        crl(lambda builder: builder.add_extension(x509.DeltaCRLIndicator(3), critical=True))
    ),
    "CRL with an unknown critical extension": bad(
        crl(lambda builder: builder.add_extension(_UNKNOWN, critical=True)), "crl"
    ),
}
