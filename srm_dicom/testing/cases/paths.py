"""From the end entity up: keys, dates, usages, revocation, authorities and what they may sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases.case import Case, Make, bad, good
from srm_dicom.testing.cases.workshop import (
    ALICE,
    AUTHORITY,
    BASE,
    DAY,
    EVERYTHING,
    HOUR,
    USER,
    Workshop,
    now,
    pem_of,
    resigned,
)
from srm_dicom.testing.certificates import (
    Authority,
    key_usage,
    name_of,
    new_ec_key,
    new_rsa_key,
    read_credential,
    subject_hash,
)

Builder = x509.CertificateRevocationListBuilder
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


# --- end entities --------------------------------------------------------------------------------


def user(**options: Any) -> Make:
    """Issue a user with options of `Workshop.user`."""
    return lambda shop: shop.user("Alice", **options)


def proxy_of(make: Make) -> Make:
    """Sign a proxy with what another case makes."""
    return lambda shop: shop.below(make(shop))


def keyed(draw: Callable[[], Any]) -> Make:
    """Issue a user with a key of another kind."""
    return lambda shop: shop.user("Alice", key=draw())


def used_for(*usages: x509.ObjectIdentifier) -> Make:
    """Issue a user with an extended key usage."""
    return user(extensions=[*USER, (x509.ExtendedKeyUsage(usages), False)])


def _usage(*bits: str) -> Make:
    return user(extensions=[USER[0], (key_usage(*bits), True)])


def _serial(hexadecimal: str) -> Make:
    """Issue a serial number that no builder would make: written over one of the same length."""
    wanted = bytes.fromhex(hexadecimal)
    given = int.from_bytes(b"\x5a" * len(wanted), "big")
    return lambda shop: shop.patched(shop.user("Alice", serial=given), b"\x5a" * len(wanted), wanted)


def _hashed(algorithm: hashes.HashAlgorithm, last_octet: bytes) -> Make:
    """Sign with RSA and a hash that no builder takes any more."""

    def make(shop: Workshop) -> Credential:
        authority = shop.authority("Old CA", EVERYTHING, key=new_rsa_key())
        chain, key = read_credential(shop.user("Alice", authority=authority))
        identifier = bytes.fromhex("300d06092a864886f70d0101") + last_octet + b"\x05\x00"
        der = resigned(chain[0], authority.key, b"Alice", b"Alice", algorithm, identifier)
        return shop.save([x509.load_der_x509_certificate(der), *chain[1:]], key)

    return make


def _pss(shop: Workshop) -> Credential:
    authority, key = shop.authority("Old CA", EVERYTHING, key=new_rsa_key()), new_ec_key()
    builder = x509.CertificateBuilder(
        authority.certificate.subject, name_of(*BASE, ("CN", "Alice")), key.public_key(), 77
    )
    builder = builder.not_valid_before(now() - DAY).not_valid_after(now() + DAY)
    for extension, critical in USER:
        builder = builder.add_extension(extension, critical)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    certificate = builder.sign(authority.key, hashes.SHA256(), rsa_padding=scheme)
    return shop.save([certificate, authority.certificate], key)


def _self_signed(shop: Workshop) -> Credential:
    key = new_ec_key()
    stranger = Authority(shop.pki.authority.certificate, key)
    return shop.user("Alice", authority=stranger, key=key, issuer=name_of(*BASE, ("CN", "Alice")))


def _self_signed_and_installed(shop: Workshop) -> Credential:
    credential = _self_signed(shop)
    certificate = read_credential(credential)[0][0]
    (shop.trust_dir / f"{subject_hash(certificate.subject)}.0").write_bytes(pem_of(certificate))
    return credential


# --- authorities ---------------------------------------------------------------------------------


def by_root(*patterns: str, **options: Any) -> Make:
    """Have another installed authority issue the user."""
    return lambda shop: shop.user("Alice", authority=shop.authority("Other CA", *patterns, **options))


def by_subordinate(**options: Any) -> Make:
    """Have an authority below the usual one issue the user."""

    def make(shop: Workshop) -> Credential:
        below = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority, **options)
        return shop.user("Alice", authority=below)

    return make


def _limits(path_length: int) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.BasicConstraints(ca=True, path_length=path_length), True), AUTHORITY[1]]


def _within(*, permitted: x509.Name | None = None, excluded: x509.Name | None = None) -> Make:
    constraints = x509.NameConstraints(
        [x509.DirectoryName(permitted)] if permitted else None,
        [x509.DirectoryName(excluded)] if excluded else None,
    )
    return by_subordinate(extensions=[*AUTHORITY, (constraints, True)])


def _too_deep(shop: Workshop) -> Credential:
    upper = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority, extensions=_limits(0))
    return shop.user("Alice", authority=shop.authority("Sub Sub CA", EVERYTHING, below=upper))


def _two_deep(shop: Workshop) -> Credential:
    upper = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority)
    return shop.user("Alice", authority=shop.authority("Sub Sub CA", EVERYTHING, below=upper))


def _subordinate_not_sent(*, install: bool) -> Make:
    def make(shop: Workshop) -> Credential:
        below = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority, install=install)
        chain, key = read_credential(shop.user("Alice", authority=below))
        return shop.save(chain[:1], key)

    return make


def _signed_by_user(shop: Workshop) -> Credential:
    chain, key = read_credential(shop.pki.user("Mallory"))
    return shop.user("Alice", authority=Authority(chain[0], key))


def _same_name_other_key(shop: Workshop) -> Credential:
    subject = shop.pki.authority.certificate.subject
    return shop.user("Alice", authority=Authority.create(subject, key=new_ec_key()))


def _untrusted(shop: Workshop) -> Credential:
    return shop.below(shop.user("Alice", authority=shop.authority("Stranger CA", install=False)))


def _the_authority_itself(shop: Workshop) -> Credential:
    below = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority)
    return shop.save([below.certificate], below.key)


# --- signing policies and namespaces -------------------------------------------------------------


def policy(text: str, *, suffix: str = ".signing_policy") -> Make:
    """Replace the authority's policy; ``CADN`` stands for its name."""

    def make(shop: Workshop) -> Credential:
        path = shop.crl_path().with_suffix(suffix)
        path.write_text(text.replace("CADN", "/DC=test/DC=mdm/CN=MDM Test CA"))
        return shop.alice()

    return make


