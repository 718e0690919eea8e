"""The GridFTP door under many clients: memory has a bound, and who reads slowly slows nobody else."""

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
from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.wire.gridftp.addresses import parse_passive_port

IDLE = 500
TRANSFERS = 100
SLOW = 20
FILE_BYTES = 8 * 1024 * 1024
IDLE_KIB = 200
"""Of a session that waits: a thread's used stack, a TLS session, its buffers."""
TRANSFER_KIB = 1024

pytestmark = pytest.mark.timeout(400)


def serve(base):
    """Be the door of a process of its own, whose memory can be told from the clients'."""
    pki = TestPki(base / "pki", fast=True)
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    settings = GridFtpSettings(port=0, data_ports=(0, 0), max_sessions_per_address=1000)
    door = GridFtpDoor(DirectoryFiles(base / "files", checksums=False), gate, settings, SystemClock())
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


def log_in(port, user):
    return Session(Turl("localhost", port, "/"), user, Timeouts(60, 60, 60))


def rss_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def slow_transfer(session):
    """Begin a transfer and read nothing of it."""
    data = socket.socket()
    data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    data.connect(("127.0.0.1", parse_passive_port(session.command("EPSV"))))
    session.send("RETR /file")
    assert session.next_reply().code == 150
    return data


def test_500_idle_sessions_and_100_transfers(door, user):
    port, pid = door
    log_in(port, user).leave()
    before = rss_kib(pid)
    with ExitStack() as stack:
        for _ in range(IDLE):
            stack.callback(log_in(port, user).leave)
        idle = rss_kib(pid)
        assert idle - before < IDLE * IDLE_KIB
        for _ in range(SLOW):
            session = log_in(port, user)
            stack.callback(session.leave)
            stack.callback(slow_transfer(session).close)
        failures = []
        threads = [threading.Thread(target=_fetch, args=(port, user, failures)) for _ in range(TRANSFERS)]
        for thread in threads:
            thread.start()
        most = idle
        deadline_s = time.monotonic() + 200
        while any(thread.is_alive() for thread in threads):
            assert time.monotonic() < deadline_s
            most = max(most, rss_kib(pid))
            time.sleep(0.05)
        assert not failures
        sys.stdout.write(f"KiB an idle session: {(idle - before) // IDLE}, a transfer: ")
        sys.stdout.write(f"{(most - idle) // (TRANSFERS + SLOW)}\n")
        assert most - idle < (TRANSFERS + SLOW) * TRANSFER_KIB


class Counter:
    def __init__(self):
        self.size_bytes = 0

    def write(self, data):
        self.size_bytes += len(data)


def _fetch(port, user, failures):
    try:
        counter = Counter()
        with GridFtpClient(user, timeouts=Timeouts(100, 100, 100)) as client:
            client.fetch(f"gsiftp://localhost:{port}/file", counter)
        if counter.size_bytes != FILE_BYTES:
            failures.append(counter.size_bytes)
    except Exception as error:  # noqa: BLE001 whatever it is, the test fails with it
        failures.append(error)


def test_a_slow_reader_slows_nobody(door, user):
    """One fast client among slow ones needs no more than a few times what it needs alone."""
    port, _ = door
    alone_s = _seconds(port, user)
    with ExitStack() as stack:
        for _ in range(SLOW):
            session = log_in(port, user)
            stack.callback(session.leave)
            stack.callback(slow_transfer(session).close)
        among_s = _seconds(port, user)
    assert among_s < 5 * alone_s + 2


def _seconds(port, user):
    begun_s = time.monotonic()
    failures = []
    for _ in range(10):
        _fetch(port, user, failures)
    assert not failures
    return time.monotonic() - begun_s


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
