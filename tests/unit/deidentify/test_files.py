"""``srm-dicom dicom deidentify``: trees keep their names, and what is refused is told."""

import json

import pydicom
from click.testing import CliRunner

from srm_dicom.testing.dicom_bytes import TestObject
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
