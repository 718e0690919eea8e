"""The HTTPS door under many clients: memory has a bound, and who reads slowly slows nobody else."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from srm_dicom import telemetry
from srm_dicom.client.http import HttpClient
from srm_dicom.clock import SystemClock
from srm_dicom.errors import MdmError
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

IDLE = 500
TRANSFERS = 100
SLOW = 20
FILE_BYTES = 8 * 1024 * 1024
IDLE_KIB = 200
"""Of a connection that waits: a thread's used stack, a TLS session, its buffers."""
TRANSFER_KIB = 1024

pytestmark = pytest.mark.timeout(400)


def serve(base):
    """Be the door of a process of its own, whose memory can be told from the clients'."""
    pki = TestPki(base / "pki", fast=True)
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    app = WebDavDoor(DirectoryFiles(base / "files", checksums=False))
    limits = Limits(idle_s=300.0, transfer_s=300.0)
    door = WebServer(app, gate, host="localhost", port=0, name="webdav", limits=limits)
    telemetry.configure("transfer", level=logging.WARNING)
    door.start()
    sys.stdout.write(f"{door.port}\n")
    sys.stdout.flush()
    time.sleep(600)


@pytest.fixture
def user(tmp_path):
    pki = TestPki(tmp_path / "pki", fast=True)
    pki.host()
    return pki.proxy(pki.user("Alice"))


@pytest.fixture
def door(tmp_path, user):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file").write_bytes(os.urandom(FILE_BYTES))
    process = subprocess.Popen([sys.executable, __file__, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait(30)


def client(port, user):
    return HttpClient(f"https://localhost:{port}", user, timeout_s=120.0)


def rss_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def slow_reader(port, user):
    """Ask for the file and read nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    tls = user.client_context().wrap_socket(sock, server_hostname="localhost")
    tls.sendall(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return tls


def fetch(port, user, failures):
    """Read the whole file and keep nothing of it."""
    received = []
    try:
        connection = client(port, user)
        connection.request("GET", "/file", into=lambda data: received.append(len(data)))
        connection.close()
    except MdmError as error:
        failures.append(error)
    if sum(received) != FILE_BYTES:
        failures.append(sum(received))


def test_500_idle_connections_and_100_transfers(door, user):
    port, pid = door
    client(port, user).request("HEAD", "/file")
    before = rss_kib(pid)
    with ExitStack() as stack:
        for _ in range(IDLE):
            idle_one = client(port, user)
            idle_one.request("HEAD", "/file")
            stack.callback(idle_one.close)
        idle = rss_kib(pid)
        assert idle - before < IDLE * IDLE_KIB
        for _ in range(SLOW):
            stack.callback(slow_reader(port, user).close)
        failures = []
        threads = [threading.Thread(target=fetch, args=(port, user, failures)) for _ in range(TRANSFERS)]
        for thread in threads:
            thread.start()
        most = idle
        deadline_s = time.monotonic() + 200
        while any(thread.is_alive() for thread in threads):
            assert time.monotonic() < deadline_s
            most = max(most, rss_kib(pid))
            time.sleep(0.05)
        assert not failures
        sys.stdout.write(f"KiB an idle connection: {(idle - before) // IDLE}, a transfer: ")
        sys.stdout.write(f"{(most - idle) // (TRANSFERS + SLOW)}\n")
        assert most - idle < (TRANSFERS + SLOW) * TRANSFER_KIB


def test_who_reads_slowly_slows_nobody_else(door, user):
    """A fast client among slow ones needs no more than a few times what it needs alone."""
    port, _ = door
    alone_s = _seconds(port, user)
    with ExitStack() as stack:
        for _ in range(SLOW):
            stack.callback(slow_reader(port, user).close)
        among_s = _seconds(port, user)
    assert among_s < 5 * alone_s + 2


def _seconds(port, user):
    begun_s = time.monotonic()
    failures = []
    for _ in range(10):
        fetch(port, user, failures)
    assert not failures
    return time.monotonic() - begun_s


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
