"""A PKI, a directory of files, the door over it and our own client."""

import os
from contextlib import ExitStack, contextmanager

import pytest

from srm_dicom.client.http import HttpClient
from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture(scope="session")
def alice(pki):
    return pki.proxy(pki.user("Alice"))


@pytest.fixture
def content():
    return os.urandom(600_000)


@pytest.fixture
def files(tmp_path, content):
    root = tmp_path / "files"
    (root / "dir").mkdir(parents=True)
    (root / "file").write_bytes(content)
    (root / "empty").write_bytes(b"")
    for name in ("a", "b", "c", "d"):
        (root / "dir" / name).write_text(name)
    return DirectoryFiles(root, hidden={"/dir/b"}, unreadable={"/dir/c"}, nearline={"/dir/d"})


@pytest.fixture
def opened(files, monkeypatch):
    """Every file that the door has opened: all of them must be closed in the end."""
    opened = []
    original = files.open

    def spy(principal, path):
        opened.append(original(principal, path))
        return opened[-1]

    monkeypatch.setattr(files, "open", spy)
    return opened


@pytest.fixture
def serve(pki, files):
    """Start doors that are stopped when the test ends."""
    servers = []

    def start(**options):
        gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
        app = WebDavDoor(files, boundary=lambda: "boundary", **options)
        limits = Limits(body_bytes=2**40)
        servers.append(WebServer(app, gate, host="localhost", port=0, name="webdav", limits=limits))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop(0.5)


@pytest.fixture
def ask(serve, alice):
    """Ask a door and return (status, headers by lower-case name, body)."""
    yield from asking(serve(), alice)


@pytest.fixture
def write(serve, files, alice):
    """Ask a door that takes files; as `ask`."""
    yield from asking(serve(more=Writes(files, files).handlers), alice)


@pytest.fixture
def door(serve, alice):
    """Start a door of one's own; returns what asks it, as `ask`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextmanager(asking)(serve(**options), alice))


def asking(server, alice):
    client = HttpClient(f"https://localhost:{server.port}", alice)

    def asked(method, target, body=b"", **headers):
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        response = client.request(method, target, body, pairs)
        return response.status, {name.lower(): value for name, value in response.headers}, response.body

    yield asked
    client.close()
