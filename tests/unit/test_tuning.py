"""What a process that takes arrivals tells the kernel."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
from srm_dicom.tuning import tune_for_arrivals
tune_for_arrivals()
print(os.sched_getscheduler(0))
"""


@pytest.mark.parametrize(("found", "left"), [("OTHER", "BATCH"), ("IDLE", "IDLE")])
def test_it_is_a_batch_job_unless_the_administrator_said_another_thing(found, left):
    command = [sys.executable, "-c", PROGRAM, str(getattr(os, f"SCHED_{found}"))]
    done = subprocess.run(command, capture_output=True, check=True)
    assert int(done.stdout) == getattr(os, f"SCHED_{left}")
