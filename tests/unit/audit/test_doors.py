"""Logins and refusals of every door are events; a login that cannot be recorded does not happen."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mdm_metadata.server import MetadataServer, MetadataSettings
from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.event import Action, Event
from srm_dicom.audit.line import decode
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.http import HttpClient
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.clock import SystemClock
from srm_dicom.errors import InternalError, MdmError
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.pki import TestPki as Pki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.web.server import WebServer

ALICE = Principal("/CN=Alice", (), False, datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    made = AuditLog(tmp_path / "audit", "door", "here", SystemClock())
    yield made
    made.close()


def events(audit: AuditLog) -> list[Event]:
    return [decode(raw)[0].event for raw in audit.path.read_bytes().splitlines()]


def ok(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


class Doors:
    """The three kinds of door, each with the log; `visit` says hello and tells whether it was let in."""

    def __init__(self, pki: Pki, audit: AuditLog, root: Path) -> None:
        clock, trust = SystemClock(), TrustSettings(pki.trust_dir, ban_file=root / "banned")
        (root / "banned").write_text(f'"{pki.dn(pki.user("banned"))}"\n')
        (root / "files").mkdir()
        (root / "files" / "file").touch()
        gate = Gate(trust, pki.host(), clock)
        self.web = WebServer(ok, gate, host="localhost", port=0, name="web", audit=audit)
        settings = GridFtpSettings(port=0, data_ports=(0, 0))
        self.ftp = GridFtpDoor(DirectoryFiles(root / "files"), gate, settings, clock, audit)
        database = MetadataSettings(f"sqlite:///{root}/metadata.db", host="localhost", port=0)
        self.metadata = MetadataServer(database, gate, audit, clock)
        for door in (self.web, self.ftp, self.metadata):
            door.start()

    def visit(self, kind: str, who: Credential) -> bool:
        try:
            getattr(self, f"_{kind}")(who)
        except (MdmError, OSError):
            return False
        return True

    def _web(self, who: Credential) -> None:
        client = HttpClient(f"https://localhost:{self.web.port}", who, timeout_s=5)
        try:
            client.request("GET", "/")
        finally:
            client.close()

    def _gridftp(self, who: Credential) -> None:
        with GridFtpClient(who) as client:
            client.stat(f"gsiftp://localhost:{self.ftp.port}/file")

    def _metadata(self, who: Credential) -> None:
        client = MetadataClient(f"localhost:{self.metadata.port}", who, timeout_s=5)
        try:
            client.whoami()
        finally:
            client.close()

    def stop(self) -> None:
        for door in (self.web, self.ftp, self.metadata):
            door.stop()


@pytest.fixture
def doors(pki: Pki, audit: AuditLog, tmp_path: Path) -> Iterator[Doors]:
    made = Doors(pki, audit, tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("kind", ["web", "gridftp", "metadata"])
def test_logins_and_refusals_are_events(doors: Doors, pki: Pki, audit: AuditLog, kind: str) -> None:
    assert doors.visit(kind, pki.user("alice"))
    [login] = [event for event in events(audit) if event.action is Action.LOGIN]
    assert (login.dn, login.operation) == (pki.dn(pki.user("alice")), kind)
    assert not doors.visit(kind, pki.user("banned"))
    revoked = pki.user("revoked")
    pki.revoke(revoked)
    assert not doors.visit(kind, revoked)
    doors.stop()
    banned, gone = [event for event in events(audit) if event.action is Action.REFUSAL]
    assert "ban" in banned.rule
    assert "revoked" in gone.rule


@pytest.mark.parametrize("kind", ["web", "gridftp", "metadata"])
def test_a_login_that_cannot_be_recorded_does_not_happen(
    doors: Doors, pki: Pki, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    assert not doors.visit(kind, pki.user("alice"))


def test_a_flood_of_refusals_is_counted(audit: AuditLog) -> None:
    clock = FakeClock()
    door = DoorLog(audit, "srm", clock, refusals_per_minute=3)
    for _ in range(10):
        door.refused("expired")
    assert len(events(audit)) == 3
    clock.advance(61)
    door.refused("expired")
    assert events(audit)[-1].rule == "7 refusals before it were not kept; expired"


def test_a_door_without_a_log_lets_people_in() -> None:
    door = DoorLog(None, "srm", FakeClock())
    door.entered(ALICE)
    door.refused("expired")


def test_a_refusal_stands_even_if_it_cannot_be_recorded(
    audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_event: Event) -> None:
        raise InternalError("the disk is gone")

    monkeypatch.setattr(audit, "record", broken)
    DoorLog(audit, "srm", FakeClock()).refused("expired")
    with pytest.raises(InternalError):
        DoorLog(audit, "srm", FakeClock()).entered(ALICE)
