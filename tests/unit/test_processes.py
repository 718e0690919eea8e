"""Every role has its builder, and a process of the outer zone has no code of the inner one."""

import signal
import subprocess
import sys
import threading

import pytest

from srm_dicom.daemon import processes
from srm_dicom.daemon.common import Loop
from srm_dicom.daemon.processes import ROLES, builder
from srm_dicom.errors import ConfigError

INNER = (
    "srm_dicom.daemon.inner",
    "srm_dicom.broker.stager",
    "srm_dicom.registry.saga",
    "pydicom",
    "pynetdicom",
)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_be_built(role):
    assert callable(builder(role))


@pytest.mark.parametrize("role", ["front", "transfer", "keys"])
def test_serving_users_loads_nothing_of_the_inner_zone(role):
    program = f"""
import sys
from srm_dicom.cli.admin import main
main.get_command(None, "serve")
from srm_dicom.daemon.processes import builder
builder({role!r})
print(*[name for name in {INNER!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_loop_that_broke_goes_on():
    """A database that is away for a while must not end what has to be done afterwards."""
    again, begun = threading.Event(), []

    def body(stop):
        begun.append(stop)
        if len(begun) < 3:
            raise OSError
        again.set()
        stop.wait(30)

    loop = Loop("some", body, pause_s=0.01)
    loop.start()
    assert again.wait(30)
    loop.stop()
    assert len(begun) == 3


def test_a_loop_that_breaks_is_ended_all_the_same():
    broke = threading.Event()

    def body(_stop):
        broke.set()
        raise OSError

    loop = Loop("some", body, pause_s=30)
    loop.start()
    assert broke.wait(30)
    loop.stop(timeout_s=20)
    assert not loop.alive


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)


def test_of_all_roles_none_is_left_behind(monkeypatch, tmp_path):
    """A child that does not end when it is told to is ended, and keeps no other from being waited for."""
    started = []

    def child(command, **_):
        ready = subprocess.PIPE if command[-1] == STUBBORN else None
        process = Popen(command, stdout=ready)
        if ready:
            process.stdout.readline()
        started.append(process)
        return process

    def program(role, _path):
        return [sys.executable, "-c", STUBBORN if role == "front" else "import time; time.sleep(0.1)"]

    Popen = subprocess.Popen
    config = tmp_path / "srm-dicom.toml"
    monkeypatch.setattr(processes, "STOP_S", 0.2)
    monkeypatch.setattr(processes, "command", program)
    monkeypatch.setattr(processes.subprocess, "Popen", child)
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    monkeypatch.setattr(processes.configuration, "load", lambda _: type("C", (), {"inner": None}))
    try:
        with pytest.raises(ConfigError, match="transfer ended with 0"):
            processes.serve_all(config)
        assert [process.poll() for process in started] == [-signal.SIGKILL, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
