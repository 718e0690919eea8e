"""Logs say where it broke and never what was in it."""

import io
import json
from contextlib import contextmanager

import pytest
import structlog
from click.testing import CliRunner

from srm_dicom import telemetry
from srm_dicom.cli import edssite, keyserver, user
from srm_dicom.cli.admin import COMMANDS
from srm_dicom.cli.admin import main as admin
from srm_dicom.identity.credential import Credential

SECRET = "CANARY^ALICE"


def logged(call):
    stream = io.StringIO()
    before = structlog.get_config()
    telemetry.configure("test", stream=stream)
    try:
        call(telemetry.logger("here"))
    finally:
        structlog.configure(**before)
    return json.loads(stream.getvalue())


def test_a_key_that_is_not_on_the_list_is_dropped_and_its_name_is_told():
    line = logged(lambda log: log.info("event", path="/vo", patient=SECRET))
    assert line["path"] == "/vo"
    assert line["dropped_keys"] == ["patient"]
    assert SECRET not in json.dumps(line)


def test_an_exception_leaves_its_place_and_not_its_text():
    def break_something(log):
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            log.exception("it_broke", error=type(error).__name__)

    line = logged(break_something)
    assert line["error"] == "ValueError"
    assert line["where"][-1].startswith("test_telemetry.py:")
    assert SECRET not in json.dumps(line)
    assert "dropped_keys" not in line


def warns(*_, **__):
    telemetry.logger("keys").warning("key_share_invalid", server="keys1")


@contextmanager
def connects():
    warns()
    yield


@pytest.mark.parametrize("program", [user.main, admin, keyserver.main])
def test_no_log_line_stands_in_what_a_program_prints(program, monkeypatch):
    """A key server that lies would have a line in the bytes that `mdm cat` writes."""
    before = structlog.get_config()
    monkeypatch.setitem(COMMANDS, "whoami", "user:whoami")
    monkeypatch.setattr(user, "connected", connects)
    monkeypatch.setattr(keyserver.hosting, "settings_of", warns)
    name = "public-key" if program is keyserver.main else "whoami"
    done = CliRunner().invoke(program, [name])
    assert done.stdout == ""
    assert "key_share_invalid" in done.stderr
    assert structlog.get_config() == before


def test_no_log_line_stands_in_what_glite_eds_prints(monkeypatch, capsys):
    monkeypatch.setattr(Credential, "from_environment", warns)
    monkeypatch.setattr(edssite.SiteDescription, "from_environment", lambda _: None)
    with pytest.raises(AttributeError), edssite.connected():
        pass
    shown = capsys.readouterr()
    assert ("key_share_invalid" in shown.err, shown.out) == (True, "")
