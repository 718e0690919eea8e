"""pytest's fixtures of a site's inner zone over a simulated PACS; a conftest.py imports them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from srm_dicom.daemon.skeleton import Archive
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.staging import Staging
from srm_dicom.testing.waiting import eventually


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
    return eventually
