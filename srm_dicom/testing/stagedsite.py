"""pytest's fixtures of a site's inner zone over a simulated PACS; a conftest.py imports them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from srm_dicom.demo.site import Archive
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.staging import PATIENCE_S, Staging

T = TypeVar("T")


def _wait_for(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def pacs() -> Iterator[PacsSimulator]:
    """Return a PACS that simulates."""
    with PacsSimulator() as simulator:
        yield simulator


@pytest.fixture
def staging(tmp_path: Path, pacs: PacsSimulator) -> Iterator[Staging]:
    """Return the inner zone of a site over it."""
    made = Staging.over(Archive(pacs.ae_title, pacs.host, pacs.port), tmp_path / "site")
    pacs.destinations["MDM1"] = ("127.0.0.1", made.demo.ports["moves"])
    yield made
    made.demo.stop()


@pytest.fixture
def wait_for() -> Callable[..., object]:
    """Return what waits until a condition holds, and fails when its time is up."""
    return _wait_for
