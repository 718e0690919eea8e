"""Rows of proxies by RFC 3820, and everything that only looks like one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from srm_dicom.identity.credential import Credential
from srm_dicom.identity.proxyinfo import (
    DRAFT_PROXY_CERT_INFO,
    INDEPENDENT,
    INHERIT_ALL,
    LIMITED,
    PROXY_CERT_INFO,
    ProxyInfo,
)
from srm_dicom.testing.cases.case import Case, Make, bad, good
from srm_dicom.testing.cases.workshop import BASE, DAY, HOUR, SIGNS, USER, Workshop, now, resigned
from srm_dicom.testing.certificates import (
    key_usage,
    name_of,
    new_ec_key,
    new_rsa_key,
    proxy_info,
    read_credential,
)

ANY_LANGUAGE = "1.3.6.1.5.5.7.21.0"
FULL = (proxy_info(INHERIT_ALL), True)


def row(*options: dict[str, Any]) -> Make:
    """Sign one proxy below the other, from the user on, each with options of `proxy_certificate`."""

    def make(shop: Workshop) -> Credential:
        credential = shop.alice()
        for one in options:
            credential = shop.below(credential, **one)
        return credential

    return make


def of_info(info: ProxyInfo, *, critical: bool = True) -> Make:
    """Sign a proxy that says this about itself."""
    return of_value(info.der(), critical=critical)


def of_value(value: bytes, *, critical: bool = True) -> Make:
    """Sign a proxy whose proxyCertInfo has this value."""
    extension = x509.UnrecognizedExtension(PROXY_CERT_INFO, value)
    return lambda shop: shop.forged(shop.alice(), (extension, critical), SIGNS)


def shaped(*extensions: tuple[x509.ExtensionType, bool], **options: Any) -> Make:
    """Sign a full proxy with more extensions, another subject, other dates."""
    return lambda shop: shop.forged(shop.alice(), FULL, *(extensions or (SIGNS,)), **options)


def misnamed(*components: tuple[str, str]) -> Make:
    """Sign a proxy of another name."""
    return shaped(subject=name_of(*BASE, *components))


def _old_style(kind: str) -> Make:
    def make(shop: Workshop) -> Credential:
        chain, _ = read_credential(shop.alice())
        subject = x509.Name([*chain[0].subject.rdns, *name_of(("CN", kind)).rdns])
        return shop.forged(shop.alice(), SIGNS, subject=subject)

    return make


def _draft(*, critical: bool) -> Make:
    extension = x509.UnrecognizedExtension(DRAFT_PROXY_CERT_INFO, ProxyInfo(INHERIT_ALL).der())
    return lambda shop: shop.forged(shop.alice(), (extension, critical), SIGNS)


def _draft_end_entity(shop: Workshop) -> Credential:
    draft = x509.UnrecognizedExtension(DRAFT_PROXY_CERT_INFO, b"\x30\x00")
    return shop.user("Alice", extensions=[*USER, (draft, False)])


def _by_encipherment_only(shop: Workshop) -> Credential:
    return shop.below(shop.forged(shop.alice(), FULL, (key_usage("key_encipherment"), True)))


def _by_user_without_signature(shop: Workshop) -> Credential:
    only = (key_usage("key_agreement"), True)
    return shop.below(shop.user("Alice", extensions=[USER[0], only]))


def _of_old_style(shop: Workshop) -> Credential:
    return shop.below(_old_style("proxy")(shop))


def _of_expired_user(shop: Workshop) -> Credential:
    return shop.forged(shop.user("Late", not_after=now() - HOUR), FULL, SIGNS)


def _below_expired_proxy(shop: Workshop) -> Credential:
    late = shop.forged(shop.alice(), FULL, SIGNS, not_after=now() - HOUR)
    return shop.forged(late, FULL, SIGNS)


def _by_other_user(shop: Workshop) -> Credential:
    _, key = read_credential(shop.pki.user("Mallory"))
    return shop.forged(shop.alice(), FULL, SIGNS, issuer_key=key)


def _chain(*order: int, root: bool = False) -> Make:
    """Send the certificates of two proxies in another order, or not all, or more often."""

    def make(shop: Workshop) -> Credential:
        chain, key = read_credential(row({}, {})(shop))
        chosen = [chain[index] for index in order]
        return shop.save([*chosen, shop.pki.authority.certificate] if root else chosen, key)

    return make


def _with_stranger(shop: Workshop) -> Credential:
    chain, key = read_credential(row({})(shop))
    return shop.save([*chain, read_credential(shop.pki.user("Bob"))[0][0]], key)


def _end_entity_is_proxy(shop: Workshop) -> Credential:
    """Have the authority itself issue what calls itself a proxy."""
    return shop.user("Alice", extensions=[FULL, SIGNS])


def _weak(shop: Workshop) -> Credential:
    return shop.forged(shop.alice(), FULL, SIGNS, key=rsa.generate_private_key(65537, 1024))


def _of_subordinate(shop: Workshop) -> Credential:
    below = shop.authority("Sub CA", "/DC=test/DC=mdm/*", below=shop.pki.authority)
    return shop.below(shop.below(shop.user("Alice", authority=below)))


def _serial_of_issuer(shop: Workshop) -> Credential:
    alice = shop.alice()
    return shop.forged(alice, FULL, SIGNS, serial=read_credential(alice)[0][0].serial_number)


def _longer_hash(shop: Workshop) -> Credential:
    proxy = shop.forged(shop.alice(), FULL, SIGNS)
    chain, key = read_credential(proxy)
    issuer_key = read_credential(shop.pki.user("Alice"))[1]
    sha384 = bytes.fromhex("300a06082a8648ce3d040303")
    der = resigned(chain[0], issuer_key, b"12345", b"12345", hashes.SHA384(), sha384)
    return shop.save([x509.load_der_x509_certificate(der), *chain[1:]], key)


def _of_ed25519(shop: Workshop) -> Credential:
    return shop.below(shop.user("Alice", key=ed25519.Ed25519PrivateKey.generate()))


def _mixed(shop: Workshop) -> Credential:
    shop.key = new_rsa_key
    of_rsa = shop.user("Alice")
    shop.key = new_ec_key
    return shop.below(of_rsa)


_FULL: dict[str, Any] = {}
_LIMITED: dict[str, Any] = {"language": LIMITED}
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

CASES: Mapping[str, Case] = {
    "one": good(row(_FULL)),
    "two": good(row(_FULL, _FULL)),
    "ten": good(row(*[_FULL] * 10)),
    "limited": good(row(_LIMITED), limited=True),
    "full below limited inherits the limit": good(row(_LIMITED, _FULL), limited=True),
    "limited below full": good(row(_FULL, _LIMITED), limited=True),
    "limited below limited": good(row(_LIMITED, _LIMITED), limited=True),
    "path length 0, nothing below": good(row({"path_length": 0})),
    "path length 1, one below": good(row({"path_length": 1}, _FULL)),
    "path length 2, then 1, then 0": good(row({"path_length": 2}, {"path_length": 1}, {"path_length": 0})),
    "limited with a path length": good(row({"language": LIMITED, "path_length": 3}), limited=True),
    "path length of 31 bits": good(row({"path_length": 2**31 - 1}, _FULL)),
    "ten, the last limited": good(row(*[_FULL] * 9, _LIMITED), limited=True),
    "of a subordinate authority's user, with groups below": good(_of_subordinate),
    "without key encipherment": good(shaped(SIGNS)),
    "basic constraints of an end entity": good(shaped(SIGNS, (x509.BasicConstraints(False, None), True))),
    "serial number of its issuer": good(_serial_of_issuer),
    "signed with SHA-384": good(_longer_hash),
    "named by letters": good(misnamed(("CN", "Alice"), ("CN", "portal"))),
    "named like its issuer's last CN": good(misnamed(("CN", "Alice"), ("CN", "Alice"))),
    "no keyUsage": good(lambda shop: shop.forged(shop.alice(), FULL)),
    "lives longer than its user": good(shaped(not_after=now() + 3 * 365 * DAY)),
    "unknown extension, not critical": good(shaped(SIGNS, (_UNKNOWN, False))),
    "EC proxy of an RSA user": good(_mixed),
    "of an Ed25519 user": good(_of_ed25519),
    "chain in another order": good(_chain(0, 2, 1)),
    "chain with doubles": good(_chain(0, 1, 1, 2, 2)),
    "chain with the root": good(_chain(0, 1, 2, root=True)),
    "chain with a stranger": good(_with_stranger),
    "without its user": bad(_chain(0, 1), "local issuer"),
    "without the proxy between": bad(_chain(0, 2), ""),
    "expired": bad(row({"lifetime_s": -60}), "certificate has expired"),
    "not yet valid": bad(row({"not_before": now() + HOUR}), "not yet valid"),
    "of an expired user": bad(_of_expired_user, "CN=Late: certificate has expired"),
    "below an expired one": bad(_below_expired_proxy, "certificate has expired"),
    "signed by a stranger": bad(shaped(issuer_key=new_ec_key()), "signature failure"),
    "signed by another user": bad(_by_other_user, "signature failure"),
    "not critical": bad(of_info(ProxyInfo(INHERIT_ALL), critical=False), "not critical"),
    "unknown policy language": bad(of_info(ProxyInfo("1.2.3.4.5")), "unknown proxy policy language"),
    "unknown policy language with a text": bad(of_info(ProxyInfo("1.2.3.4.5", text=b"all")), "unknown"),
    "any language": bad(of_info(ProxyInfo(ANY_LANGUAGE)), "unknown proxy policy language"),
    "any language with a text": bad(of_info(ProxyInfo(ANY_LANGUAGE, text=b"x")), "unknown proxy policy"),
    "independent": bad(of_info(ProxyInfo(INDEPENDENT)), "independent"),
    "full below independent": bad(row({"language": INDEPENDENT}, _FULL), "independent"),
    "limited below independent": bad(row({"language": INDEPENDENT}, _LIMITED), "independent"),
    "full below an unknown language": bad(row({"language": "1.2.3"}, _FULL), "unknown proxy policy"),
    "policy text with inherit-all": bad(of_info(ProxyInfo(INHERIT_ALL, text=b"read only")), "text"),
    "policy text with limited": bad(of_info(ProxyInfo(LIMITED, text=b"x")), "text"),
    "empty policy text": bad(of_info(ProxyInfo(LIMITED, text=b"")), "text"),
    "proxyCertInfo is not DER": bad(of_value(b"\x30\x05junk")),
    "proxyCertInfo is empty": bad(of_value(b"")),
    "proxyCertInfo goes on": bad(of_value(ProxyInfo(INHERIT_ALL).der() + b"\x05\x00")),
    "negative path length": bad(of_info(ProxyInfo(INHERIT_ALL, -1)), "negative path length"),
    "path length 0, one below": bad(row({"path_length": 0}, _FULL), "path length constraint exceeded"),
    "path length 1, two below": bad(row({"path_length": 1}, _FULL, _FULL), "constraint exceeded"),
    "path length widened below": bad(
        row({"path_length": 1}, {"path_length": 5}, _FULL), "path length constraint exceeded"
    ),
    "path length 0 widened below": bad(row({"path_length": 0}, {"path_length": 9}), "constraint exceeded"),
    "eleven": bad(row(*[_FULL] * 11), "more than 10 proxies"),
    "twenty": bad(row(*[_FULL] * 20), "more than 10 proxies"),
    "signer without digitalSignature": bad(_by_encipherment_only),
    "user without digitalSignature": bad(_by_user_without_signature, "digital signature"),
    "of another name": bad(misnamed(("CN", "Bob"), ("CN", "1")), "proxy subject name"),
    "of the user's own name": bad(misnamed(("CN", "Alice"))),
    "of another user's name": bad(misnamed(("CN", "Bob"))),
    "two more CNs": bad(misnamed(("CN", "Alice"), ("CN", "1"), ("CN", "2")), "proxy subject name"),
    "an OU more": bad(misnamed(("CN", "Alice"), ("OU", "1")), "proxy subject name"),
    "one component less": bad(misnamed(), "proxy subject name"),
    "an authority": bad(shaped(SIGNS, (x509.BasicConstraints(True, None), True))),
    "with another name": bad(shaped(SIGNS, (x509.SubjectAlternativeName([x509.DNSName("x")]), False))),
    "with another name of its issuer": bad(
        shaped(SIGNS, (x509.IssuerAlternativeName([x509.DNSName("x")]), False))
    ),
    "unknown critical extension": bad(shaped(SIGNS, (_UNKNOWN, True)), "unhandled critical extension"),
    "weak key": bad(_weak, "key too weak"),
    "old style": bad(_old_style("proxy")),
    "old style, limited": bad(_old_style("limited proxy")),
    "below an old-style one": bad(_of_old_style),
    "draft": bad(_draft(critical=False)),
    "draft, critical": bad(_draft(critical=True), "unhandled critical extension"),
    "draft in an end entity": bad(_draft_end_entity, "draft"),
    "issued by the authority": bad(_end_entity_is_proxy),
}
