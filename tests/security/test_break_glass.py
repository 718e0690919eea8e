"""Breaking the glass: a role of its own reads in an emergency; an alarm is on disk before anything leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.audit.event import Action, Outcome
from srm_dicom.audit.line import decode
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import SystemClock
from srm_dicom.errors import InternalError
from srm_dicom.identity.explain import _client, _meet
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import BREAK_GLASS, Principal
from srm_dicom.rights.acl import PERMISSIONS, Acl
from srm_dicom.rights.evaluate import EMERGENCY, decide
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo

ROLE = "/biomed.test/Role=emergency"
DOCTOR = Principal("/CN=doctor", (ROLE,), False, datetime(2040, 1, 1, tzinfo=UTC), emergency=True)


def events(house: Any) -> list[tuple[Action, Outcome, str]]:
    lines = [decode(raw)[0] for raw in house.audit.path.read_bytes().splitlines()]
    return [(line.event.action, line.event.outcome, line.event.rule) for line in lines]


@pytest.mark.parametrize("text", ["", "other::-", 'user:"/CN=doctor":x', 'user:"/CN=doctor":r,mask::-'])
def test_it_reads_whatever_the_acl_says_and_changes_nothing(text: str) -> None:
    allowed = {letter for letter in PERMISSIONS if decide(Acl.parse(text), "", DOCTOR, letter).allowed}
    assert allowed - EMERGENCY == ({"x"} if "x" in text else set())
    assert allowed >= EMERGENCY


def test_what_the_acl_grants_needs_no_glass() -> None:
    assert decide(Acl.parse("other::r"), "", DOCTOR, "r").rule == "other::r"


def test_an_alarm_stands_before_every_release(house: Any) -> None:
    doctor = house.roles["emergency"]
    before = len(events(house))
    status, _, content = house.https("GET", house.heart.file, doctor)
    assert (status[:3], len(content) > 0) == ("200", True)
    assert house.keys.get_keys(doctor, [house.heart.key_id])
    house.command(doctor, ["getattr", house.heart.entry, "PatientName"])
    made = events(house)[before:]
    released = [number for number, (action, _, _) in enumerate(made) if action in RELEASES]
    assert len(released) >= 3
    for number in released:
        assert made[number - 1][0] is Action.ALARM
        assert BREAK_GLASS in made[number][2]


RELEASES = {Action.BYTES_RELEASED, Action.KEY_RELEASED, Action.QUERY}


def test_without_the_alarm_nothing_leaves(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AuditLog._append

    def failing(log: AuditLog, event: Any) -> None:
        if event.action is Action.ALARM:
            raise InternalError("the disk is full")
        real(log, event)

    monkeypatch.setattr(AuditLog, "_append", failing)
    with pytest.raises(InternalError):
        house.keys.get_keys(house.roles["emergency"], [house.heart.key_id])


def test_what_has_ended_stays_closed(house: Any) -> None:
    status, _, _ = house.https("GET", house.old.file, house.roles["emergency"])
    assert status.startswith("404")


def enter(vo: TestVo, directory: Path, *fqans: str, role: str | None = ROLE, **options: Any) -> Principal:
    pki = vo.pki
    trust = TrustSettings(pki.trust_dir, vomsdir=vo.vomsdir, emergency_role=role)
    proxy = vo.proxy(pki.user("Doctor"), *fqans, **options)
    gate = Gate(trust, pki.host(), SystemClock())
    return _meet(_client(proxy.certificate, None, directory), gate)[0]


def test_only_who_asked_for_the_role_has_it_and_no_job(tmp_path: Path) -> None:
    vo = TestVo(TestPki(tmp_path, fast=True), "biomed.test")
    assert enter(vo, tmp_path, ROLE, "/biomed.test").emergency
    assert not enter(vo, tmp_path, "/biomed.test").emergency
    assert not enter(vo, tmp_path, f"{ROLE}2").emergency
    assert not enter(vo, tmp_path, ROLE, role=None).emergency
    assert not enter(vo, tmp_path, ROLE, limited=True).emergency


def test_a_doctor_who_has_not_broken_the_glass_is_nobody() -> None:
    assert not decide(Acl(), "", replace(DOCTOR, emergency=False), "r").allowed
