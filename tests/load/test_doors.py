"""The doors under many clients: memory has a bound, and who reads slowly slows nobody else."""

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
from srm_dicom.client.ftp_session import Session, Timeouts, Turl
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.http import HttpClient
from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer
from srm_dicom.wire.gridftp.addresses import parse_passive_port

IDLE = 500
TRANSFERS = 100
SLOW = 20
FILE_BYTES = 8 * 1024 * 1024
IDLE_KIB = 200
"""Of a connection that waits: a thread's used stack, a TLS session, its buffers."""
TRANSFER_KIB = 1024
CLIENT_S = 120
ALL_S = 200

pytestmark = pytest.mark.timeout(400)


def serve(kind, base):
    """Be the door of a process of its own, whose memory can be told from the clients'."""
    pki = TestPki(base / "pki", fast=True)
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    files = DirectoryFiles(base / "files", checksums=False)
    if kind == "gsiftp":
        settings = GridFtpSettings(port=0, data_ports=(0, 0))
        door = GridFtpDoor(files, gate, settings, SystemClock())
    else:
        limits = Limits(idle_s=300.0, transfer_s=300.0)
        door = WebServer(WebDavDoor(files), gate, host="localhost", port=0, name="webdav", limits=limits)
    telemetry.configure("transfer", level=logging.WARNING)
    door.start()
    sys.stdout.write(f"{door.port}\n")
    sys.stdout.flush()
    time.sleep(600)


class GridFtp:
    """What clients of the GridFTP door do."""

    def __init__(self, port, user):
        self._port, self._user = port, user

    def idle(self, stack):
        """Log in, and wait until `stack` ends."""
        session = Session(Turl("localhost", self._port, "/"), self._user, Timeouts(60, 60, 60))
        stack.callback(session.leave)
        return session

    def slow(self, stack):
        """Begin a transfer and read nothing of it until `stack` ends."""
        session = self.idle(stack)
        data = stack.enter_context(small_socket(parse_passive_port(session.command("EPSV"))))
        session.send("RETR /file")
        assert session.next_reply().code == 150
        return data

    def fetch(self, write):
        """Read the whole file."""
        with GridFtpClient(self._user, timeouts=Timeouts(CLIENT_S, CLIENT_S, CLIENT_S)) as client:
            client.fetch(f"gsiftp://localhost:{self._port}/file", Writer(write))


class Https:
    """The same of the HTTPS door."""

    def __init__(self, port, user):
        self._port, self._user = port, user

    def _client(self):
        return HttpClient(f"https://localhost:{self._port}", self._user, timeout_s=CLIENT_S)

    def idle(self, stack):
        client = self._client()
        stack.callback(client.close)
        client.request("HEAD", "/file")

    def slow(self, stack):
        sock = small_socket(self._port)
        tls = self._user.client_context().wrap_socket(sock, server_hostname="localhost")
        stack.enter_context(tls).sendall(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def fetch(self, write):
        client = self._client()
        client.request("GET", "/file", into=write)
        client.close()


class Writer:
    def __init__(self, write):
        self.write = write


CLIENTS = {"gsiftp": GridFtp, "https": Https}


def small_socket(port):
    """Connect with a buffer that soon makes the other side wait."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


@pytest.fixture(params=sorted(CLIENTS))
def door(request, tmp_path):
    """Yield the clients of a door, and the number of its process."""
    pki = TestPki(tmp_path / "pki", fast=True)
    pki.host()
    user = pki.proxy(pki.user("Alice"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file").write_bytes(os.urandom(FILE_BYTES))
    command = [sys.executable, __file__, request.param, tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield CLIENTS[request.param](int(process.stdout.readline()), user), process.pid
    finally:
        process.kill()
        process.wait(30)


def rss_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def fetch(clients, failures):
    """Read the whole file and keep nothing of it."""
    sizes = []
    try:
        clients.fetch(lambda data: sizes.append(len(data)))
    except Exception as error:  # noqa: BLE001 whatever it is, the test fails with it
        failures.append(error)
    if sum(sizes) != FILE_BYTES:
        failures.append(sum(sizes))


def test_500_idle_connections_and_100_transfers(door):
    clients, pid = door
    with ExitStack() as stack:
        clients.idle(stack)
    before = rss_kib(pid)
    with ExitStack() as stack:
        for _ in range(IDLE):
            clients.idle(stack)
        idle = rss_kib(pid)
        assert idle - before < IDLE * IDLE_KIB
        for _ in range(SLOW):
            clients.slow(stack)
        failures = []
        threads = [threading.Thread(target=fetch, args=(clients, failures)) for _ in range(TRANSFERS)]
        for thread in threads:
            thread.start()
        most = idle
        deadline_s = time.monotonic() + ALL_S
        while any(thread.is_alive() for thread in threads):
            assert time.monotonic() < deadline_s
            most = max(most, rss_kib(pid))
            time.sleep(0.05)
        assert not failures
        sys.stdout.write(f"KiB an idle connection: {(idle - before) // IDLE}, a transfer: ")
        sys.stdout.write(f"{(most - idle) // (TRANSFERS + SLOW)}\n")
        assert most - idle < (TRANSFERS + SLOW) * TRANSFER_KIB


def test_who_reads_slowly_slows_nobody_else(door):
    """A fast client among slow ones needs no more than a few times what it needs alone."""
    clients, _ = door
    alone_s = seconds(clients)
    with ExitStack() as stack:
        for _ in range(SLOW):
            clients.slow(stack)
        among_s = seconds(clients)
    assert among_s < 5 * alone_s + 2


def seconds(clients):
    """Return how long ten files take."""
    begun_s = time.monotonic()
    failures = []
    for _ in range(10):
        fetch(clients, failures)
    assert not failures
    return time.monotonic() - begun_s


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
