"""One read-write storage element and its users, for every conformance case."""

from collections.abc import Iterator

import pytest

from srm_dicom.testing.conformance import Run, callers
from srm_dicom.testing.element import StorageElement
from srm_dicom.testing.verbs.calls import Caller


@pytest.fixture(scope="session")
def element(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageElement]:
    made = StorageElement(tmp_path_factory.mktemp("element"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def users(element: StorageElement, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Caller]]:
    made = callers(element, tmp_path_factory.mktemp("wsdl"))
    yield made
    for user in made.values():
        user.close()


@pytest.fixture
def run(element: StorageElement, users: dict[str, Caller]) -> Run:
    return Run(element, users)
