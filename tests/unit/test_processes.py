"""Every role has its builder, and a process of the outer zone has no code of the inner one."""

import subprocess
import sys
import threading

import pytest

from srm_dicom.daemon.common import Loop
from srm_dicom.daemon.processes import ROLES, builder

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
