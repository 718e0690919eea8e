"""A PKI with fast keys, a directory of files, a door over it."""

import ssl
from contextlib import contextmanager

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture(scope="session")
def alice(pki):
    return pki.proxy(pki.user("Alice"))


@pytest.fixture
def gate(pki):
    return Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "files"
    (root / "dir").mkdir(parents=True)
    (root / "file").write_bytes(bytes(range(256)) * 4096)
    (root / "empty").write_bytes(b"")
    for name in ("a", "b", "c", "d"):
        (root / "dir" / name).write_text(name)
    return DirectoryFiles(root, hidden={"/dir/b"}, unreadable={"/dir/c"}, nearline={"/dir/d"})


@pytest.fixture
def open_door(files, gate):
    """Return a context manager that opens a door with the given settings."""

    @contextmanager
    def opened(*, clock=None, gate=gate, writing=None, nodes=None, **settings):
        defaults = {"port": 0, "data_ports": (0, 0), "data_connect_s": 5.0, "data_stall_s": 5.0}
        clock = clock or SystemClock()
        door = GridFtpDoor(
            files, gate, GridFtpSettings(**(defaults | settings)), clock, writing=writing, nodes=nodes
        )
        door.start()
        try:
            yield door
        finally:
            door.stop()

    return opened


@pytest.fixture
def door(open_door):
    with open_door() as door:
        yield door


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls1.2", "tls1.3"])
def tls_version(request):
    return request.param
