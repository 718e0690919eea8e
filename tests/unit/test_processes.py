"""Every role has its builder, and a process of the outer zone has no code of the inner one."""

import subprocess
import sys

import pytest

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
