"""Ten thousand images, several users, and everything is killed at random: no request ends in an untrue state.

Stager, front, transfer and the archive die without warning, stagers at each step of staging too; now and then
all die at once and what was not synced is lost, as in a power cut. Then every file is there
once, as the same bytes as if nothing had happened, or its failure says the truth.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from io import BytesIO

import pytest
from pydicom import dcmread

from srm_dicom.broker.views import FileState
from srm_dicom.client.srm import SrmClient
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.daemon.inner import load_plugins
from srm_dicom.demo.processes import Unit
from srm_dicom.errors import MdmError
from srm_dicom.plugin.api import FileRef
from srm_dicom.scratch.area import StagedName
from srm_dicom.testing import faults
from srm_dicom.testing.dicom_bytes import TestObject, Writer
from srm_dicom.testing.staging import RELEASE
from srm_plugin_dicom.deidentify.engine import deidentify

SERIES, IMAGES = 40, int(os.environ.get("SOAK_IMAGES", "250"))
"""Ten thousand files; `SOAK_IMAGES=10` makes it four hundred, for a quick look."""

SEED = 20261128
MOST_KILLS, LEAST_KILLS = 24, 3
EVERY = SERIES * IMAGES // 30
"""So many files end between one kill and the next, unless it takes longer than `IMPATIENCE_S`."""

IMPATIENCE_S = 40.0
PATIENCE_S = 120.0 + 0.2 * SERIES * IMAGES
USERS = ("physician", "researcher", "replica-manager")
STAGED, LOST, REFUSED = "SRM_FILE_PINNED", "SRM_FILE_UNAVAILABLE", "SRM_FAILURE"

pytestmark = pytest.mark.timeout(2 * PATIENCE_S)


def make_image(series, number):
    """Return a small image; some say that they show text."""
    write, uid = Writer(), f"1.2.3.{series}"
    values = {
        0x00080018: ("UI", f"{uid}.{number}"),
        0x00100020: ("LO", f"PATIENT-{series}"),
        0x0020000D: ("UI", uid),
        0x0020000E: ("UI", f"{uid}.0"),
        0x00200013: ("IS", str(number)),
        0x00280301: ("CS", "YES" if number % 100 == 50 else "NO"),
    }
    extra = {tag: write.element(tag, vr, value.encode()) for tag, (vr, value) in values.items()}
    pixels = write.element(0x7FE00010, "OW", random.Random(f"{uid}.{number}").randbytes(512))
    return TestObject(write, 16, 16, extra, pixels).file()


def header(series, number):
    """Return what the archive would tell of an image."""
    uid = f"1.2.3.{series}"
    return {
        "PatientID": f"PATIENT-{series}",
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.0",
        "SOPInstanceUID": f"{uid}.{number}",
        "Modality": "CT",
    }


class Chaos:
    """Kills what serves, and starts it again."""

    def __init__(self, staging, pacs):
        self.staging, self.pacs = staging, pacs
        self.random = random.Random(SEED)
        self.killed = Counter()
        self.stager = None
        staging.demo.processes.start(
            *(Unit(role, role, staging.demo.config) for role in ("front", "transfer"))
        )

    def start_stager(self, step=""):
        with (self.staging.demo.directory / "log" / "stager.log").open("ab") as log:
            times = int(EVERY ** self.random.random())  # some steps are of one file, some of many together
            command = faults.command(self.staging.demo.config, step, times)
            self.stager = subprocess.Popen(command, stdout=log, stderr=log)

    def stop_stager(self):
        self.stager.kill()
        self.stager.wait(20)

    def strike(self):
        kinds = ("stager", "step", "step", "step", "doors", "archive", "association", "power")
        kind = self.random.choice(kinds)
        getattr(self, f"_{kind}")()
        self.killed[kind] += 1

    def _stager(self):
        self.stop_stager()
        self.start_stager()

    def _step(self):
        """Let the next stager die at a step, if the work gets there, and lose what it had not synced."""
        self.stop_stager()
        self.start_stager(self.random.choice(sorted(faults.STEPS)))
        until_s = time.monotonic() + IMPATIENCE_S
        while self.stager.poll() is None and not ended(self.staging) and time.monotonic() < until_s:
            time.sleep(0.1)
        assert self.stager.poll() in {None, -signal.SIGKILL}
        self.stop_stager()
        self._lose()
        self.start_stager()

    def _doors(self):
        for role in ("front", "transfer"):
            self.staging.demo.processes.restart(role, signal.SIGKILL)

    def _archive(self):
        self.pacs.stop()
        time.sleep(self.random.uniform(0.2, 1.0))
        self.pacs.start()

    def _association(self):
        self.pacs.faults.drops_after = self.random.randrange(1, 40)
        time.sleep(1.0)
        self.pacs.faults.drops_after = None

    def _power(self):
        self.stager.kill()
        for role in ("front", "transfer"):
            self.staging.demo.processes.stop(role, signal.SIGKILL)
        self.stop_stager()
        self._lose()
        self.staging.demo.processes.start(
            *(Unit(role, role, self.staging.demo.config) for role in ("front", "transfer"))
        )
        self.start_stager()

    def _lose(self):
        """Cut what was written and not synced, and take the names that no directory was synced for."""
        for path in self.staging.incoming():
            os.truncate(path, self.random.randrange(path.stat().st_size + 1))
        announced = {(item.guid, item.generation) for item in self.staging.staged()}
        for name in self.staging.area.names():
            if (name.guid, name.generation) not in announced and self.random.random() < 0.5:
                self.staging.area.remove(name)


def asked(call):
    """Ask the front as a patient client does."""
    until_s = time.monotonic() + 60
    while True:
        try:
            return call()
        except MdmError:
            assert time.monotonic() < until_s
            time.sleep(0.3)


def submit(staging, user, guids):
    entries = staging.stores.namespace.find_guids(guids)
    front = f"srm://localhost:{staging.demo.ports['srm']}/srm/managerv2?SFN="
    surls = [f"{front}{entries[guid].path}" for guid in guids]

    def call():
        with SrmClient.connect(staging.demo.description.srm, staging.demo.users[user]) as srm:
            return srm.prepare_to_get(surls, ("gsiftp",), total_s=3600)

    return asked(call).token


def ended(staging):
    return set(staging.stores.requests.counts()) <= {FileState.PINNED, FileState.FAILED}


def let_work(staging, chaos):
    """Wait until some files have ended, or all, or it takes too long, and a moment more."""
    before, until_s = done(staging), time.monotonic() + IMPATIENCE_S
    while done(staging) < before + EVERY and not ended(staging) and time.monotonic() < until_s:
        time.sleep(0.2)
    time.sleep(chaos.random.uniform(0.0, 0.5))


def done(staging):
    counts = staging.stores.requests.counts()
    return counts.get(FileState.PINNED, 0) + counts.get(FileState.FAILED, 0)


def codes(staging, user, token):
    def call():
        with SrmClient.connect(staging.demo.description.srm, staging.demo.users[user]) as srm:
            return srm.status(token)

    return {file.surl.rpartition("=")[2]: file.status.code for file in asked(call).files}


def test_every_request_ends_true_whatever_is_killed(staging, pacs, record_property):
    objects = {
        f"1.2.3.{series}.{n}": make_image(series, n) for series in range(SERIES) for n in range(1, IMAGES + 1)
    }
    pacs.add(dcmread(BytesIO(data)) for data in objects.values())
    pacs.faults.slow_s = 4.0 / len(objects)
    pacs.faults.lost = frozenset(f"1.2.3.{series}.7" for series in range(0, SERIES, 2))
    source = "settle_s = 0.3\n\n[[settings.sources]]\nfirst_pause_s = 0.2\nlongest_pause_s = 1.0\n"
    staging.change_settings("[[settings.sources]]\n", source)
    plugin = load_plugins(staging.common)["dicom"]._plugin
    groups = staging.register_found(
        plugin._discovered("archive", header(series, n), RELEASE)
        for series in range(SERIES)
        for n in range(1, IMAGES + 1)
    )
    context = plugin._context(RELEASE)
    plugin.close()
    guids = [guid for group in groups for guid in group]
    assert len(guids) == SERIES * IMAGES
    chaos = Chaos(staging, pacs)
    half, tenth = len(guids) // 2, len(guids) // 10
    wanted = [
        (USERS[0], guids[:half]),
        (USERS[1], guids[half - tenth : half + 3 * tenth]),
        (USERS[2], groups[0]),
    ]
    tokens = [(user, submit(staging, user, some), some) for user, some in wanted]
    chaos.start_stager()
    until_s = time.monotonic() + PATIENCE_S
    rest = [(USERS[number % 3], group) for number, group in enumerate(groups[-8:])]
    try:
        while not ended(staging) or rest:
            assert time.monotonic() < until_s, (staging.stores.requests.counts(), chaos.killed)
            if rest:
                user, some = rest.pop()
                tokens.append((user, submit(staging, user, some), some))
            let_work(staging, chaos)
            if chaos.killed.total() < MOST_KILLS:
                chaos.strike()
    finally:
        chaos.stop_stager()
    record_property("killed", dict(chaos.killed))
    assert chaos.killed.total() >= LEAST_KILLS, "the work was done before anything was killed"
    check(staging, context, objects, pacs.faults.lost, tokens)
    command = [sys.executable, "-m", "srm_dicom.cli.admin", "audit", "verify"]
    environment = {**os.environ, "SRM_DICOM_CONFIG": str(staging.demo.config)}
    verified = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def check(staging, context, objects, lost, tokens):
    """See that each file is there once and right, or that its failure is true."""
    plugin = load_plugins(staging.common)["dicom"]._plugin
    entries = staging.stores.namespace.find_guids([guid for _, _, some in tokens for guid in some])
    instance_of = {
        guid: plugin._open(FileRef(guid, entry.plugin_ref, RELEASE)).instance
        for guid, entry in entries.items()
    }
    plugin.close()
    fate = {guid: LOST if instance in lost else STAGED for guid, instance in instance_of.items()}
    clean = {}
    for guid, instance in instance_of.items():
        try:
            clean[guid] = bytes(deidentify(objects[instance], "", "", context))
        except MdmError:
            fate[guid] = REFUSED
    for user, token, some in tokens:
        told = codes(staging, user, token)
        assert told == {str(entries[guid].path): fate[guid] for guid in some}
    there = sorted(guid for guid, code in fate.items() if code == STAGED)
    staging.janitor(grace_s=-60.0).sweep()
    assert staging.incoming() == []
    assert list((staging.demo.directory / "inner" / "spool").glob("*")) == []
    assert sorted((item.guid, item.generation) for item in staging.staged()) == [(guid, 1) for guid in there]
    assert sorted((name.guid, name.generation) for name in staging.area.names()) == [
        (guid, 1) for guid in there
    ]
    key = staging.signing_key.public_key()
    for guid in there:
        assert staging.opened(guid) == clean[guid]
        sealed = staging.area.path(StagedName(guid, 1)).read_bytes()
        digest = Digest()
        digest.update(sealed)
        Manifest.verify(entries[guid].facts.manifest, key).check(digest)
