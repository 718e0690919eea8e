"""``srm-dicom keys of-patient`` and ``erase``: what is wrong with a file is said without a word of it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from srm_dicom.audit.log import AuditLog
from srm_dicom.cli.admin import main
from srm_dicom.clock import SystemClock
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.daemon.inner import make_journal
from srm_dicom.demo.site import DemoSite
from srm_dicom.registry.erasure import Belongings, Erasure
from srm_dicom.registry.journal import Group
from srm_dicom.rights.project import Release

PATIENT = "CANARY-4711"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    made = DemoSite(tmp_path_factory.mktemp("site"))
    made.write()
    return made


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def run(site: DemoSite, *words: str, told: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["keys", *words, "--config", str(site.config)], input=told)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{PATIENT}\tA\tB\n".encode(), "line 1 is not"),
        (f"\n\tA {PATIENT}\n".encode(), "line 2 is not"),
        (f"{PATIENT}\xe9".encode("latin-1"), "not UTF-8"),
        (b"\n \n", "names nobody"),
        (PATIENT.encode() * 100_000, "too large"),
        (f"Bj\u00f6rn {PATIENT}\n".encode() * 60_000, "too large"),
    ],
)
@pytest.mark.parametrize("command", [("of-patient",), ("erase", "--yes")])
def test_a_file_of_patients_that_is_none(
    site: DemoSite, command: tuple[str, ...], content: bytes, reason: str
) -> None:
    done = run(site, *command, "-", told=content)
    assert done.exit_code == 15
    assert reason in done.output
    assert PATIENT not in done.output


def test_an_id_in_the_place_of_a_file_is_not_repeated(site: DemoSite, tmp_path: Path) -> None:
    done = run(site, "of-patient", str(tmp_path / PATIENT))
    assert done.exit_code == 30
    assert "No such file" in done.output
    assert PATIENT not in done.output


@pytest.mark.parametrize("text", [f"{PATIENT}\tHOSPITAL\n", f"{PATIENT}", f"\ufeff{PATIENT}\tHOSPITAL\r\n"])
def test_who_is_not_here_is_not_shown_either(site: DemoSite, text: str) -> None:
    done = run(site, "erase", "-", "--yes", told=text.encode())
    assert done.exit_code == 12
    assert "nothing of these patients is registered here" in done.output
    assert not [word for word in (PATIENT, "HOSPITAL") if word in done.output]
    audited = "".join(path.read_text() for path in (site.directory / "audit").glob("*"))
    assert PATIENT not in audited


def test_nobody_is_asked_who_cannot_answer(site: DemoSite) -> None:
    done = run(site, "erase", "-", told=PATIENT.encode())
    assert done.exit_code == 2
    assert "--yes" in done.output
    assert PATIENT not in done.output


@pytest.mark.parametrize("command", ["erase", "destroy"])
def test_no_other_administrator_waits_for_an_answer(
    site: DemoSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A ban has to be written down, and a question may stand overnight."""
    journal = make_journal(Common(site.config, ADMIN))
    series = Group("dicom", Release("demo", "basic", "v1"), "series")
    if journal.group_key(series) is None:
        journal.intend_key(series, "a-key", b"k" * 32)
        journal.confirm_key(series, "a-key")
    found = Belongings({}, [SimpleNamespace(key_id="a-key")], [], 0)  # type: ignore[list-item]
    monkeypatch.setattr(Erasure, "find", lambda *_: found)
    asked = []

    def confirm(*_: object, **__: object) -> None:
        role = f"{ADMIN}-{os.geteuid()}"
        AuditLog(site.directory / "audit", role, socket.gethostname(), SystemClock()).close()
        asked.append(True)
        raise click.Abort

    monkeypatch.setattr(click, "confirm", confirm)
    (tmp_path / "patients").write_text(PATIENT)
    done = run(site, command, "a-key" if command == "destroy" else str(tmp_path / "patients"))
    assert (asked, done.exit_code) == ([True], 1), done.output
