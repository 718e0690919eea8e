import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from srm_dicom.audit.log import AuditLog
from srm_dicom.client.scratch import RemoteScratch
from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import Guid
from srm_dicom.scratch import workshop as workshop_module
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.testing import recipes
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.waiting import eventually
from srm_dicom.transfer.intake import Intake, application
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

WORKER = (sys.executable, "-m", "srm_dicom.daemon.worker")
KEY, ROOM_BYTES = b"k" * 32, 1024 * 1024
MAX_FILE_BYTES = 128 * 1024 * 1024


class Outer:
    """A node: its scratch area and the port that stagers push to."""

    def __init__(self, path, pki):
        self.path = path
        self.pki = pki
        self.area = ScratchArea(path / "scratch")
        self.audit = AuditLog(path / "audit", "transfer", "node", SystemClock())
        host = pki.host("stager")
        self.stager = Credential(host.certificate, host.key, pki.trust_dir)
        self.gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
        self.server = None
        self.port = 0

    def start(self, limits=None):
        intake = Intake(self.area, [self.pki.dn(self.stager)], self.audit)
        self.server = WebServer(
            application(intake), self.gate, host="localhost", port=self.port, name="intake",
            limits=limits or Limits(body_bytes=MAX_FILE_BYTES),
        )  # fmt: skip
        self.port = self.server.port
        self.server.start()

    def stop(self):
        self.server.stop(0.5)

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def remote(self, credential=None, **options):
        return RemoteScratch(self.url, credential or self.stager, **options)

    def incoming(self):
        return list((self.path / "scratch" / "incoming").iterdir())

    def ready(self):
        return set(self.area.names())

    def audited(self):
        return "".join(path.read_text() for path in (self.path / "audit").iterdir())

    def age(self, seconds=10 * 3600):
        """Let every file be as old as that."""
        for path in (self.path / "scratch").rglob("*"):
            if path.is_file():
                then = path.stat().st_mtime - seconds
                os.utime(path, (then, then))


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture
def outer(tmp_path, pki):
    node = Outer(tmp_path, pki)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def open_workshop(monkeypatch):
    """Workshops whose workers are ready; all are stopped at the end."""
    monkeypatch.setattr(workshop_module, "FIRST_PAUSE_S", 0.05)
    opened = []

    def open_it(workers=1, command=WORKER, **options):
        options = {"room_bytes": ROOM_BYTES, "seal_key": KEY, "modules": [recipes.__name__]} | options
        workshop = Workshop(command, workers, **options)
        opened.append(workshop)
        workshop.start()
        eventually(lambda: workshop.idle == workers)
        return workshop

    yield open_it
    for workshop in opened:
        workshop.stop()


@pytest.fixture(params=["local", "remote"])
def node(request, outer):
    """The same node, as its own machine and as a stager elsewhere see it."""
    with ExitStack() as stack:
        if request.param == "local":
            yield outer.area
        else:
            remote = outer.remote(timeout_s=10.0)
            stack.callback(remote.close)
            yield remote


@pytest.fixture
def full_disk(monkeypatch):
    """Writing into ``incoming/`` goes to a device that is full."""
    true_open = os.open

    def opened(path, flags, *args, **options):
        if flags & os.O_CREAT and Path(path).parent.name == "incoming":
            return true_open("/dev/full", os.O_WRONLY)
        return true_open(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", opened)


@pytest.fixture
def name():
    """Make names of files."""

    def make(text="a", generation=1):
        return StagedName(Guid(str(uuid.uuid5(uuid.NAMESPACE_URL, text))), generation)

    return make


@pytest.fixture
def put():
    """Write a whole file into a node; returns its id."""

    def write(node, content, piece_bytes=100_000):
        incoming = node.begin()
        for start in range(0, len(content), piece_bytes):
            incoming.write(content[start : start + piece_bytes])
        incoming.finish()
        return incoming.id

    return write
