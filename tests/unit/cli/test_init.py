"""``srm-dicom init``: what it asks, what it writes, and that it never writes over anything.

Two users run what it has written in `tests/interop/test_two_users.py`.
"""

import json
import os
import shutil
import stat
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from mdm_files.settings import FileCatalogueSettings
from mdm_keys.server import KeyServerSettings
from mdm_metadata.settings import MetadataSettings
from srm_dicom import tomlfile
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.cli.admin import main
from srm_dicom.client.site import SiteDescription
from srm_dicom.config import CatalogueFile, PluginFile, load
from srm_dicom.daemon import projects
from srm_dicom.testing.pki import TestPki
from srm_plugin_dicom.settings import Settings

ANSWERS = {
    "name": "hospital",
    "vo": "biomed",
    "host": "se.example.org",
    "pacs": "MAIN PACS@pacs.hospital.example:104",
    "keys": "https://k1.example.org:8450 https://k2.example.net:8450 https://k3.example.com:8450",
    "files": "https://files.example.org:8444",
    "metadata": "meta.example.org:8823",
    "project": "heart",
    "permit": 'EC-2026-118, "amended"',
    "purpose": "left ventricle segmentation",
    "basis": "broad consent, form 7",
    "ends": "2096-02-29",
}


@pytest.fixture
def home(tmp_path):
    pki = TestPki(tmp_path / "pki")
    host = pki.host("se.example.org")
    inner = tmp_path / "etc" / "inner"
    inner.mkdir(parents=True)
    shutil.copy(host.certificate, inner / "hostcert.pem")
    return tmp_path / "etc"


def init(home, said=ANSWERS, asked=""):
    options = [word for name, answer in said.items() for word in (f"--{name}", answer)]
    command = ["init", str(home), "--data", str(home.parent / "data"), *options]
    return CliRunner().invoke(main, command, input=asked)


