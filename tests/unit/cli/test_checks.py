"""``srm-dicom check``: who else may read or change files, the database, and clocks."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from srm_dicom.cli import checks
from srm_dicom.client.exchange import Response
from srm_dicom.daemon.common import Common
from srm_dicom.db import database
from srm_dicom.demo.site import DemoSite

HOUR = timedelta(hours=1)


@pytest.fixture
def site(tmp_path):
    made = DemoSite(tmp_path / "site")
    made.write()
    return made


def check(site, name):
    return next(one for one in checks.run(site.config) if one.name == name)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("etc/srm-dicom.toml", 0o646),
        ("etc/plugins.d/dicom.toml", 0o666),
        ("etc/projects.d", 0o777),
        ("etc/projects.d/demo.toml", 0o602),
        ("etc/ban.list", 0o666),
        ("pki/certificates", 0o777),
        ("pki/issued/host-localhost-key.pem", 0o644),
        ("inner/secrets", 0o750),
        ("inner/secrets/seal.key", 0o640),
        ("inner/secrets/dicom", 0o711),
    ],
)
def test_who_may_do_too_much(site, name, mode):
    (site.directory / "inner/secrets/dicom").mkdir(mode=0o700)
    assert check(site, "modes of files").passed
    (site.directory / name).chmod(mode)
    found = check(site, "modes of files")
    assert not found.passed
    assert name in found.detail


def test_a_password_of_a_database_is_not_for_everybody(site):
    text = site.config.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("database") and "outer" in line]
    site.config.write_text(text.replace(line, 'database = "postgresql://srm:secret@db.example.org/srm"'))
    site.config.chmod(0o644)
    assert "can be read by everybody" in check(site, "modes of files").detail
    site.config.chmod(0o640)
    assert check(site, "modes of files").passed


def test_a_database_that_is_locked_or_damaged(site, monkeypatch):
    monkeypatch.setitem(database._PRAGMAS, "busy_timeout", 100)
    assert check(site, "database").passed
    path = urlsplit(Common(site.config, "test").config.database).path
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "does not answer" in check(site, "database").detail
    other.execute("ROLLBACK")
    other.close()


def test_a_plugin_that_cannot_be_used_is_one_line_among_the_others(site):
    plugins = site.config.parent / "plugins.d"
    (plugins / "aaa.toml").write_text('plugin = "dicom"\nprojects = []\n[settings]\nnonsense = 1\n')
    (plugins / "bbb.toml").write_text("nonsense")
    found = {one.name: one for one in checks.run(site.config)}
    assert "nonsense" in found["plugins.d/aaa.toml"].detail
    assert not found["plugins.d/aaa.toml"].passed
    assert not found["plugins.d/bbb.toml"].passed
    assert "PACS archive: C-ECHO" in found
    shutil.rmtree(plugins)
    assert not check(site, "plugins").passed


def test_a_metadata_server_that_does_not_answer(site):
    (endpoint,) = Common(site.config, "test").config.catalogues.metadata
    assert not check(site, f"reach {endpoint}").passed


@pytest.mark.parametrize(("apart", "passes"), [(timedelta(), True), (HOUR, False), (-HOUR, False)])
def test_clocks_that_differ(site, monkeypatch, apart, passes):
    date = format_datetime(datetime.now(UTC) + apart, usegmt=True)
    answer = Response(200, (("date", date),), b"")
    client = SimpleNamespace(request=lambda *_: answer, close=lambda: None)
    monkeypatch.setattr(checks, "HttpClient", lambda *_, **__: client)
    found = [one for one in checks.run(site.config) if one.name.startswith("reach https://")]
    assert found
    assert {one.passed for one in found} == {passes}
