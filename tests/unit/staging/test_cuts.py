"""The stager is killed at each step of staging and started again: every request ends true, nothing is twice.

The stager that dies is a process of its own, with a fault at the step that the test names; what it had not
synced is lost as well, as in a power cut. Another one goes on with what is on disk and in the rows.
"""

import os
import signal
import subprocess

import pytest

from srm_dicom.broker.views import FileState
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.testing import faults
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_plugin_dicom.checkpoint import Entity

IMAGES = 4
TAKEN, REFUSED = 0x0000, 0x0124
WORKERS = 2
STEPS = [(0, step) for step in faults.BY_ITSELF | faults.PUBLISHING]
STEPS += [(WORKERS, step) for step in faults.BY_WORKERS | faults.PUBLISHING]

UNSYNCED = {"sealed", "kept", "before fsync"}
"""Steps at which nothing of what was written is surely on the disk."""

ANNOUNCED = {"before the transaction": False, "in the transaction": False, "after the transaction": True}
"""Whether the first group that became complete is known; at the other steps a group before may have been."""

ONE_BY_ONE = ("received", "sealed", "answered", "brought", "kept")
TIMES = dict.fromkeys(faults.STEPS, 1) | dict.fromkeys(ONE_BY_ONE, 2)
"""At which time that a step is reached the stager dies."""


def cut(staging, workers, step):
    """Run a stager that dies at a step, and let the disk have what it surely had."""
    text = staging.demo.config.read_text()
    staging.demo.config.write_text(text.replace("[inner]", f"[inner]\nworkers = {workers}"))
    command = faults.command(staging.demo.config, step, TIMES[step])
    done = subprocess.run(command, timeout=70, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    for path in staging.incoming() if step in UNSYNCED else ():
        os.truncate(path, path.stat().st_size // 2)


def check_staged_once(staging, guids):
    """Every file is there in its first generation, whole, as its signed manifest says, and nothing else."""
    key = staging.signing_key.public_key()
    staged = staging.staged()
    assert sorted((item.guid, item.generation) for item in staged) == sorted((guid, 1) for guid in guids)
    assert {(name.guid, name.generation) for name in staging.area.names()} == {(guid, 1) for guid in guids}
    for name in staging.area.names():
        digest = Digest()
        digest.update(staging.area.path(name).read_bytes())
        Manifest.verify(staging.stores.namespace.find_guid(name.guid).facts.manifest, key).check(digest)
    assert staging.incoming() == []


@pytest.mark.parametrize(("workers", "step"), STEPS)
def test_a_stager_that_dies(staging, pacs, wait_for, workers, step):
    pacs.add(make_series(SeriesSpec("CT", IMAGES)))
    (files,) = staging.register()
    wanted = [staging.want("/CN=Alice", files), staging.want("/CN=Bob", files[:1])]
    cut(staging, workers, step)
    announced = {item.guid for item in staging.staged()}
    if step in ANNOUNCED:
        assert bool(announced) is ANNOUNCED[step]
    for token in wanted:
        for file in staging.stores.requests.files(token):
            assert (file.state is FileState.PINNED) == (file.guid in announced)
            assert file.state is not FileState.FAILED
    with staging.stager():
        for token in wanted:
            wait_for(lambda token=token: staging.is_there(token))
    staging.janitor(grace_s=-60.0).sweep()
    assert all(staging.is_there(token) for token in wanted), "a sweep takes nothing that is promised"
    check_staged_once(staging, files)


def send(images, port, calling="PACS"):
    """Send as an AE; returns the statuses, or None where the association was refused."""
    entity = Entity(ae_title=calling)
    entity.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="MDM1")
    if not association.is_established:
        return None
    statuses = [association.send_c_store(image).Status for image in images]
    association.release()
    return statuses


def test_only_what_a_move_announced_is_taken_and_once(staging, pacs, wait_for):
    images, others = make_series(SeriesSpec("CT", IMAGES)), make_series(SeriesSpec("CT", 1, study="2"))
    pacs.add(images)
    (files,) = staging.register()
    pacs.faults.recall_s = {str(images[0].StudyInstanceUID): 60.0}
    port = staging.demo.ports["moves"]
    wanted = staging.want("/CN=Alice", files)
    with staging.stager():
        wait_for(lambda: pacs.moves)
        assert send(images, port, "ROGUE") is None
        assert send(others, port) == [REFUSED]
        assert send([images[0], images[0]], port) == [TAKEN, REFUSED]
        pacs.faults.recall_s.clear()
        wait_for(lambda: staging.is_there(wanted))
        assert send(images[:1], port) == [REFUSED], "the visit is over"
    assert pacs.moves == 1
    check_staged_once(staging, files)
