"""The grid's own programs make credentials for the gate and judge those of the test PKI."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.explain import Verdict, explain
from srm_dicom.identity.gate import TrustSettings
from srm_dicom.testing.certificates import Authority, name_of, new_ec_key, subject_hash
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo

ALICE = "/DC=test/DC=mdm/CN=Alice Example"
VO = "biomed.test"


@pytest.fixture
def pki(tmp_path: Path) -> TestPki:
    return TestPki(tmp_path / "pki")


def run(pki: TestPki, *command: str, fails: bool = False) -> str:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(pki.directory),
        "X509_CERT_DIR": str(pki.trust_dir),
        "X509_VOMS_DIR": str(pki.directory / "vomsdir"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout


def verdict(pki: TestPki, file: Path) -> Verdict:
    trust = TrustSettings(pki.trust_dir, vomsdir=pki.directory / "vomsdir")
    return explain(file, trust, clock=SystemClock())


def grid_proxy(pki: TestPki, *options: str, issuer: Credential | None = None) -> Path:
    issuer = issuer or pki.user("Alice Example")
    out = pki.directory / "made.pem"
    files = ("-cert", str(issuer.certificate), "-key", str(issuer.key), "-out", str(out))
    run(pki, "grid-proxy-init", "-q", "-bits", "2048", *files, *options)
    return out


@pytest.mark.interop("grid-proxy-init")
@pytest.mark.parametrize(
    ("options", "limited"), [(["-rfc"], False), (["-rfc", "-limited"], True), ([], False)]
)
def test_grid_proxy_init_makes_good_proxies(pki: TestPki, options: list[str], limited: bool) -> None:
    assert verdict(pki, grid_proxy(pki, *options)) == Verdict(True, ALICE, (), limited, "")


@pytest.mark.interop("grid-proxy-init")
def test_grid_proxy_init_extends_our_proxies(pki: TestPki) -> None:
    ours = pki.proxy(pki.user("Alice Example"), limited=True)
    assert verdict(pki, grid_proxy(pki, issuer=ours)) == Verdict(True, ALICE, (), True, "")


@pytest.mark.interop("grid-proxy-init")
@pytest.mark.parametrize(
    ("options", "reason"),
    [(["-old"], ""), (["-draft"], ""), (["-independent"], "independent"), (["-old", "-limited"], "")],
)
def test_other_kinds_are_refused(pki: TestPki, options: list[str], reason: str) -> None:
    outcome = verdict(pki, grid_proxy(pki, *options))
    assert not outcome.accepted
    assert reason in outcome.reason


@pytest.mark.interop("voms-proxy-fake")
def test_voms_proxy_fake(pki: TestPki) -> None:
    vo, alice, out = TestVo(pki, VO), pki.user("Alice Example"), pki.directory / "made.pem"
    groups = [f"/{VO}/radiology/Role=physician", f"/{VO}/Role=NULL/Capability=NULL"]
    run(
        pki,
        *("voms-proxy-fake", "-quiet", "-rfc", "-newformat", "-bits", "2048", "-hours", "12"),
        *("-cert", str(alice.certificate), "-key", str(alice.key), "-out", str(out)),
        *("-hostcert", str(vo.server.certificate), "-hostkey", str(vo.server.key)),
        *("-voms", VO, "-uri", "voms.mdm.test:15000", "-fqan", groups[0], "-fqan", groups[1]),
    )
    expected = (f"/{VO}/radiology/Role=physician", f"/{VO}")
    assert verdict(pki, out) == Verdict(True, ALICE, expected, False, "")


@pytest.mark.interop("voms-proxy-info")
def test_voms_reads_our_organisation(pki: TestPki) -> None:
    proxy = TestVo(pki, VO).proxy(pki.user("Alice Example"), f"/{VO}/radiology")
    shown = run(pki, "voms-proxy-info", "-all", "-file", str(proxy.certificate))
    assert f"attribute : /{VO}/radiology" in shown
    assert "Unable to verify" not in shown


@pytest.mark.interop("grid-proxy-info")
def test_globus_reads_our_proxies(pki: TestPki) -> None:
    proxy = pki.proxy(pki.user("Alice Example"), limited=True)
    shown = run(pki, "grid-proxy-info", "-file", str(proxy.certificate))
    assert f"identity : {ALICE}" in shown
    assert "RFC 3820 compliant limited proxy" in shown


@pytest.mark.interop("openssl")
def test_openssl_verifies_what_the_pki_issues(pki: TestPki) -> None:
    alice = pki.user("Alice Example")
    proxy = pki.proxy(pki.proxy(alice))
    check = ("openssl", "verify", "-allow_proxy_certs", "-crl_check_all", "-CApath", str(pki.trust_dir))
    for file in (alice.certificate, pki.host().certificate, proxy.certificate):
        assert "OK" in run(pki, *check, "-untrusted", str(file), str(file))
    pki.revoke(alice)
    run(pki, *check, "-untrusted", str(proxy.certificate), str(proxy.certificate), fails=True)


@pytest.mark.interop("openssl")
@pytest.mark.parametrize(
    "name",
    [
        name_of(("C", "CH"), ("O", "Some  Grid "), ("CN", " Mixed CASE")),
        name_of(("DC", "org"), ("OU", "Zürich ÄÖ"), ("CN", "李")),
        name_of(("O", "x"), ("emailAddress", "CA@Example.ORG")),
        x509.Name(
            [
                x509.RelativeDistinguishedName(
                    [
                        x509.NameAttribute(NameOID.USER_ID, "b"),
                        x509.NameAttribute(NameOID.COMMON_NAME, "a" * 64),
                    ]
                )
            ]
        ),
        name_of(("O", "x" * 64), ("OU", "y" * 64), ("CN", "z" * 64)),
    ],
)
def test_the_subject_hash_is_that_of_openssl(pki: TestPki, name: x509.Name) -> None:
    authority = Authority.create(name, key=new_ec_key())
    authority.install(pki.trust_dir)
    stem = subject_hash(name)
    file = pki.trust_dir / f"{stem}.0"
    assert run(pki, "openssl", "x509", "-in", str(file), "-noout", "-subject_hash").strip() == stem


def test_private_files_are_private(pki: TestPki) -> None:
    alice = pki.user("Alice Example")
    for file in (alice.key, pki.proxy(alice).key, pki.host().key):
        assert file.stat().st_mode & 0o777 == 0o600
