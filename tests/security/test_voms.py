"""What the table of credentials does not say about VOMS: mutations, ends, bans of groups."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import trust as trust_module
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.explain import Verdict, explain
from srm_dicom.identity.gate import TrustSettings
from srm_dicom.identity.voms import Verifier
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo, extension

BASE = (("DC", "test"), ("DC", "mdm"))
VO = "biomed.test"
GROUPS = ("/biomed.test/radiology/Role=physician", "/biomed.test", "/biomed.test/radiology")
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


def test_without_a_vomsdir_there_are_no_groups(vo: TestVo) -> None:
    outcome = explain(
        vo.proxy(alice(vo), *GROUPS).certificate, TrustSettings(vo.pki.trust_dir), clock=SystemClock()
    )
    assert (outcome.accepted, outcome.fqans) == (True, ())


def test_a_session_ends_with_its_groups(vo: TestVo) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    end = now + timedelta(hours=1)
    certificate = vo.attributes(alice(vo), "/biomed.test", not_after=end)
    verifier = Verifier(vo.vomsdir, trust_module.load(vo.pki.trust_dir), frozenset(), now)
    assert verifier.verify(certificate, vo.pki.end_entity(alice(vo))).not_after == end


def test_a_banned_group_does_not_enter(vo: TestVo, tmp_path: Path) -> None:
    bans = tmp_path / "bans"
    bans.write_text('"/biomed.test/radiology/*"\n')
    trust = TrustSettings(vo.pki.trust_dir, vomsdir=vo.vomsdir, ban_file=bans)
    outcome = explain(vo.proxy(alice(vo), *GROUPS).certificate, trust, clock=SystemClock())
    assert not outcome.accepted
    assert "banned here" in outcome.reason


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verifier, bytes, x509.Certificate]:
    vo = TestVo(TestPki(tmp_path_factory.mktemp("vo"), fast=True), VO)
    verifier = Verifier(vo.vomsdir, trust_module.load(vo.pki.trust_dir), frozenset(), datetime.now(UTC))
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
