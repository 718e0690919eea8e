"""Trust directories as sites have them: authorities with two keys, cross-signed, old roots, odd files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases.case import Case, Make, bad, good
from srm_dicom.testing.cases.workshop import (
    AUTHORITY,
    BASE,
    DAY,
    EVERYTHING,
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
    sign_certificate,
    subject_hash,
)

Change = Callable[[Workshop], object]


def at(change: Change, make: Make = lambda shop: shop.below(shop.alice())) -> Make:
    """Change something in the trust directory before a credential is made."""

    def made(shop: Workshop) -> Credential:
        change(shop)
        return make(shop)

    return made


# --- two certificates of one authority ---------------------------------------------------------------


def _second_key(shop: Workshop) -> Authority:
    """Give the authority a new key beside the old one: ``.1`` and ``.r1``."""
    fresh = Authority.create(shop.pki.authority.certificate.subject, key=new_ec_key())
    stem = shop.crl_path().with_suffix("")
    stem.with_suffix(".1").write_bytes(pem_of(fresh.certificate))
    stem.with_suffix(".r1").write_bytes(fresh.crl().public_bytes(Encoding.PEM))
    return fresh


def by_second_key(*, revoked: bool = False) -> Make:
    """Have the authority's new key issue the user."""

    def make(shop: Workshop) -> Credential:
        fresh = _second_key(shop)
        key = shop.key()
        certificate = fresh.issue(name_of(*BASE, ("CN", "Alice")), key.public_key(), USER)
        if revoked:
            crl = fresh.crl([certificate.serial_number]).public_bytes(Encoding.PEM)
            shop.crl_path().with_suffix(".r1").write_bytes(crl)
        return shop.below(shop.save([certificate], key))

    return make


def cross_signed(*, stranger_trusted: bool) -> Make:
    """Send the certificate of a subordinate authority that another root has signed too."""

    def make(shop: Workshop) -> Credential:
        below = shop.authority("Sub CA", EVERYTHING, below=shop.pki.authority)
        other = shop.authority("Other CA", EVERYTHING, install=stranger_trusted)
        crossed = sign_certificate(
            subject=below.certificate.subject,
            public_key=below.certificate.public_key(),
            issuer=other.certificate.subject,
            issuer_key=other.key,
            not_before=now() - DAY,
            not_after=now() + DAY,
            extensions=AUTHORITY,
        )
        return shop.below(shop.user("Alice", authority=replace(below, certificate=crossed)))

    return make


# --- old roots and odd ones --------------------------------------------------------------------------


def _old_root(algorithm: hashes.HashAlgorithm, last_octet: bytes) -> Make:
    """Sign the root's own certificate with a weak hash: nobody relies on a root's signature."""

    def make(shop: Workshop) -> Credential:
        plain = shop.authority("Old CA", EVERYTHING, key=new_rsa_key())
        identifier = bytes.fromhex("300d06092a864886f70d0101") + last_octet + b"\x05\x00"
        der = resigned(plain.certificate, plain.key, b"Old CA", b"Old CA", algorithm, identifier)
        old = Authority(x509.load_der_x509_certificate(der), plain.key)
        old.install(shop.trust_dir, EVERYTHING)
        return shop.below(shop.user("Alice", authority=old))

    return make


def root(*extensions: tuple[x509.ExtensionType, bool]) -> Make:
    """Have a root of these extensions issue the user."""
    return lambda shop: shop.user(
        "Alice", authority=shop.authority("Other CA", EVERYTHING, extensions=extensions)
    )


def _one_policy_for_both(shop: Workshop) -> Credential:
    """Write what the subordinate authority may sign into the policy file of its root."""
    below = shop.authority("Sub CA", below=shop.pki.authority)
    path = shop.crl_path().with_suffix(".signing_policy")
    path.write_text(path.read_text() + "\n" + below.signing_policy([EVERYTHING]))
    return shop.below(shop.user("Alice", authority=below))


def _both_hashes(shop: Workshop) -> None:
    """Link every file under the MD5 hash of old OpenSSL too, as IGTF bundles do."""
    subject = shop.pki.authority.certificate.subject
    digest = hashlib.md5(subject.public_bytes(), usedforsecurity=False).digest()
    old = f"{int.from_bytes(digest[:4], 'little'):08x}"
    stem = subject_hash(subject)
    for path in list(shop.trust_dir.glob(f"{stem}.*")):
        (shop.trust_dir / f"{old}{path.suffix}").symlink_to(path.name)


def _text_before(shop: Workshop) -> None:
    """Put the text that `openssl x509 -text` prints before the certificate."""
    path = shop.crl_path().with_suffix(".0")
    path.write_bytes(b"Certificate:\n    Data: v3 \xe9\n" + path.read_bytes())


def _strangers_files(shop: Workshop) -> None:
    for name in ("README", "mdm.info", "00000000.0", "policy-igtf.info", "x.crl_url"):
        (shop.trust_dir / name).write_text("nothing\n")