def tree(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_what_no_option_says_is_asked_for_and_asked_again_until_it_makes_sense(home):
    answers = dict(ANSWERS)
    lines = list(answers.values())
    lines[3:4] = ["PACS", "PACS@host:port", answers["pacs"]]
    lines[-1:] = ["tomorrow", "2001-01-01", answers["ends"]]
    done = init(home, {}, "\n".join(lines) + "\n")
    assert done.exit_code == 0, done.output
    assert done.output.count("Error: AE_TITLE@HOST:PORT") == 2
    assert done.output.count("Error: YYYY-MM-DD") == 1
    assert done.output.count("Error: a day to come") == 1
    asked = tree(home)
    shutil.rmtree(home.parent / "data")
    again = home.parent / "again"
    (again / "inner").mkdir(parents=True)
    shutil.copy(home / "inner" / "hostcert.pem", again / "inner")
    assert init(again).exit_code == 0
    assert tree(again).keys() == asked.keys()


def test_the_code_that_serves_reads_what_was_written(home):
    done = init(home)
    assert done.exit_code == 0, done.output
    outer, inner = load(home / "srm-dicom.toml"), load(home / "inner" / "srm-dicom.toml")
    assert (outer.site, outer.database, outer.audit) == (inner.site, inner.database, inner.audit)
    assert outer.catalogues == inner.catalogues
    assert outer.catalogues.threshold == 2
    assert outer.inner is None
    assert outer.trust.ban_file == home / "ban.list"
    assert outer.trust.ban_file.read_text() == ""
    assert inner.trust.host_certificate == home / "inner" / "hostcert.pem"
    assert outer.projects.resolve() == inner.projects.resolve() == home / "projects.d"
    project = projects.load(outer.projects)["heart"]
    assert (project.permit, project.members) == (ANSWERS["permit"], ())
    assert f"{project.valid_until:%Y-%m-%d}" == ANSWERS["ends"]
    assert inner.inner is not None
    (plugin,) = tomlfile.load_directory(inner.inner.plugins, PluginFile).values()
    (source,) = msgspec.convert(plugin.settings, Settings).sources
    assert (source.ae_title, source.host, source.port) == ("MAIN PACS", "pacs.hospital.example", 104)


def test_the_catalogues_know_the_site_by_its_certificate_and_its_signature(home):
    done = init(home)
    assert done.exit_code == 0, done.output
    catalogues = tomlfile.load_directory(home / "catalog.d", CatalogueFile)
    keys = msgspec.convert(catalogues["keys"].server, KeyServerSettings)
    files = msgspec.convert(catalogues["files"].server, FileCatalogueSettings)
    metadata = msgspec.convert(catalogues["metadata"].server, MetadataSettings)
    outer = load(home / "srm-dicom.toml")
    assert outer.intake is not None
    (name,) = outer.intake.stagers
    assert name.endswith("/CN=se.example.org")
    assert tuple(keys.creators) == tuple(files.registrars) == tuple(metadata.registrars) == (name,)
    assert metadata.port == 8823
    secrets = InnerSecrets.load(home.parent / "data" / "inner" / "secrets")
    signing_key = secrets.signing_key.public_key().public_bytes_raw().hex()
    description = msgspec.json.decode((home / "site.json").read_bytes(), type=SiteDescription)
    assert tuple(keys.sites) == description.signing_keys == (signing_key,)
    assert signing_key in done.output


def test_what_people_write_in_their_own_letters_is_read_again(home):
    said = {
        "permit": "№ 7 \N{GRINNING FACE}",
        "purpose": "Prüfung: \N{MATHEMATICAL SCRIPT CAPITAL X}",
        "basis": '"\\u"',
    }
    done = init(home, ANSWERS | said)
    assert done.exit_code == 0, done.output
    project = projects.load(home / "projects.d")["heart"]
    assert (project.permit, project.purpose, project.basis) == tuple(said.values())


def test_what_is_of_the_inner_zone_is_nobody_elses(home):
    assert init(home).exit_code == 0
    for top in (home / "inner", home.parent / "data" / "inner" / "secrets"):
        for path in top.rglob("*.toml" if top.name == "inner" else "*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert b"pacs.hospital.example" not in b"".join(
        content for name, content in tree(home).items() if not name.startswith("inner/")
    )


def test_the_services_read_what_a_careful_root_has_written(home):
    careful = os.umask(0o077)
    try:
        assert init(home).exit_code == 0
    finally:
        os.umask(careful)
    for path in (home / "projects.d", home / "catalog.d"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, path
    for name in ("srm-dicom.toml", "ban.list", "projects.d/heart.toml", "catalog.d/keys.toml", "site.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o644, name


def test_nothing_is_written_over(home):
    assert init(home).exit_code == 0
    before = tree(home.parent)
    done = init(home, ANSWERS | {"name": "other"})
    assert done.exit_code == 30
    assert "is there already\n       Nothing was changed." in done.output
    assert tree(home.parent) == before


def test_secrets_that_are_there_are_kept(home):
    secrets = InnerSecrets.create(home.parent / "data" / "inner" / "secrets")
    assert init(home).exit_code == 0
    assert secrets.signing_key.public_key().public_bytes_raw().hex() in (home / "site.json").read_text()


def test_without_the_inner_zones_certificate_nothing_is_asked_or_made(home):
    certificate = home / "inner" / "hostcert.pem"
    for spoil in (lambda: certificate.write_text("no certificate"), certificate.unlink):
        spoil()
        done = init(home, {})
        assert done.exit_code == 30
        assert "hostcert.pem" in done.output
        assert "Name of the site" not in done.output
        assert set(tree(home)) <= {"inner/hostcert.pem"}
        assert not (home.parent / "data").exists()


def test_a_disk_that_fails_amid_writing_leaves_nothing_half_done(home, monkeypatch):
    before, link, left = tree(home), os.link, [3]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        link(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", full)
        done = init(home)
    assert done.exit_code == 31, done.output
    assert tree(home) == before
    assert init(home).exit_code == 0


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("name", "../etc"),
        ("name", ".."),
        ("vo", ""),
        ("host", "a host"),
        ("pacs", "pacs.hospital.example:104"),
        ("pacs", "PACS@pacs.hospital.example:0"),
        ("pacs", "PACS@pacs.hospital.example:65536"),
        ("pacs", "RÖNTGEN@pacs.hospital.example:104"),
        ("pacs", " @pacs.hospital.example:104"),
        ("keys", "https://k1:1 https://k1:1"),
        ("keys", "http://k1:1"),
        ("keys", ""),
        ("keys", "https://k1:99999"),
        ("files", "https://files/path"),
        ("files", "https://files:99999"),
        ("files", "https://files:0"),
        ("files", "https://files"),
        ("metadata", "meta"),
        ("metadata", "meta:65536"),
        ("permit", " "),
        ("purpose", "two\nlines"),
        ("ends", "2026-13-01"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(home, option, answer):
    before = tree(home)
    done = init(home, ANSWERS | {option: answer})
    assert done.exit_code == 2
    assert f"Invalid value for '--{option}'" in done.output
    assert tree(home) == before


@pytest.mark.parametrize(("servers", "threshold"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 3), (8, 4)])
def test_the_threshold_follows_hydras_rule(home, servers, threshold):
    urls = " ".join(f"https://k{number}.example.org:8450" for number in range(servers))
    assert init(home, ANSWERS | {"keys": urls}).exit_code == 0
    assert load(home / "srm-dicom.toml").catalogues.threshold == threshold


def test_site_json_is_json_for_users(home):
    assert init(home).exit_code == 0
    told = json.loads((home / "site.json").read_text())
    assert told["srm"] == "httpg://se.example.org:8446/srm/managerv2"
    assert told["keys"] == ANSWERS["keys"].split()
    assert Path(home / "site.json").stat().st_mode & 0o044, "it is handed out"
