"""Ten thousand operations on key servers under random kills: the long run of what tests/unit/keys has."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 250
"""Of 50 operations each; the same ones every time."""

PATIENCE_S = 1500


@pytest.mark.timeout(PATIENCE_S + 60)
def test_ten_thousand_operations():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-s",
            "-p",
            "no:cacheprovider",
            "tests/unit/keys/test_key_faults.py",
        ],
        cwd=ROOT,
        env={**os.environ, "MDM_FAULT_RUNS": str(RUNS)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    told = re.search(r"(\d+) operations", done.stdout)
    assert told is not None
    assert int(told[1]) >= 10_000