def policy(change: Callable[[bytes], bytes]) -> Make:
    """Rewrite the bytes of the signing policy."""

    def rewrite(shop: Workshop) -> None:
        path = shop.crl_path().with_suffix(".signing_policy")
        path.write_bytes(change(path.read_bytes()))

    return at(rewrite)


def crl_of(serials: range) -> Make:
    """Publish a list of others."""
    return at(lambda shop: shop.pki.authority.publish_crl(shop.trust_dir, serials))


def _old_names(shop: Workshop) -> Credential:
    """Name an authority and its users by the old spellings of their types."""
    subject = name_of(("O", "other"), ("CN", "Other CA"), ("emailAddress", "ca@example.org"))
    authority = Authority.create(subject, key=new_ec_key())
    authority.install(shop.trust_dir)
    stem = shop.trust_dir / subject_hash(subject)
    stem.with_suffix(".signing_policy").write_text(
        "access_id_CA X509 '/O=other/CN=Other CA/Email=ca@example.org'\n"
        "pos_rights globus CA:sign\ncond_subjects globus '\"/O=other/USERID=*\"'\n"
    )
    own = x509.NameAttribute(x509.NameOID.USER_ID, "alice")
    user = x509.Name([*name_of(("O", "other")).rdns, x509.RelativeDistinguishedName([own])])
    return shop.below(shop.named(user, authority=authority))


# --- end entities with everything that authorities write into them ----------------------------------


def _as_authorities_do(shop: Workshop) -> Credential:
    point = x509.DistributionPoint(
        [x509.UniformResourceIdentifier("http://crl.mdm.test/ca.crl")], None, None, None
    )
    issuers = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://mdm.test/ca.crt")
    )
    policies = [x509.PolicyInformation(x509.ObjectIdentifier("1.2.840.113612.5.2.2.1"), None)]
    names = [x509.RFC822Name("alice@example.org"), x509.DirectoryName(name_of(("CN", "Alice")))]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    more: list[tuple[x509.ExtensionType, bool]] = [
        (x509.ExtendedKeyUsage(usages), True),
        (x509.CRLDistributionPoints([point]), False),
        (x509.AuthorityInformationAccess([issuers]), False),
        (x509.CertificatePolicies(policies), True),
        (x509.SubjectAlternativeName(names), False),
    ]
    return shop.below(shop.user("Alice", extensions=[*USER, *more]))


def netscape(bits: int) -> Make:
    """Issue a user with Netscape's certificate type, which old authorities still write."""
    value = bytes((0x03, 0x02, 0x00, bits))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.16.840.1.113730.1.1"), value)
    return lambda shop: shop.user("Alice", extensions=[*USER, (extension, False)])


_CLIENT, _SERVER = 0x80, 0x40
_LATIN = "# Autorité de certification\n".encode("latin-1")

CASES: Mapping[str, Case] = {
    "user of the authority's old key": good(at(_second_key)),
    "user of the authority's new key": good(by_second_key()),
    "cross-signed by a stranger": good(cross_signed(stranger_trusted=False)),
    "cross-signed by another trusted root": good(cross_signed(stranger_trusted=True)),
    "root signed with SHA-1": good(_old_root(hashes.SHA1(), b"\x05")),
    "root signed with MD5": good(_old_root(hashes.MD5(), b"\x04")),
    "root without key usage": good(root(AUTHORITY[0])),
    "root whose constraints are not critical": good(root((AUTHORITY[0][0], False), AUTHORITY[1])),
    "policy of a subordinate in its root's file": good(_one_policy_for_both),
    "files by both hashes": good(at(_both_hashes)),
    "text before the certificate": good(at(_text_before)),
    "other files beside": good(at(_strangers_files)),
    "policy with lines of DOS": good(policy(lambda text: text.replace(b"\n", b"\r\n"))),
    "policy with tabs": good(policy(lambda text: text.replace(b"  ", b"\t"))),
    "policy with a comment in Latin-1": good(policy(lambda text: _LATIN + text)),
    "policy with a byte order mark": good(policy(lambda text: b"\xef\xbb\xbf" + text)),
    "old spellings of types": good(_old_names, "/O=other/UID=alice"),
    "list of ten thousand others": good(crl_of(range(1, 10_000))),
    "everything that authorities write": good(_as_authorities_do),
    "digital signature only": good(
        lambda shop: shop.user("Alice", extensions=[USER[0], (key_usage("digital_signature"), True)])
    ),
    "non-repudiation too": good(
        lambda shop: shop.user(
            "Alice", extensions=[USER[0], (key_usage("digital_signature", "content_commitment"), True)]
        )
    ),
    "Netscape's type for clients": good(netscape(_CLIENT)),
    "revoked by the new key": bad(by_second_key(revoked=True), "revoked"),
    "Netscape's type for servers": bad(netscape(_SERVER), "unsuitable certificate purpose"),
    "non-repudiation only": bad(
        lambda shop: shop.user("Alice", extensions=[USER[0], (key_usage("content_commitment"), True)])
    ),
    "policy in Latin-1 for another name": bad(
        policy(lambda text: text.replace(b"/DC=mdm/*", "/DC=mdm/CN=É*".encode("latin-1"))), "does not cover"
    ),
}
