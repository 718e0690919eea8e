"""A site's inner zone over a simulated PACS (`srm_dicom.testing.staging`)."""

import time

import pytest

from srm_dicom.demo.site import Archive
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.staging import PATIENCE_S, Staging


def wait_for(condition, timeout_s=PATIENCE_S):
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def pacs():
    with PacsSimulator() as pacs:
        yield pacs


@pytest.fixture
def staging(tmp_path, pacs):
    made = Staging.over(Archive(pacs.ae_title, pacs.host, pacs.port), tmp_path / "site")
    pacs.destinations["MDM1"] = ("127.0.0.1", made.demo.ports["moves"])
    yield made
    made.demo.stop()


@pytest.fixture(name="wait_for")
def _wait_for():
    return wait_for
