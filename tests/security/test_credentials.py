"""Every credential of the table against the gate, through real handshakes."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from srm_dicom.cli.admin import main
from srm_dicom.clock import SystemClock
from srm_dicom.identity.explain import Verdict, explain
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.cases import CASES, Case, Workshop
from srm_dicom.testing.cases.workshop import HOST


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Undo what a command does to the logs of this process."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop.at(tmp_path)


def verdict(shop: Workshop, case: Case, **settings: object) -> Verdict:
    credential = case.make(shop)
    trust = TrustSettings(shop.trust_dir, vomsdir=shop.vo.vomsdir, **(shop.settings | settings))  # type: ignore[arg-type]
    return explain(credential.certificate, trust, clock=SystemClock(), host=HOST)


def test_the_table_is_large_enough() -> None:
    accepted = sum(case.accepted for case in CASES.values())
    assert accepted >= 60
    assert len(CASES) - accepted >= 120


@pytest.mark.parametrize("title", CASES)
def test_case(shop: Workshop, title: str) -> None:
    case = CASES[title]
    outcome = verdict(shop, case)
    assert outcome.accepted == case.accepted, outcome.reason
    assert outcome.dn == (case.dn or "")
    assert (outcome.fqans, outcome.limited) == (case.fqans, case.limited)
    assert case.reason in outcome.reason
    assert outcome.reason.isprintable()
    assert case.accepted or outcome.reason


@pytest.mark.interop("python:M2Crypto")
@pytest.mark.parametrize("title", CASES)
def test_m2crypto_says_the_same(shop: Workshop, title: str) -> None:
    """Hold the other back end to the same table; it cannot tell whose certificate it refuses."""
    case = CASES[title]
    outcome = verdict(shop, case, tls="m2crypto")
    assert outcome.accepted == case.accepted, outcome.reason
    assert (outcome.dn, outcome.fqans, outcome.limited) == (case.dn or "", case.fqans, case.limited)
    assert case.accepted or outcome.reason


@pytest.mark.parametrize("title", [title for title in CASES if title.startswith("crl: ")])
def test_if_present(shop: Workshop, title: str) -> None:
    """Only the complete absence of lists is forgiven."""
    outcome = verdict(shop, CASES[title], crl="if-present")
    forgiven = {"crl: no CRL", "crl: subordinate authority without CRL"}
    assert outcome.accepted == (CASES[title].accepted or title in forgiven), outcome.reason


@pytest.mark.parametrize(
    "title",
    [
        "proxy: limited",
        "voms: role first",
        "voms: tampered",
        "file: junk",
        "file: encrypted key",
        "crl: revoked",
        "path: unreadable policy",
    ],
)
def test_the_command_says_the_same(shop: Workshop, title: str) -> None:
    case = CASES[title]
    file = case.make(shop).certificate
    options = ["--trust-dir", str(shop.trust_dir), "--vomsdir", str(shop.vo.vomsdir), "--host", HOST]
    done = CliRunner().invoke(main, ["explain-credential", str(file), *options, "--json"])
    assert done.exit_code == (0 if case.accepted else 1), done.output
    trust = TrustSettings(shop.trust_dir, vomsdir=shop.vo.vomsdir)
    said = explain(file, trust, clock=SystemClock(), host=HOST)
    assert json.loads(done.stdout) == json.loads(json.dumps(asdict(said)))


@pytest.mark.parametrize("place", ["missing", ".", "/dev/null"])
def test_the_command_copes_with_what_is_no_file(shop: Workshop, place: str) -> None:
    file = shop.directory / place
    for trust in (shop.trust_dir, shop.directory / "missing"):
        arguments = ["explain-credential", str(file), "--trust-dir", str(trust), "--host", "", "--json"]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 1
        assert '"accepted": false' in done.stdout
        assert '"reason": ""' not in done.stdout


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
