"""What has to outlast a power cut: a file's bytes, and then its name in the directory."""

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from mdm_keys.ledger import DestructionLedger
from srm_dicom.audit.forward import Forwarder
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.cli import ban
from srm_dicom.testing.clock import FakeClock
from srm_plugin_dicom.secrets import load_or_create


def destroy(directory):
    DestructionLedger(directory / "keys.destroyed").add([(b"p" * 32, "key")])
    return directory / "keys.destroyed"


def remember(directory):
    Forwarder(directory, directory / "cursor", None, FakeClock())._remember({"front@here": 1})
    return directory / "cursor"


def ban_somebody(directory):
    ban._replace(directory / "ban.list", "/CN=mallory\n")
    return directory / "ban.list"


def open_log(directory):
    with closing(AuditLog(directory, "keys", "localhost", FakeClock())) as log:
        return log.path


def make_master(directory):
    load_or_create(directory / "master")
    return directory / "master"


def make_secrets(directory):
    InnerSecrets.create(directory)
    return directory / "seal.key"


@pytest.mark.parametrize(
    "make",
    [destroy, remember, ban_somebody, open_log, make_master, make_secrets],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("there", [True, False], ids=["old directory", "new directory"])
def test_a_new_file_is_durable_with_its_name(tmp_path, monkeypatch, make, there):
    """Each thing is synced when it is whole: a directory with the names that it then has."""
    names, fsync = {}, os.fsync

    def note(fd):
        fsync(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        names[path] = (
            {one.name for one in path.iterdir()}
            if stat.S_ISDIR(os.fstat(fd).st_mode)
            else path.stat().st_size
        )

    directory = tmp_path / "place"
    makes_it = make in (destroy, open_log, make_secrets)
    if there or not makes_it:
        directory.mkdir()
    monkeypatch.setattr(os, "fsync", note)
    made = make(directory)
    assert made.name in names[directory]
    if made.stat().st_size:
        assert made.stat().st_size in names.values(), (
            "the bytes are synced, under this name or an earlier one"
        )
    if makes_it and not there:
        assert directory.name in names[tmp_path]


def test_a_ledger_syncs_its_directory_once(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fsync(fd)))
    ledger = DestructionLedger(tmp_path / "keys.destroyed")
    for key in (b"a", b"b", b"c"):
        ledger.add([(key * 32, "key")])
    assert len(synced) == 3 + 1
