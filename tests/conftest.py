"""Tests that need foreign programs say which: ``@pytest.mark.interop("gfal-copy", "Orthanc")``.

Where one is missing the test is skipped and names it; with ``INTEROP=required`` (CI) it fails.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

from srm_dicom.daemon import coredump

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

REQUIRED = os.environ.get("INTEROP") == "required"
SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
"""Debian's clients run with Debian's Python: a venv's programs of the same name must not be found."""


def is_installed(program):
    """Tell whether a program, a file given by its absolute path, or ``python:module`` is there."""
    if program.startswith("python:"):
        return find_spec(program.partition(":")[2]) is not None
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=SYSTEM_PATH) is not None


def pytest_runtest_setup(item):
    for marker in item.iter_markers("interop"):
        missing = [program for program in marker.args if not is_installed(program)]
        if missing and REQUIRED:
            pytest.fail(f"INTEROP=required and {', '.join(missing)} is not installed")
        if missing:
            pytest.skip(f"{', '.join(missing)} is not installed")


@pytest.fixture(scope="session", autouse=True)
def cores_of_children():
    """Let commands of the inner zone that run in this process not take it, and its children, their cores."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(coredump, "resource", SimpleNamespace(RLIMIT_CORE=0, setrlimit=lambda *_: None))
        patched.setattr(coredump, "ctypes", SimpleNamespace(CDLL=lambda _: None))
        yield
