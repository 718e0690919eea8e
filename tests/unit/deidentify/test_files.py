"""``srm-dicom dicom deidentify``: trees keep their names, and what is refused is told."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from srm_dicom.testing.dicom_bytes import TestObject, Writer
from srm_plugin_dicom import commands
from srm_plugin_dicom.commands import group


def run(*arguments):
    return CliRunner().invoke(group(), ["deidentify", *map(str, arguments)])


def test_a_tree_keeps_its_names(tmp_path):
    source, target, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.jsonl"
    (source / "b").mkdir(parents=True)
    (source / "a.dcm").write_bytes(TestObject().file())
    (source / "b" / "c").write_bytes(TestObject(rows=2).file())
    result = run(source, target, "--report", report)
    assert result.exit_code == 0, result.output
    assert pydicom.dcmread(target / "b" / "c").PatientIdentityRemoved == "YES"
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["file"] for line in lines] == ["a.dcm", "b/c"]
    assert "Mustermann" not in report.read_text()


def test_refusals_are_told_and_leave_nothing(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "good.dcm").write_bytes(TestObject().file())
    (source / "cut.dcm").write_bytes(TestObject().file()[:-1])
    (source / "notes.txt").write_text("Erika Mustermann")
    result = run(source, target)
    assert result.exit_code == 1
    assert "ends too early" in result.output
    assert [path.name for path in target.iterdir()] == ["good.dcm"]


def test_what_goes_wrong_with_a_file_does_not_end_the_run(tmp_path, monkeypatch):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.dcm").symlink_to(tmp_path / "absent")
    (source / "b.dcm").write_bytes(TestObject().file())
    (source / "empty").touch()
    result = run(source, target)
    assert result.exit_code == 1
    assert "FileNotFoundError" in result.output
    assert [path.name for path in target.iterdir()] == ["b.dcm"]
    monkeypatch.setattr(commands, "deidentify_file", lambda *_: {}["Mustermann"])
    result = run(source, target)
    assert result.exit_code == 1
    assert "KeyError" in result.output
    assert "Mustermann" not in result.output


def test_a_key_makes_runs_equal(tmp_path):
    source, key = tmp_path / "in.dcm", tmp_path / "key"
    source.write_bytes(TestObject().file())
    key.write_bytes(b"k" * 32)
    for name in ("one.dcm", "two.dcm"):
        assert run(source, tmp_path / name, "--key-file", key).exit_code == 0
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    run(source, tmp_path / "three.dcm")
    assert (tmp_path / "one.dcm").read_bytes() != (tmp_path / "three.dcm").read_bytes()


def test_a_short_key_is_refused(tmp_path):
    source, key = tmp_path / "in.dcm", tmp_path / "key"
    source.write_bytes(TestObject().file())
    key.write_bytes(b"short")
    assert run(source, tmp_path / "out.dcm", "--key-file", key).exit_code == 2


SITE = """
plugin = "dicom"
projects = ["heart"]

[settings]
[[settings.sources]]
name = "main"
ae_title = "PACS"
host = "127.0.0.1"
port = 104

[[settings.pixels.blank]]
manufacturer = "MAKER"
rows = 4
columns = 4
rectangles = [[0, 0, 4, 2]]

[[settings.profiles]]
name = "heart"
options = ["modified_dates", "patient"]
revision = 3
"""


def test_the_sites_own_profiles_and_rules(tmp_path):
    source, target, site = tmp_path / "in.dcm", tmp_path / "out.dcm", tmp_path / "dicom.toml"
    made = TestObject()
    made.extra = {
        0x00080070: made.writer.element(0x00080070, "LO", b"Maker"),
        0x00280301: made.writer.element(0x00280301, "CS", b"YES"),
    }
    source.write_bytes(made.file())
    site.write_text(SITE)
    assert run(source, target).exit_code == 1
    result = run(source, target, "--site", site, "--profile", "heart")
    assert result.exit_code == 0, result.output
    dataset = pydicom.dcmread(target)
    assert dataset.DeidentificationMethod == "srm-dicom heart v1.3"
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108", "113101"]
    assert dataset.PixelData[:16] == bytes(16)


@pytest.mark.parametrize("wrong", [SITE.replace('"patient"', '"patients"'), ""])
def test_a_site_file_that_says_nothing_sensible(tmp_path, wrong):
    source, site = tmp_path / "in.dcm", tmp_path / "dicom.toml"
    source.write_bytes(TestObject().file())
    site.write_text(wrong)
    assert run(source, tmp_path / "out.dcm", "--site", site).exit_code == 2


def test_a_profile_that_nobody_knows(tmp_path):
    source = tmp_path / "in.dcm"
    source.write_bytes(TestObject().file())
    result = run(source, tmp_path / "out.dcm", "--profile", "heart")
    assert result.exit_code == 2
    assert "basic v1" in result.output


PAGE = Path(__file__).parents[3] / "docs" / "admin" / "deidentification.md"


def test_the_commands_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(TestObject().file())
    (tmp_path / "dicom.toml").write_text(SITE)
    (tmp_path / "project.key").write_bytes(b"k" * 32)
    commands = re.findall(r"(?m)^# srm-dicom dicom deidentify (.*)$", PAGE.read_text())
    assert len(commands) == 2
    for command in commands:
        result = run(*shlex.split(command))
        assert result.exit_code == 0, result.output
    assert pydicom.dcmread("out/a.dcm").DeidentificationMethod == "srm-dicom heart v1.3"
    assert "Mustermann" not in (tmp_path / "report.jsonl").read_text()


MEASURED = """
import re, sys
from pathlib import Path
from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import Context
from srm_plugin_dicom.deidentify.files import deidentify_file

source, target = map(Path, sys.argv[1:])
outcome = deidentify_file(Path("large"), source, target, Context(b"k" * 32, Release("p", "basic", "v1")))
assert outcome.report, outcome.refusal
print(re.search("VmHWM:[^0-9]*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
"""


def sparse(path, made, pixels):
    """Write a file of which the pixels are a hole."""
    head = made.file()
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB on Linux")
def test_half_a_gigabyte_of_frames_needs_little_memory(tmp_path):
    write = Writer()
    frames, bytes_of_frame = 250, 1024 * 1024 * 2
    length = frames * bytes_of_frame
    extra = {
        0x00280008: write.element(0x00280008, "IS", str(frames).encode()),
        0x00280101: write.u16(0x00280101, 12),
        0x00280102: write.u16(0x00280102, 11),
    }
    header = write.element(0x7FE00010, "OW", b"", length)
    source, target = tmp_path / "large.dcm", tmp_path / "out.dcm"
    sparse(source, TestObject(write, rows=1024, columns=1024, extra=extra, pixels=header), length)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, source, target], check=True, capture_output=True, text=True
    )
    assert target.stat().st_size > length
    assert int(done.stdout) < 150 * 1024
    target.unlink()
