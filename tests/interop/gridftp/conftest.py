"""Doors over plain directories, a Globus server beside them, and a user who runs real clients."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


class Site:
    """A door over a directory that may be written, and what its users have."""

    def __init__(self, base):
        self.base = base
        self.pki = TestPki(base / "pki")
        self.root = base / "files"
        (self.root / "dir").mkdir(parents=True)
        self._fill()
        self.files = DirectoryFiles(
            self.root,
            hidden={"/secret/hidden"},
            unreadable={"/secret/unreadable"},
            nearline={"/secret/nearline"},
        )
        self.gate = Gate(TrustSettings(self.pki.trust_dir), self.pki.host(), SystemClock())
        self.door = self.new_door(self.files)
        self.alice = self.pki.proxy(self.pki.user("Alice"))
        (base / "home").mkdir()

    def new_door(self, files, *, read_only=False, **settings):
        defaults = {"port": 0, "data_ports": (0, 0), "data_connect_s": 10.0}
        return GridFtpDoor(
            files,
            self.gate,
            GridFtpSettings(**(defaults | settings)),
            SystemClock(),
            writing=None if read_only else files,
        )

    def _fill(self):
        (self.root / "file").write_bytes(os.urandom(524_289))
        (self.root / "large").write_bytes(os.urandom(20_000_003))
        (self.root / "empty").write_bytes(b"")
        for number in range(30):
            (self.root / "dir" / f"f{number}").write_bytes(os.urandom(1000 + number))
        (self.root / "secret").mkdir()
        for name in ("hidden", "unreadable", "nearline"):
            (self.root / "secret" / name).write_bytes(b"x")

    @property
    def url(self):
        return f"gsiftp://localhost:{self.door.port}"

    def environment(self, credential=None):
        variables = self.pki.environment(credential or self.alice)
        return {"PATH": PATH, "HOME": str(self.base / "home"), "LC_ALL": "C.UTF-8", **variables}

    def principal(self, credential):
        return Principal(self.pki.dn(credential), (), limited=False, expires=datetime.max.replace(tzinfo=UTC))

    def start(self, *command, credential=None):
        return subprocess.Popen(
            [shutil.which(command[0], path=PATH), *map(str, command[1:])],
            env=self.environment(credential),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command, credential=None):
        return subprocess.run(
            [shutil.which(command[0], path=PATH), *map(str, command[1:])],
            env=self.environment(credential),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def succeed(self, *command, credential=None):
        """Run a command that has to succeed."""
        done = self.run(*command, credential=credential)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def copied(self, command, name, target, **options):
        """Run a copy of a file of the site, and compare the bytes."""
        self.succeed(*command, f"{self.url}/{name}", f"file://{target}", **options)
        assert target.read_bytes() == (self.root / name).read_bytes()


@pytest.fixture(scope="package")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("gridftp"))
    site.door.start()
    yield site
    site.door.stop()


@pytest.fixture
def new_door(site):
    """Return a context manager that opens another door of the site, with settings of its own."""

    @contextmanager
    def opened(files, **settings):
        door = site.new_door(files, **settings)
        door.start()
        try:
            yield f"gsiftp://localhost:{door.port}"
        finally:
            door.stop()

    return opened


@pytest.fixture(scope="package")
def globus(site):
    """A globus-gridftp-server on loopback that trusts the same authority."""
    with _globus(site) as port:
        yield f"gsiftp://localhost:{port}"


@pytest.fixture(scope="package")
def striped_globus(site):
    """The same with two data nodes behind it."""
    clear = "-no-secure-ipc"
    with _globus(site, "-dn", clear) as one, _globus(site, "-dn", clear) as other:
        nodes = f"127.0.0.1:{one},127.0.0.1:{other}"
        with _globus(site, "-r", nodes, clear) as port:
            yield f"gsiftp://localhost:{port}"


@contextmanager
def _globus(site, *options):
    port, host = free_port(), site.pki.host()
    base = site.base / f"globus{port}"
    base.mkdir()
    (base / "gridmap").write_text(f'"{site.pki.dn(site.alice)}" {os.environ.get("USER", "root")}\n')
    process = subprocess.Popen(
        [
            *(shutil.which("globus-gridftp-server", path=PATH), "-allow-root", "-p", str(port), *options),
            *("-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1"),
            *("-log-level", "ERROR", "-logfile", str(base / "log")),
        ],
        env={
            "PATH": PATH,
            "HOME": str(base),
            "X509_CERT_DIR": str(site.pki.trust_dir),
            "X509_USER_CERT": str(host.certificate),
            "X509_USER_KEY": str(host.key),
            "GRIDMAP": str(base / "gridmap"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("globus-gridftp-server does not answer")
