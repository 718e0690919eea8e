"""VOMS attribute certificates, good and bad, through the gate; a bad one never grants anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import core
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import trust as trust_module
from srm_dicom.identity.attributecert import TARGETS
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.explain import Verdict, explain
from srm_dicom.identity.gate import TrustSettings
from srm_dicom.identity.voms import Verifier
from srm_dicom.testing.certificates import (
    Authority,
    key_usage,
    name_of,
    new_ec_key,
    read_credential,
    subject_hash,
)
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo, extension

BASE = (("DC", "test"), ("DC", "mdm"))
VO = "biomed.test"
GROUPS = ("/biomed.test/radiology/Role=physician", "/biomed.test", "/biomed.test/radiology")
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def vo(tmp_path: Path) -> TestVo:
    return TestVo(TestPki(tmp_path, fast=True), VO)


def verdict(vo: TestVo, credential: Credential, host: str = "localhost") -> Verdict:
    trust = TrustSettings(vo.pki.trust_dir, vomsdir=vo.vomsdir)
    return explain(credential.certificate, trust, clock=SystemClock(), host=host)


def alice(vo: TestVo) -> Credential:
    return vo.pki.user("Alice")


def carrying(vo: TestVo, *certificates: bytes) -> Credential:
    return vo.pki.proxy(alice(vo), extensions=[(extension(certificates), False)])


def targets(*uris: str, nested: bool) -> tuple[str, bool, bytes]:
    def tlv(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    names = b"".join(tlv(0xA0, tlv(0x86, uri.encode())) for uri in uris)
    inner = tlv(0x30, names)
    return TARGETS, True, tlv(0x30, inner) if nested else inner


# --- good ------------------------------------------------------------------------------------------


def test_groups_come_in_the_order_of_the_credential(vo: TestVo) -> None:
    assert verdict(vo, vo.proxy(alice(vo), *GROUPS)).fqans == GROUPS


def test_null_role_and_capability_are_dropped(vo: TestVo) -> None:
    credential = vo.proxy(alice(vo), "/biomed.test/a/Role=NULL/Capability=NULL", "/biomed.test/Role=NULL")
    assert verdict(vo, credential).fqans == ("/biomed.test/a", "/biomed.test")


def test_groups_survive_further_proxies(vo: TestVo) -> None:
    credential = vo.pki.proxy(vo.proxy(alice(vo), *GROUPS), limited=True)
    assert verdict(vo, credential) == Verdict(True, "/DC=test/DC=mdm/CN=Alice", GROUPS, True, "")


def test_the_certificate_nearest_to_the_leaf_counts(vo: TestVo) -> None:
    outer = vo.proxy(vo.proxy(alice(vo), *GROUPS), "/biomed.test")
    assert verdict(vo, outer).fqans == ("/biomed.test",)


def test_two_organisations(vo: TestVo) -> None:
    other = TestVo(vo.pki, "astro.test")
    both = (vo.attributes(alice(vo), "/biomed.test"), other.attributes(alice(vo), "/astro.test/dark"))
    assert verdict(vo, carrying(vo, *both)).fqans == ("/biomed.test", "/astro.test/dark")


def test_one_bad_of_two_costs_only_itself(vo: TestVo) -> None:
    good = vo.attributes(alice(vo), "/biomed.test")
    stale = vo.attributes(alice(vo), "/biomed.test/a", not_after=NOW - DAY)
    outcome = verdict(vo, carrying(vo, stale, good))
    assert outcome.fqans == ("/biomed.test",)
    assert "attribute certificate 1: not valid now" in outcome.reason


@pytest.mark.parametrize("nested", [True, False])
def test_targets(vo: TestVo, nested: bool) -> None:
    listed = targets("https://se.example.org:8446/srm", "other.example.org", nested=nested)
    credential = carrying(vo, vo.attributes(alice(vo), "/biomed.test", extensions=[listed]))
    assert verdict(vo, credential, host="se.example.org").fqans == ("/biomed.test",)
    assert verdict(vo, credential, host="else.example.org").fqans == ()


def test_a_server_below_a_subordinate_authority(vo: TestVo) -> None:
    authority = subordinate(vo)
    server, key = server_of(authority)
    path = vo.vomsdir / VO / "second.lsc"
    path.write_text("/DC=test/DC=mdm/CN=voms2\n/DC=test/DC=mdm/CN=Sub CA\n")
    made = vo.attributes(
        alice(vo), "/biomed.test", signer=server, key=key, embedded=[server, authority.certificate]
    )
    assert verdict(vo, carrying(vo, made)).fqans == ("/biomed.test",)
    with_shorter_path = Authority.create(
        name_of(*BASE, ("CN", "Sub CA")), key=authority.key, issuer=vo.pki.authority, path_length=0
    )
    made = vo.attributes(
        alice(vo), "/biomed.test", signer=server, key=key, embedded=[server, with_shorter_path.certificate]
    )
    assert verdict(vo, carrying(vo, made)).fqans == ("/biomed.test",)


def test_without_a_vomsdir_there_are_no_groups(vo: TestVo) -> None:
    outcome = explain(
        vo.proxy(alice(vo), *GROUPS).certificate, TrustSettings(vo.pki.trust_dir), clock=SystemClock()
    )
    assert (outcome.accepted, outcome.fqans) == (True, ())


def test_a_session_ends_with_its_groups(vo: TestVo) -> None:
    end = NOW + timedelta(hours=1)
    certificate = vo.attributes(alice(vo), "/biomed.test", not_after=end)
    verifier = Verifier(vo.vomsdir, trust_module.load(vo.pki.trust_dir), frozenset(), NOW)
    assert verifier.verify(certificate, vo.pki.end_entity(alice(vo))).not_after == end


def test_a_banned_group_does_not_enter(vo: TestVo, tmp_path: Path) -> None:
    bans = tmp_path / "bans"
    bans.write_text('"/biomed.test/radiology/*"\n')
    trust = TrustSettings(vo.pki.trust_dir, vomsdir=vo.vomsdir, ban_file=bans)
    outcome = explain(vo.proxy(alice(vo), *GROUPS).certificate, trust, clock=SystemClock())
    assert not outcome.accepted
    assert "banned here" in outcome.reason


# --- bad -------------------------------------------------------------------------------------------


def subordinate(vo: TestVo) -> Authority:
    made = Authority.create(name_of(*BASE, ("CN", "Sub CA")), key=new_ec_key(), issuer=vo.pki.authority)
    made.install(vo.pki.trust_dir, "/DC=test/DC=mdm/*")
    return made


def server_of(authority: Authority, usage: str = "digital_signature", **dates: datetime) -> tuple:
    key = new_ec_key()
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(usage), True),
    ]
    return authority.issue(name_of(*BASE, ("CN", "voms2")), key.public_key(), extensions, **dates), key


def changed(*fqans: str, **changes: object) -> Callable[[TestVo], Credential]:
    return lambda vo: carrying(vo, vo.attributes(alice(vo), *(fqans or ("/biomed.test",)), **changes))


def by_server(
    authority_of: Callable[[TestVo], Authority], **options: object
) -> Callable[[TestVo], Credential]:
    def make(vo: TestVo) -> Credential:
        authority = authority_of(vo)
        server, key = server_of(authority, **options)
        path = vo.vomsdir / VO / "second.lsc"
        issuer = "".join(
            f"/{'DC' if attribute.oid.dotted_string.startswith('0.9') else 'CN'}={attribute.value}"
            for attribute in server.issuer
        )
        path.write_text(f"/DC=test/DC=mdm/CN=voms2\n{issuer}\n")
        return carrying(vo, vo.attributes(alice(vo), "/biomed.test", signer=server, key=key))

    return make


def for_bob(vo: TestVo) -> Credential:
    return carrying(vo, vo.attributes(vo.pki.user("Bob"), "/biomed.test"))


def unlisted(vo: TestVo) -> Credential:
    (vo.vomsdir / VO / "voms.mdm.test.lsc").write_text("/CN=somebody\n/CN=else\n")
    return vo.proxy(alice(vo), "/biomed.test")


def unreadable_list(vo: TestVo) -> Credential:
    (vo.vomsdir / VO / "voms.mdm.test.lsc").write_text("nothing\n")
    return vo.proxy(alice(vo), "/biomed.test")


def swapped_list(vo: TestVo) -> Credential:
    path = vo.vomsdir / VO / "voms.mdm.test.lsc"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    return vo.proxy(alice(vo), "/biomed.test")


def tampered(vo: TestVo) -> Credential:
    made = vo.attributes(alice(vo), "/biomed.test/radiology")
    return carrying(vo, made.replace(b"/biomed.test/radiology", b"/biomed.test/physician"))


def revoked_server(vo: TestVo) -> Credential:
    vo.pki.revoke(vo.server)
    return vo.proxy(alice(vo), "/biomed.test")


def without_crl(vo: TestVo) -> Authority:
    authority = subordinate(vo)
    (vo.pki.trust_dir / f"{subject_hash(authority.certificate.subject)}.r0").unlink()
    return authority


def untrusted(_vo: TestVo) -> Authority:
    return Authority.create(name_of(*BASE, ("CN", "Rogue")), key=new_ec_key())


def user_as_authority(vo: TestVo) -> Authority:
    chain, key = read_credential(vo.pki.user("Mallory"))
    return Authority(chain[0], key)


def foreign_policy(vo: TestVo) -> Authority:
    authority = Authority.create(name_of(*BASE, ("CN", "Far CA")), key=new_ec_key())
    authority.install(vo.pki.trust_dir, "/DC=far/*")
    return authority


def two_organisations_in_one(vo: TestVo) -> Credential:
    other = TestVo(vo.pki, "astro.test")
    return carrying(vo, other.attributes(alice(vo), "/biomed.test", uri="astro.test://x:1"))


def self_signed_server(vo: TestVo) -> Credential:
    root = vo.pki.authority
    return carrying(vo, vo.attributes(alice(vo), "/biomed.test", signer=root.certificate, key=root.key))


def not_der(value: bytes) -> Callable[[TestVo], Credential]:
    def make(vo: TestVo) -> Credential:
        broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5"), value)
        return vo.pki.proxy(alice(vo), extensions=[(broken, False)])

    return make


def deep(levels: int) -> bytes:
    value = b""
    for _ in range(levels):
        value = core.Sequence(contents=value).dump()
    return bytes(value)


BAD: dict[str, tuple[Callable[[TestVo], Credential], str]] = {
    "made for another user": (for_bob, "made for another certificate"),
    "holder of another authority": (
        changed(holder_issuer=name_of(("CN", "Other"))),
        "somebody of another authority",
    ),
    "holder with another serial": (changed(holder_serial=7), "made for another certificate"),
    "expired": (changed(not_before=NOW - 2 * DAY, not_after=NOW - DAY), "not valid now"),
    "not yet valid": (changed(not_before=NOW + DAY, not_after=NOW + 2 * DAY), "not valid now"),
    "unknown critical extension": (
        changed(extensions=[("1.2.3.4", True, b"\x05\x00")]),
        "unknown critical extension",
    ),
    "target twice": (
        changed(extensions=[targets("localhost", nested=True), targets("localhost", nested=False)]),
        "twice",
    ),
    "empty targets": (changed(extensions=[(TARGETS, True, b"\x30\x00")]), "restricted to other hosts"),
    "targets nested deep": (changed(extensions=[(TARGETS, True, deep(40))]), "nested too deep"),
    "groups of another organisation": (changed("/astro.test/dark"), "another virtual organisation"),
    "one group of another organisation": (
        changed("/biomed.test", "/biomed.testing/x"),
        "another virtual organisation",
    ),
    "organisation that is not listed": (changed("/astro.test", uri="astro.test://v:1"), "not a server of"),
    "organisation with a path": (changed("/../x", uri="../x://v:1"), "not the name"),
    "organisation with dots": (changed("/../x", uri="..://v:1"), "not the name"),
    "no organisation": (changed("/biomed.test", uri="nothing"), "not the name"),
    "group with a newline": (changed("/biomed.test/a\n"), "not written like one"),
    "group with a NUL": (changed("/biomed.test/a\0b"), "not written like one"),
    "group with a space": (changed("/biomed.test/a b"), "not written like one"),
    "group without a slash": (changed("biomed.test"), "not written like one"),
    "group of other letters": (changed("/biomed.test/ä"), "malformed"),
    "too many groups": (changed(*(f"/biomed.test/{number}" for number in range(1001))), "more than 1000"),
    "groups of one organisation under the name of another": (
        two_organisations_in_one,
        "another virtual organisation",
    ),
    "no server certificate": (changed(embedded=[]), "without the certificate of its server"),
    "issuer is not the server": (changed(issuer=name_of(("CN", "Other"))), "its issuer is not the server"),
    "server not listed": (unlisted, "is not a server of"),
    "list that cannot be read": (unreadable_list, "is not a server of"),
    "list upside down": (swapped_list, "is not a server of"),
    "tampered": (tampered, "the signature is wrong"),
    "signed with another key": (changed(key=new_ec_key()), "the signature is wrong"),
    "SHA-1": (changed(hash_name="sha1"), "weak hash sha1"),
    "outer algorithm is another": (changed(outer_hash_name="sha512"), "algorithm differ"),
    "revoked server": (revoked_server, "certificate revoked"),
    "server of an untrusted authority": (by_server(untrusted), "issuer is not known"),
    "server signed by a user": (by_server(user_as_authority), "issuer is not known"),
    "server outside the signing policy": (by_server(foreign_policy), "does not cover this name"),
    "server of an authority without CRL": (by_server(without_crl), "no current revocation list"),
    "server not for signing": (by_server(subordinate, usage="key_encipherment"), "not for signing"),
    "server expired": (
        by_server(subordinate, not_before=NOW - 2 * DAY, not_after=NOW - DAY),
        "not valid now",
    ),
    "signed by the root itself": (self_signed_server, "not an authority that is trusted here"),
    "extension is not DER": (not_der(b"junk"), "malformed"),
    "extension is empty": (not_der(b""), "malformed"),
    "extension without certificates": (not_der(b"\x30\x00"), "malformed"),
    "deep nesting": (not_der(deep(3000)), "malformed"),
    "too many certificates": (not_der(b"\x30\x14\x30\x12" + b"\x30\x00" * 9), "malformed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(vo: TestVo, name: str) -> None:
    make, reason = BAD[name]
    outcome = verdict(vo, make(vo))
    assert outcome.accepted
    assert outcome.fqans == ()
    assert reason in outcome.reason
    assert outcome.reason.isprintable()


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verifier, bytes, x509.Certificate]:
    vo = TestVo(TestPki(tmp_path_factory.mktemp("vo"), fast=True), VO)
    verifier = Verifier(vo.vomsdir, trust_module.load(vo.pki.trust_dir), frozenset(), NOW)
    der = vo.attributes(alice(vo), *GROUPS)
    end_entity = vo.pki.end_entity(alice(vo))
    assert verifier.verify(der, end_entity).fqans == GROUPS
    return verifier, der, end_entity


@given(seed=st.integers(0, 2**32))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutation_is_believed(specimen: tuple[Verifier, bytes, x509.Certificate], seed: int) -> None:
    verifier, der, end_entity = specimen
    chance = random.Random(seed)
    mutated = bytearray(der)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(mutated))
        kind = chance.randrange(3)
        if kind == 0:
            mutated[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del mutated[at : at + chance.randint(1, 8)]
        else:
            mutated[at:at] = chance.randbytes(chance.randint(1, 8))
    if bytes(mutated) == der:
        return
    with pytest.raises(NotAuthenticated):
        verifier.verify(bytes(mutated), end_entity)
