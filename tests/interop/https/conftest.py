"""Two HTTPS doors over directories that read, write and copy; a user with a proxy and a token; clients."""

import ipaddress
import os
import shutil
import subprocess

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.testing.issuer import TestIssuer
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.delegations import PATH as DELEGATION
from srm_dicom.transfer.delegations import Delegations, DelegationService
from srm_dicom.transfer.hosts import CopyHosts
from srm_dicom.transfer.mover import Mover
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.routes import routed
from srm_dicom.web.server import WebServer

PATH = "/usr/bin:/bin"
LOOPBACK = tuple(ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1/128"))


class Door:
    """A door over a directory that reads, writes and copies."""

    def __init__(self, directory, pki, tokens):
        self.root = directory
        directory.mkdir()
        clock = SystemClock()
        gate = Gate(TrustSettings(pki.trust_dir), pki.host(), clock)
        self.files = files = DirectoryFiles(directory)
        apps = {}
        more = dict(Writes(files, files).handlers)
        self.server = WebServer(
            routed(WebDavDoor(files, more=more), apps), gate, host="localhost", port=0, name="webdav",
            limits=Limits(body_bytes=2**63 - 1), tokens=tokens,
        )  # fmt: skip
        url = f"https://localhost:{self.server.port}"
        self.delegations = Delegations(clock)
        mover = Mover(CopyHosts({"*": ("localhost",)}, networks=LOOPBACK))
        settings = CopySettings(url, pki.trust_dir, marker_s=0.5)
        self.copies = Copies(files, mover, self.delegations, settings, clock, files)
        door = WebDavDoor(files, more={**more, **self.copies.handlers})
        apps.update({DELEGATION: DelegationService(self.delegations), "": door})
        self.server.start()

    def url(self, name, scheme="davs"):
        return f"{scheme}://localhost:{self.server.port}/{name}"


class User:
    """A user with a proxy and a token, and what she runs."""

    def run(self, *command, text=None, **variables):
        environment = self.pki.environment(self.alice) | variables
        return subprocess.run(
            [shutil.which(command[0], path=PATH), *map(str, command[1:])], input=text,
            env={"PATH": PATH, "HOME": str(self.directory / "home"), "LC_ALL": "C.UTF-8", **environment},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


class Tokened(User):
    """A whole storage element, which decides by ACLs and scopes."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "home").mkdir()
        self.issuer = TestIssuer(directory / "issuer")
        self.element = StorageElement(directory / "se", issuer=self.issuer)
        self.pki, self.alice, self.port = self.element.pki, self.element.alice, self.element.webdav.port
        self.element.start()

    def token(self, scope):
        return self.issuer.token("alice", scope)

    def url(self, name, scheme="davs"):
        return f"{scheme}://localhost:{self.port}{ROOT}/{name}"


class Pair(User):
    """Two doors and a user."""

    def __init__(self, directory):
        self.directory = directory
        self.pki = TestPki(directory / "pki")
        self.alice = self.pki.proxy(self.pki.user("Alice"))
        self.issuer = TestIssuer(directory / "issuer")
        tokens = self.issuer.verifier({"alice": self.pki.dn(self.alice)})
        self.here, self.there = (Door(directory / name, self.pki, tokens) for name in ("here", "there"))
        self.content = os.urandom(3_000_001)
        (self.here.root / "file").write_bytes(self.content)
        (directory / "home").mkdir()

    def curl(self, *arguments):
        who = self.alice
        return self.run(
            "curl", "-sS", "--capath", self.pki.trust_dir, "-E", who.certificate, "--key", who.key, *arguments
        )


@pytest.fixture(scope="module")
def tokened(tmp_path_factory):
    made = Tokened(tmp_path_factory.mktemp("tokens"))
    yield made
    made.element.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("copies"))
    yield pair
    pair.here.server.stop()
    pair.there.server.stop()