def rights(
    subjects: str, head: str = "access_id_CA X509 'CADN'", right: str = "pos_rights globus CA:sign"
) -> Make:
    """Replace the authority's signing policy by one of the usual form."""
    return policy(f"{head}\n{right}\ncond_subjects globus {subjects}\n")


def namespaces(text: str) -> Make:
    """Put a namespaces file beside the signing policy."""
    return policy(text, suffix=".namespaces")


_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_MAIL, _ANY = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_FAR_FUTURE = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

CASES: Mapping[str, Case] = {
    "P-384": good(keyed(lambda: ec.generate_private_key(ec.SECP384R1()))),
    "P-521": good(keyed(lambda: ec.generate_private_key(ec.SECP521R1()))),
    "Ed25519": good(keyed(ed25519.Ed25519PrivateKey.generate)),
    "Ed448": good(keyed(ed448.Ed448PrivateKey.generate)),
    "RSA 2048": good(keyed(new_rsa_key)),
    "RSA 3072": good(keyed(lambda: rsa.generate_private_key(65537, 3072))),
    "RSA authority": good(by_root(EVERYTHING, key=new_rsa_key())),
    "SHA-512": good(_hashed(hashes.SHA512(), b"\x0d")),
    "RSA-PSS": good(_pss),
    "serial number of 20 octets": good(_serial("7f" + "ff" * 19)),
    "negative serial number": good(_serial("80" * 8)),
    "for clients": good(used_for(_CLIENT)),
    "for clients and servers": good(used_for(_SERVER, _CLIENT)),
    "no extensions": good(user(extensions=[])),
    "until the year 9999": good(user(not_after=_FAR_FUTURE)),
    "unknown extension": good(user(extensions=[*USER, (_UNKNOWN, False)])),
    "subordinate authority": good(by_subordinate(extensions=_limits(0))),
    "two authorities below the root": good(_two_deep),
    "proxy of a subordinate authority's user": good(proxy_of(by_subordinate())),
    "subordinate authority not sent but installed": good(_subordinate_not_sent(install=True)),
    "inside the name constraints": good(proxy_of(_within(permitted=name_of(*BASE)))),
    "policy with a comment behind": good(rights("'\"/DC=test/DC=mdm/*\"' # ours")),
    "policy without inner quotes": good(rights("'/DC=test/DC=mdm/*'")),
    "policy of several patterns": good(rights('\'"/DC=x/*" "/DC=test/DC=mdm/CN=Al?ce"\'')),
    "namespaces that agree": good(
        namespaces('# x\nTO Issuer "CADN" \\\n  PERMIT Subject "/DC=test/DC=mdm/.*"\n')
    ),
    "namespaces of oneself": good(namespaces('TO ISSUER SELF permit subject "/DC=test/.*"\n')),
    # keys and hashes
    "RSA 1024": bad(keyed(lambda: rsa.generate_private_key(65537, 1024)), "ee certificate key too weak"),
    "P-224": bad(keyed(lambda: ec.generate_private_key(ec.SECP224R1()))),
    "authority of RSA 1024": bad(
        by_root(EVERYTHING, key=rsa.generate_private_key(65537, 1024)), "ca certificate key too weak"
    ),
    "SHA-1": bad(_hashed(hashes.SHA1(), b"\x05"), "digest algorithm too weak"),
    "MD5": bad(_hashed(hashes.MD5(), b"\x04"), "digest algorithm too weak"),
    # dates
    "expired": bad(user(not_after=now() - HOUR), "CN=Alice: certificate has expired"),
    "not yet valid": bad(user(not_before=now() + HOUR), "CN=Alice: certificate is not yet valid"),
    "expired authority": bad(by_root(EVERYTHING, not_after=now() - HOUR), "has expired"),
    "authority of tomorrow": bad(by_root(EVERYTHING, not_before=now() + HOUR), "not yet valid"),
    "expired subordinate authority": bad(by_subordinate(not_after=now() - HOUR), "has expired"),
    # usages
    "for servers only": bad(used_for(_SERVER), "unsuitable certificate purpose"),
    "proxy of a certificate for servers": bad(proxy_of(used_for(_SERVER)), "unsuitable certificate purpose"),
    "for mail": bad(used_for(_MAIL), "unsuitable certificate purpose"),
    "for anything": bad(used_for(_ANY), "unsuitable certificate purpose"),
    "for encipherment only": bad(_usage("key_encipherment"), "unsuitable certificate purpose"),
    "unknown critical extension": bad(
        user(extensions=[*USER, (_UNKNOWN, True)]), "unhandled critical extension"
    ),
    "authority with an unknown critical extension": bad(
        by_root(EVERYTHING, extensions=[*AUTHORITY, (_UNKNOWN, True)]), "unhandled critical extension"
    ),
    "extension that is not DER": bad(
        lambda shop: shop.patched(shop.alice(), b"\x55\x1d\x13\x01\x01\xff", b"\x55\x1d\x13\x01\x01\x00"),
        "malformed",
    ),
    # who signed
    "untrusted authority": bad(_untrusted, "self-signed certificate"),
    "authority's name with another key": bad(_same_name_other_key, "CN=Alice: "),
    "self-signed": bad(_self_signed, "self-signed certificate"),
    "self-signed and installed": bad(_self_signed_and_installed, "CN=Alice"),
    "signed by a user": bad(_signed_by_user, "CN=Alice: "),
    "proxy of one signed by a user": bad(proxy_of(_signed_by_user), "CN=Alice"),
    "an authority logs in": bad(_the_authority_itself, "unsuitable certificate purpose"),
    "an authority that may sign anything logs in": bad(
        user(extensions=[AUTHORITY[0], (key_usage("digital_signature", "key_cert_sign"), True)]),
        "an authority does not log in",
    ),
    "authority without the CA flag": bad(by_root(EVERYTHING, extensions=USER)),
    "authority that may not sign certificates": bad(
        by_root(EVERYTHING, extensions=[AUTHORITY[0], (key_usage("digital_signature"), True)])
    ),
    "path length exceeded": bad(_too_deep, "path length constraint exceeded"),
    "subordinate authority neither sent nor installed": bad(_subordinate_not_sent(install=False), "issuer"),
    "outside the name constraints": bad(_within(permitted=name_of(("DC", "other"))), "subtree violation"),
    "excluded by the name constraints": bad(
        _within(excluded=name_of(*BASE, ("CN", "Alice"))), "subtree violation"
    ),
    # signing policy
    "outside the namespace": bad(by_root("/DC=test/DC=other/*"), "does not cover this name"),
    "proxy of one outside the namespace": bad(proxy_of(by_root("/DC=other/*")), "does not cover this name"),
    "no signing policy": bad(by_root(), "no signing policy"),
    "policy for a longer name": bad(by_root(ALICE + "x"), "does not cover this name"),
    "policy in another case": bad(by_root(ALICE.lower()), "does not cover this name"),
    "policy of another authority": bad(
        rights("'\"*\"'", head="access_id_CA X509 '/CN=x'"), "no signing policy"
    ),
    "policy without the right": bad(rights("'\"*\"'", right=""), "no signing policy"),
    "policy with another right": bad(
        rights("'\"*\"'", right="pos_rights globus CA:look"), "no signing policy"
    ),
    "negative right": bad(rights("'\"*\"'", right="neg_rights globus CA:sign"), "no signing policy"),
    "unreadable policy": bad(policy("access_id_CA X509\n"), "no signing policy"),
    "empty policy": bad(policy(""), "no signing policy"),
    "policy with a dot for a pattern": bad(rights("'\"/DC=test/DC.mdm/*\"'"), "does not cover"),
    "namespaces that disagree": bad(
        namespaces('TO Issuer "CADN" PERMIT Subject "/DC=other/.*"\n'), "namespaces"
    ),
    "namespaces that deny": bad(
        namespaces(f'TO Issuer SELF DENY Subject "{ALICE}"\nTO Issuer SELF PERMIT Subject ".*"\n'),
        "namespaces",
    ),
    "namespaces that match a part": bad(
        namespaces('TO Issuer SELF PERMIT Subject "/DC=test"\n'), "namespaces"
    ),
    "unreadable namespaces": bad(namespaces("TO whom it may concern\n"), "namespaces"),
}
