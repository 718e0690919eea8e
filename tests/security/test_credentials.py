"""Good and bad credentials against the gate, through real handshakes.

Each case makes one credential in a throw-away PKI; the table says who it is, or a part of the reason
for which it is refused. The good cases come first.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.explain import Verdict, explain
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.proxyinfo import (
    DRAFT_PROXY_CERT_INFO,
    INDEPENDENT,
    INHERIT_ALL,
    LIMITED,
    PROXY_CERT_INFO,
    ProxyInfo,
)
from srm_dicom.testing.certificates import (
    Authority,
    Key,
    key_usage,
    name_of,
    new_ec_key,
    proxy_certificate,
    proxy_info,
    read_credential,
    sign_certificate,
    subject_hash,
    write_credential,
)
from srm_dicom.testing.pki import TestPki

BASE = (("DC", "test"), ("DC", "mdm"))
ALICE = "/DC=test/DC=mdm/CN=Alice"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
ANY_LANGUAGE = "1.3.6.1.5.5.7.21.0"
EEC = [
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (key_usage("digital_signature", "key_encipherment"), True),
]

ALL_IN_ONE = [
    (x509.BasicConstraints(ca=True, path_length=None), True),
    (key_usage("digital_signature", "key_cert_sign"), True),
]


@dataclass
class Workshop:
    """Makes credentials, sensible or not, and asks for the verdict."""

    pki: TestPki
    directory: Path
    settings: dict[str, object] = field(default_factory=dict)
    count: int = 0

    @property
    def trust_dir(self) -> Path:
        return self.pki.trust_dir

    def verdict(self, credential: Credential) -> Verdict:
        trust = TrustSettings(self.trust_dir, **self.settings)  # type: ignore[arg-type]
        return explain(credential.certificate, trust, clock=SystemClock(), key=credential.key)

    def save(self, chain: list[x509.Certificate], key: Key) -> Credential:
        self.count += 1
        path = self.directory / f"{self.count}.pem"
        write_credential(path, chain, key)
        return Credential(path, path, self.trust_dir)

    def alice(self) -> Credential:
        return self.pki.user("Alice")

    def named(
        self,
        subject: x509.Name,
        extensions: object = EEC,
        authority: Authority | None = None,
        *,
        issuer: x509.Name | None = None,
        not_before: datetime = NOW - DAY,
        not_after: datetime = NOW + DAY,
        key: Key | None = None,
    ) -> Credential:
        """Issue an end entity of any name."""
        authority, key = authority or self.pki.authority, key or new_ec_key()
        certificate = sign_certificate(
            subject=subject,
            public_key=key.public_key(),
            issuer=issuer or authority.certificate.subject,
            issuer_key=authority.key,
            not_before=not_before,
            not_after=not_after,
            extensions=extensions,  # type: ignore[arg-type]
        )
        chain = [certificate]
        if authority is not self.pki.authority:
            chain.append(authority.certificate)
        return self.save(chain, key)

    def below(self, issuer: Credential, **options: object) -> Credential:
        """Sign a proxy with options of `proxy_certificate`."""
        chain, issuer_key = read_credential(issuer)
        key = new_ec_key()
        certificate = proxy_certificate(chain[0], issuer_key, key.public_key(), **options)  # type: ignore[arg-type]
        return self.save([certificate, *chain], key)

    def forged(
        self,
        issuer: Credential,
        extensions: object,
        *,
        subject: x509.Name | None = None,
        issuer_key: Key | None = None,
        not_before: datetime = NOW - DAY,
        not_after: datetime = NOW + DAY,
    ) -> Credential:
        """Sign a proxy of any shape."""
        chain, own_key = read_credential(issuer)
        key = new_ec_key()
        own = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "12345")])
        certificate = sign_certificate(
            subject=subject or x509.Name([*chain[0].subject.rdns, own]),
            public_key=key.public_key(),
            issuer=chain[0].subject,
            issuer_key=issuer_key or own_key,
            not_before=not_before,
            not_after=not_after,
            extensions=extensions,  # type: ignore[arg-type]
        )
        return self.save([certificate, *chain], key)

    def authority(self, name: str, *patterns: str, install: bool = True, **options: object) -> Authority:
        made = Authority.create(name_of(*BASE, ("CN", name)), key=new_ec_key(), **options)  # type: ignore[arg-type]
        if install:
            made.install(self.trust_dir, *patterns)
        return made

    def crl_path(self) -> Path:
        return self.trust_dir / f"{subject_hash(self.pki.authority.certificate.subject)}.r0"


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = tmp_path / "made"
    made.mkdir()
    return Workshop(TestPki(tmp_path / "pki", fast=True), made)


Case = Callable[[Workshop], Credential]


def usage() -> tuple[x509.ExtensionType, bool]:
    return key_usage("digital_signature"), True


def chain_of_proxies(count: int) -> Case:
    def make(shop: Workshop) -> Credential:
        credential = shop.alice()
        for _ in range(count):
            credential = shop.below(credential)
        return credential

    return make


def subordinate(shop: Workshop) -> Authority:
    return shop.authority("Sub CA", "/DC=test/DC=mdm/*", issuer=shop.pki.authority, path_length=0)


def email_user(shop: Workshop) -> Credential:
    return shop.named(name_of(*BASE, ("CN", "Eve"), ("emailAddress", "eve@example.org")))


def old_email_policy(shop: Workshop) -> Credential:
    authority = Authority.create(name_of(("O", "other"), ("CN", "Other CA")), key=new_ec_key())
    authority.install(shop.trust_dir, "/O=other/CN=*/Email=*@example.org")
    return shop.named(
        name_of(("O", "other"), ("CN", "Eve"), ("emailAddress", "eve@example.org")), authority=authority
    )


GOOD: dict[str, tuple[Case, str, bool]] = {
    "end entity": (lambda shop: shop.alice(), ALICE, False),
    "proxy": (lambda shop: shop.pki.proxy(shop.alice()), ALICE, False),
    "proxy of a proxy": (chain_of_proxies(2), ALICE, False),
    "ten proxies": (chain_of_proxies(10), ALICE, False),
    "limited": (lambda shop: shop.pki.proxy(shop.alice(), limited=True), ALICE, True),
    "full below limited inherits the limit": (
        lambda shop: shop.below(shop.below(shop.alice(), language=LIMITED), language=INHERIT_ALL),
        ALICE,
        True,
    ),
    "limited below full": (lambda shop: shop.below(shop.below(shop.alice()), language=LIMITED), ALICE, True),
    "path length 0 with nothing below": (lambda shop: shop.below(shop.alice(), path_length=0), ALICE, False),
    "path length 1 with one below": (
        lambda shop: shop.below(shop.below(shop.alice(), path_length=1)),
        ALICE,
        False,
    ),
    "numeric name of a person": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Alice"), ("CN", "123456"))),
        ALICE + "/CN=123456",
        False,
    ),
    "proxy of a numeric name": (
        lambda shop: shop.below(shop.named(name_of(*BASE, ("CN", "Alice"), ("CN", "123456")))),
        ALICE + "/CN=123456",
        False,
    ),
    "slash in a name": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Robot/gw.example.org"))),
        "/DC=test/DC=mdm/CN=Robot/gw.example.org",
        False,
    ),
    "letters of other alphabets": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Zoë Łukasz 李"))),
        "/DC=test/DC=mdm/CN=Zoë Łukasz 李",
        False,
    ),
    "email": (email_user, "/DC=test/DC=mdm/CN=Eve/emailAddress=eve@example.org", False),
    "old spelling in the signing policy": (
        old_email_policy,
        "/O=other/CN=Eve/emailAddress=eve@example.org",
        False,
    ),
    "subordinate authority": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Sub Alice")), authority=subordinate(shop)),
        "/DC=test/DC=mdm/CN=Sub Alice",
        False,
    ),
    "RSA keys": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Rita")), key=rsa.generate_private_key(65537, 2048)),
        "/DC=test/DC=mdm/CN=Rita",
        False,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(shop: Workshop, name: str) -> None:
    make, dn, limited = GOOD[name]
    verdict = shop.verdict(make(shop))
    assert verdict == Verdict(True, dn, (), limited, "")


def revoked(shop: Workshop) -> Credential:
    shop.pki.revoke(shop.alice())
    return shop.alice()


def revoked_proxy(shop: Workshop) -> Credential:
    proxy = shop.pki.proxy(shop.pki.proxy(shop.alice()))
    shop.pki.revoke(proxy)
    return proxy


def revoked_subordinate(shop: Workshop) -> Credential:
    authority = subordinate(shop)
    shop.pki.authority.publish_crl(shop.trust_dir, [authority.certificate.serial_number])
    return shop.named(name_of(*BASE, ("CN", "Sub Alice")), authority=authority)


def without_crl(shop: Workshop) -> Credential:
    shop.crl_path().unlink()
    return shop.pki.proxy(shop.alice())


def with_crl(**options: object) -> Case:
    def make(shop: Workshop) -> Credential:
        crl = shop.pki.authority.crl(**options)  # type: ignore[arg-type]
        shop.crl_path().write_bytes(crl.public_bytes(Encoding.PEM))
        return shop.pki.proxy(shop.alice())

    return make


def forged_crl(shop: Workshop) -> Credential:
    forger = Authority(shop.pki.authority.certificate, new_ec_key())
    shop.crl_path().write_bytes(forger.crl().public_bytes(Encoding.PEM))
    return shop.pki.proxy(shop.alice())


def rename(text: str) -> Case:
    return lambda shop: shop.named(name_of(*BASE, ("CN", text)))


def multi_valued(shop: Workshop) -> Credential:
    both = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Alice"), x509.NameAttribute(NameOID.USER_ID, "alice")]
    )
    return shop.named(x509.Name([*name_of(*BASE).rdns, both]))


def of_other_authority(*patterns: str) -> Case:
    def make(shop: Workshop) -> Credential:
        return shop.named(name_of(*BASE, ("CN", "Alice")), authority=shop.authority("Other CA", *patterns))

    return make


def folded_issuer(shop: Workshop) -> Credential:
    folded = name_of(*BASE, ("CN", "mdm test ca"))
    return shop.named(name_of(*BASE, ("CN", "Alice")), issuer=folded)


def signed_by_user(shop: Workshop) -> Credential:
    chain, key = read_credential(shop.pki.user("Mallory"))
    return shop.named(name_of(*BASE, ("CN", "Alice")), authority=Authority(chain[0], key))


def untrusted(shop: Workshop) -> Credential:
    stranger = shop.authority("Stranger CA", install=False)
    return shop.below(shop.named(name_of(*BASE, ("CN", "Alice")), authority=stranger))


def same_name_other_key(shop: Workshop) -> Credential:
    imposter = Authority.create(shop.pki.authority.certificate.subject, key=new_ec_key())
    return shop.named(name_of(*BASE, ("CN", "Alice")), authority=imposter)


def self_signed(shop: Workshop) -> Credential:
    name, key = name_of(*BASE, ("CN", "Alice")), new_ec_key()
    certificate = sign_certificate(
        subject=name,
        public_key=key.public_key(),
        issuer=name,
        issuer_key=key,
        not_before=NOW - DAY,
        not_after=NOW + DAY,
        extensions=EEC,
    )
    return shop.save([certificate], key)


def self_signed_but_installed(shop: Workshop) -> Credential:
    credential = self_signed(shop)
    chain, _ = read_credential(credential)
    (shop.trust_dir / f"{subject_hash(chain[0].subject)}.0").write_bytes(chain[0].public_bytes(Encoding.PEM))
    return credential


def authority_itself(shop: Workshop) -> Credential:
    authority = subordinate(shop)
    return shop.save([authority.certificate], authority.key)


def weak_key(shop: Workshop) -> Credential:
    return shop.named(name_of(*BASE, ("CN", "Alice")), key=rsa.generate_private_key(65537, 1024))


def server_only(shop: Workshop) -> Credential:
    usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    return shop.below(shop.named(name_of(*BASE, ("CN", "www.example.org")), [*EEC, usage]))


def proxy_of_a_stranger(shop: Workshop) -> Credential:
    return shop.forged(shop.alice(), [(proxy_info(INHERIT_ALL), True), usage()], issuer_key=new_ec_key())


def misnamed(subject: x509.Name) -> Case:
    return lambda shop: shop.forged(shop.alice(), [(proxy_info(INHERIT_ALL), True), usage()], subject=subject)


def critical(value: bytes) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.UnrecognizedExtension(PROXY_CERT_INFO, value), True), usage()]


def proxy_with(info: ProxyInfo, *, is_critical: bool = True) -> Case:
    extension = x509.UnrecognizedExtension(PROXY_CERT_INFO, info.der())
    return lambda shop: shop.forged(shop.alice(), [(extension, is_critical), usage()])


def policy_text(text: str) -> Case:
    def make(shop: Workshop) -> Credential:
        path = shop.crl_path().with_suffix(".signing_policy")
        path.write_text(text.replace("CADN", "/DC=test/DC=mdm/CN=MDM Test CA"))
        return shop.alice()

    return make


def ban(line: str) -> Case:
    def make(shop: Workshop) -> Credential:
        path = shop.directory / "bans"
        path.write_text(line)
        shop.settings["ban_file"] = path
        return shop.pki.proxy(shop.alice())

    return make


def missing_ban_file(shop: Workshop) -> Credential:
    shop.settings["ban_file"] = shop.directory / "not-there"
    return shop.alice()


def gt2(kind: str) -> Case:
    def make(shop: Workshop) -> Credential:
        chain, _ = read_credential(shop.alice())
        subject = x509.Name([*chain[0].subject.rdns, *name_of(("CN", kind)).rdns])
        return shop.forged(shop.alice(), [usage()], subject=subject)

    return make


BAD: dict[str, tuple[Case, str]] = {
    # dates
    "expired": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Alice")), not_after=NOW - timedelta(hours=1)),
        "CN=Alice: certificate has expired",
    ),
    "not yet valid": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Alice")), not_before=NOW + timedelta(hours=1)),
        "CN=Alice: certificate is not yet valid",
    ),
    "expired proxy": (lambda shop: shop.pki.proxy(shop.alice(), lifetime_s=-60), "certificate has expired"),
    "proxy not yet valid": (
        lambda shop: shop.below(shop.alice(), not_before=NOW + timedelta(hours=1)),
        "not yet valid",
    ),
    "good proxy of an expired user": (
        lambda shop: shop.forged(
            shop.named(name_of(*BASE, ("CN", "Late")), not_after=NOW - timedelta(hours=1)),
            [(proxy_info(INHERIT_ALL), True), usage()],
        ),
        "/DC=test/DC=mdm/CN=Late: certificate has expired",
    ),
    # revocation
    "revoked": (revoked, "CN=Alice: certificate revoked"),
    "proxy of a revoked user": (revoked_proxy, "CN=Alice: certificate revoked"),
    "revoked subordinate authority": (revoked_subordinate, "revoked"),
    "no CRL": (without_crl, "unable to get certificate crl"),
    "stale CRL": (with_crl(last_update=NOW - 9 * DAY, next_update=NOW - DAY), "crl has expired"),
    "CRL of tomorrow": (with_crl(last_update=NOW + DAY, next_update=NOW + 2 * DAY), "crl is not yet valid"),
    "forged CRL": (forged_crl, "crl signature failure"),
    # who signed
    "untrusted authority": (untrusted, "self-signed certificate"),
    "authority's name with another key": (same_name_other_key, "CN=Alice: "),
    "self-signed": (self_signed, "self-signed certificate"),
    "self-signed and trusted": (self_signed_but_installed, "CN=Alice"),
    "signed by a user": (signed_by_user, "CN=Alice: "),
    "proxy signed by somebody else": (proxy_of_a_stranger, "certificate signature failure"),
    "an authority logs in": (authority_itself, "unsuitable certificate purpose"),
    "an authority that may sign anything logs in": (
        lambda shop: shop.named(name_of(*BASE, ("CN", "Alice")), ALL_IN_ONE),
        "an authority does not log in",
    ),
    "issuer in another case": (folded_issuer, "not written like"),
    # signing policy
    "outside the namespace": (of_other_authority("/DC=test/DC=other/*"), "does not cover this name"),
    "no signing policy": (of_other_authority(), "no signing policy"),
    "policy for the subject itself only": (of_other_authority(ALICE + "x"), "does not cover this name"),
    "policy of another authority": (
        policy_text("access_id_CA X509 '/CN=x'\npos_rights globus CA:sign\ncond_subjects globus '\"*\"'\n"),
        "no signing policy",
    ),
    "policy without the right": (
        policy_text("access_id_CA X509 'CADN'\ncond_subjects globus '\"*\"'\n"),
        "no signing policy",
    ),
    "policy with another right": (
        policy_text("access_id_CA X509 'CADN'\npos_rights globus CA:look\ncond_subjects globus '\"*\"'\n"),
        "no signing policy",
    ),
    "negative right": (
        policy_text("access_id_CA X509 'CADN'\nneg_rights globus CA:sign\ncond_subjects globus '\"*\"'\n"),
        "no signing policy",
    ),
    "unreadable policy": (policy_text("access_id_CA X509\n"), "no signing policy"),
    # proxy rules
    "proxyCertInfo not critical": (proxy_with(ProxyInfo(INHERIT_ALL), is_critical=False), "not critical"),
    "unknown policy language": (proxy_with(ProxyInfo("1.2.3.4.5")), "unknown proxy policy language"),
    "any language": (proxy_with(ProxyInfo(ANY_LANGUAGE)), "unknown proxy policy language"),
    "independent": (proxy_with(ProxyInfo(INDEPENDENT)), "independent"),
    "inherit below independent": (
        lambda shop: shop.below(shop.below(shop.alice(), language=INDEPENDENT)),
        "independent",
    ),
    "policy text with inherit-all": (proxy_with(ProxyInfo(INHERIT_ALL, text=b"read only")), "text"),
    "policy text with limited": (proxy_with(ProxyInfo(LIMITED, text=b"")), "text"),
    "proxyCertInfo is not DER": (lambda shop: shop.forged(shop.alice(), critical(b"\x30\x05junk")), ""),
    "path length 0 and one below": (
        lambda shop: shop.below(shop.below(shop.alice(), path_length=0)),
        "proxy path length constraint exceeded",
    ),
    "path length widened below": (
        lambda shop: shop.below(shop.below(shop.below(shop.alice(), path_length=1), path_length=5)),
        "proxy path length constraint exceeded",
    ),
    "eleven proxies": (chain_of_proxies(11), "more than 10 proxies"),
    "signer without digitalSignature": (
        lambda shop: shop.below(
            shop.forged(
                shop.alice(), [(proxy_info(INHERIT_ALL), True), (key_usage("key_encipherment"), True)]
            )
        ),
        "",
    ),
    "proxy of another name": (misnamed(name_of(*BASE, ("CN", "Bob"), ("CN", "1"))), "proxy subject name"),
    "proxy with the name of the user": (misnamed(name_of(*BASE, ("CN", "Alice"))), ""),
    "proxy with two more CNs": (
        misnamed(name_of(*BASE, ("CN", "Alice"), ("CN", "1"), ("CN", "2"))),
        "proxy subject name",
    ),
    "proxy with an OU more": (
        misnamed(name_of(*BASE, ("CN", "Alice"), ("OU", "1"))),
        "proxy subject name",
    ),
    "old-style proxy": (gt2("proxy"), ""),
    "old-style limited proxy": (gt2("limited proxy"), ""),
    "draft proxy": (
        lambda shop: shop.forged(
            shop.alice(),
            [
                (x509.UnrecognizedExtension(DRAFT_PROXY_CERT_INFO, ProxyInfo(INHERIT_ALL).der()), False),
                usage(),
            ],
        ),
        "",
    ),
    "draft proxyCertInfo in an end entity": (
        lambda shop: shop.named(
            name_of(*BASE, ("CN", "Alice")),
            [*EEC, (x509.UnrecognizedExtension(DRAFT_PROXY_CERT_INFO, b"\x30\x00"), False)],
        ),
        "draft",
    ),
    "unknown critical extension": (
        lambda shop: shop.named(
            name_of(*BASE, ("CN", "Alice")),
            [*EEC, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)],
        ),
        "unhandled critical extension",
    ),
    "weak key": (weak_key, "ee certificate key too weak"),
    "server certificate as a client": (server_only, "unsuitable certificate purpose"),
    # names
    "slash injection": (rename("Mallory/CN=Alice"), "ambiguous"),
    "slash injection with an OID": (rename("Mallory/2.5.4.3=Alice"), "ambiguous"),
    "multi-valued component": (multi_valued, "several values"),
    "NUL": (rename("Alice\0.example.org"), "forbidden character"),
    "newline": (rename("Alice\nCN=Bob"), "forbidden character"),
    "backslash": (rename("Alice\\/CN"), "forbidden character"),
    "line separator": (rename("Alice\u2028Bob"), "forbidden character"),
    "end entity named proxy": (rename("proxy"), "old-style"),
    "end entity named Limited Proxy": (rename("Limited Proxy"), "old-style"),
    "very long name": (
        lambda shop: shop.named(name_of(*BASE, *[("OU", f"{number:060}") for number in range(20)])),
        "more than 1024 characters",
    ),
    # bans
    "banned": (ban(f'"{ALICE}"'), "banned here"),
    "banned below": (ban('# all of them\n"/DC=test/DC=mdm/*"'), "banned here"),
    "banned authority": (ban('authority "/DC=test/DC=mdm/CN=MDM Test CA"'), "banned here"),
    "ban list that cannot be read": (ban("/DC=test/DC=mdm/CN=Bob"), "nobody is let in"),
    "ban list that is not there": (missing_ban_file, "nobody is let in"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(shop: Workshop, name: str) -> None:
    make, reason = BAD[name]
    verdict = shop.verdict(make(shop))
    assert not verdict.accepted
    assert verdict.dn == ""
    assert verdict.reason
    assert reason in verdict.reason
    assert verdict.reason.isprintable()


IF_PRESENT: dict[str, tuple[Case, str | None]] = {
    "no CRL": (without_crl, None),
    "good CRL": (lambda shop: shop.pki.proxy(shop.alice()), None),
    "stale CRL": (BAD["stale CRL"][0], "no current revocation list"),
    "CRL of tomorrow": (BAD["CRL of tomorrow"][0], "no current revocation list"),
    "forged CRL": (forged_crl, "no current revocation list"),
    "revoked": (revoked, "certificate revoked"),
    "proxy of a revoked user": (revoked_proxy, "certificate revoked"),
    "revoked subordinate authority": (revoked_subordinate, "certificate revoked"),
}


@pytest.mark.parametrize("name", IF_PRESENT)
def test_if_present(shop: Workshop, name: str) -> None:
    make, reason = IF_PRESENT[name]
    shop.settings["crl"] = "if-present"
    verdict = shop.verdict(make(shop))
    assert verdict.accepted == (reason is None)
    assert (reason or "") in verdict.reason


def test_what_cannot_be_shown_is_refused_too(shop: Workshop) -> None:
    path = shop.directory / "nothing.pem"
    trust = TrustSettings(shop.trust_dir)
    assert "cannot be read" in explain(path, trust, clock=SystemClock()).reason
    path.write_text("not a certificate")
    assert "cannot be shown" in explain(path, trust, clock=SystemClock()).reason
    certificate = shop.alice().certificate
    assert "cannot be shown" in explain(certificate, trust, clock=SystemClock()).reason


def test_no_certificate_is_refused(shop: Workshop) -> None:
    gate = Gate(TrustSettings(shop.trust_dir), shop.pki.host(), SystemClock())
    context = gate.server_context()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    with pytest.raises(ssl.SSLError) as caught:  # noqa: PT012
        for _ in range(5):
            for side in (theirs, ours):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    assert "without a certificate" in str(gate.refusal(context, caught.value))
