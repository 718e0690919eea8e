"""The trust directory: signing policies, revocation lists, reloading."""

from __future__ import annotations

import contextlib
import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn, policy
from srm_dicom.identity.policy import SigningPolicies
from srm_dicom.identity.trust import TrustDirectory, load
from srm_dicom.testing.certificates import Authority, name_of, new_ec_key
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.pki import TestPki

CA = "/DC=org/CN=CA"


def entry(conditions: str, right: str = "pos_rights globus CA:sign") -> str:
    return f"# a comment\n\naccess_id_CA   X509  '{CA}'\n{right}\ncond_subjects globus {conditions}\n"


@pytest.mark.parametrize(
    ("conditions", "subject"),
    [
        ("""'"/DC=org/*"'""", "/DC=org/CN=x"),
        ("""'"/DC=no/*" "/DC=org/*"'""", "/DC=org/CN=x"),
        (""""'/DC=no/*' '/DC=org/*'\"""", "/DC=org/CN=x"),
        ("""'/DC=org/O=two words/*'""", "/DC=org/O=two words/CN=x"),
        ("""/DC=org/*""", "/DC=org/CN=x"),
        ("""'"/DC=org/CN=?"'""", "/DC=org/CN=x"),
        ("""'"/DC=org/CN=host\\/*"'""", "/DC=org/CN=host/a.org"),
        ("""'"/DC=org/Email=*"'""", "/DC=org/emailAddress=a@b"),
        ("""'"*"'""", "/DC=org/CN=x"),
    ],
)
def test_a_policy_covers(conditions: str, subject: str) -> None:
    SigningPolicies(policy.parse(entry(conditions))).check(CA, subject)


@pytest.mark.parametrize(
    ("conditions", "subject"),
    [
        ("""'"/DC=org/*"'""", "/DC=org"),
        ("""'"/DC=org/*"'""", "/dc=ORG/CN=x"),
        ("""'"/DC=org/*"'""", "/O=x/DC=org/CN=x"),
        ("""'"/DC=o.g/*"'""", "/DC=org/CN=x"),
        ("""'"/DC=org/CN=?"'""", "/DC=org/CN=xy"),
        ("""'"/DC=org/CN=x"'""", "/DC=org/CN=x\n"),
    ],
)
def test_a_policy_does_not_cover(conditions: str, subject: str) -> None:
    with pytest.raises(NotAuthenticated, match="does not cover"):
        SigningPolicies(policy.parse(entry(conditions))).check(CA, subject)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "access_id_CA X509 'not a name'",
        "pos_rights globus CA:sign",
        "cond_subjects globus '\"/x\"'",
        entry("'\"*\"'", right="neg_rights globus CA:sign"),
        entry("'\"*\"'", right="pos_rights globus CA:other"),
        entry("'\"*\"'", right="pos_rights other CA:sign"),
        f"access_id_ANYBODY X509 '{CA}'\n",
    ],
)
def test_what_is_not_understood_is_refused_whole(text: str) -> None:
    with pytest.raises(InvalidRequest):
        policy.parse(text)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, entry(text)):
        with contextlib.suppress(InvalidRequest):
            policy.parse(candidate)


def test_a_right_does_not_leak_into_the_next_entry() -> None:
    other = "access_id_CA X509 '/CN=other'\ncond_subjects globus '\"*\"'\n"
    with pytest.raises(InvalidRequest):
        policy.parse(entry("'\"/DC=org/*\"'") + other)


@pytest.fixture
def pki(tmp_path: Path) -> TestPki:
    return TestPki(tmp_path, fast=True)


def test_a_change_is_seen(pki: TestPki) -> None:
    directory = TrustDirectory(pki.trust_dir, SystemClock(), look_every_s=0)
    first = directory.current()
    assert directory.current() is first
    Authority.create(name_of(("O", "new"), ("CN", "CA")), key=new_ec_key()).install(pki.trust_dir, "/O=new/*")
    directory.current().policies.check("/O=new/CN=CA", "/O=new/CN=x")
    for path in pki.trust_dir.glob("*.signing_policy"):
        path.unlink()
    with pytest.raises(NotAuthenticated):
        directory.current().policies.check("/O=new/CN=CA", "/O=new/CN=x")


def test_a_directory_that_goes_away_is_an_error_not_the_old_trust(pki: TestPki) -> None:
    directory = TrustDirectory(pki.trust_dir, SystemClock(), look_every_s=0)
    directory.current()
    pki.trust_dir.rename(pki.directory / "elsewhere")
    with pytest.raises(ConfigError):
        directory.current()


def test_files_that_are_no_certificates_are_passed_over(pki: TestPki) -> None:
    (pki.trust_dir / "00000000.0").write_text("nothing")
    (pki.trust_dir / "00000001.0").mkdir()
    (pki.trust_dir / "00000002.signing_policy").write_bytes(b"\xff\xfe")
    (pki.trust_dir / "00000003.0").symlink_to("nowhere")
    trust = load(pki.trust_dir)
    assert len(trust.authorities) == 1
    assert len(trust.policies.rules) == 1


def test_revocation(pki: TestPki) -> None:
    alice, root = pki.end_entity(pki.user("Alice")), pki.authority.certificate
    load(pki.trust_dir).revocations.check(alice, root, datetime.now(UTC), required=True)
    pki.revoke(pki.user("Alice"))
    with pytest.raises(NotAuthenticated, match="/DC=test/DC=mdm/CN=Alice: certificate revoked"):
        load(pki.trust_dir).revocations.check(alice, root, datetime.now(UTC), required=True)
    with pytest.raises(NotAuthenticated, match="no current revocation list"):
        load(pki.trust_dir).revocations.check(alice, root, datetime(2000, 1, 1, tzinfo=UTC), required=False)


def test_a_pki_that_is_opened_again_goes_on(pki: TestPki) -> None:
    pki.revoke(pki.user("Alice"))
    again = TestPki(pki.directory, fast=True)
    assert again.authority.certificate == pki.authority.certificate
    assert again.user("Alice") == pki.user("Alice")
    again.revoke(again.user("Bob"))
    trust, root = load(pki.trust_dir), pki.authority.certificate
    for name in ("Alice", "Bob"):
        with pytest.raises(NotAuthenticated, match="revoked"):
            trust.revocations.check(
                again.end_entity(again.user(name)), root, datetime.now(UTC), required=True
            )


@pytest.mark.parametrize("kind", ["0", "signing_policy", "r0"])
def test_a_process_that_has_no_descriptor_left_reads_again(
    pki: TestPki, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What could not be opened at that moment is not gone until somebody touches the directory."""
    (path,) = pki.trust_dir.glob(f"*.{kind}")
    clock = FakeClock(datetime.now(UTC))
    directory, real = TrustDirectory(pki.trust_dir, clock), Path.open
    user = x509.load_pem_x509_certificates(pki.user("Zoe").certificate.read_bytes())[0]
    name = dn.canonical(user.issuer)

    def check() -> None:
        trust = directory.current()
        assert trust.is_anchor(pki.authority.certificate)
        trust.policies.check(name, dn.canonical(user.subject))
        trust.revocations.check(user, pki.authority.certificate, clock.now(), required=True)

    def scarce(self: Path, *arguments: object, **options: object) -> object:
        if self == path:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self, *arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", scarce)
        with pytest.raises((ConfigError, NotAuthenticated)):
            check()
    clock.advance(2)
    check()
