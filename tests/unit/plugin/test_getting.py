"""C-GET: one association for many visits, of the kinds of objects that it was opened for."""

from collections.abc import Iterator

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator
from srm_plugin_dicom import getting
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.getting import GetArchive
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.retrieving import Retrieving


@pytest.fixture
def pacs() -> Iterator[PacsSimulator]:
    with PacsSimulator() as simulator:
        yield simulator


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Retrieving]:
    """The associations for C-GET that were opened."""
    found: list[Retrieving] = []

    class Counted(Retrieving):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            found.append(self)

    monkeypatch.setattr(getting, "Retrieving", Counted)
    return found


def test_one_association_for_many_visits(pacs: PacsSimulator, opened: list[Retrieving]) -> None:
    kinds = {kind: make_series(SeriesSpec(kind, 2, study=kind)) for kind in ("CT", "MR")}
    for images in kinds.values():
        pacs.add(images)
    desk = MoveDesk(max_object_bytes=1 << 20, budget=MemoryBudget(1 << 24))
    where = Pacs(PacsSettings("archive", pacs.ae_title, pacs.host, pacs.port), "MDM1")
    archive = GetArchive(where, "MDM1", desk, SystemClock())

    def fetch(kind: str) -> int:
        images, came = kinds[kind], []
        names = tuple(str(each.SOPInstanceUID) for each in images)
        wanted = Wanted(str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID), names)
        archive.fetch([wanted], lambda info, _data: came.append(info.sop_instance), 20.0)
        assert sorted(came) == sorted(names)
        return len(opened)

    assert [fetch("CT") for _ in range(3)] == [1, 1, 1]
    assert [fetch("MR"), fetch("MR")] == [2, 2]
    assert fetch("CT") == 3, "the one for the other kind was released"
    opened[-1]._connection.close()
    archive.close()
    assert fetch("CT") == 4
    archive.close()
