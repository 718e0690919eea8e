"""C-GET: one association for many visits, of the kinds of objects that it was opened for."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from srm_dicom.clock import SystemClock
from srm_dicom.errors import SourceRefused, SourceUnavailable
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator
from srm_plugin_dicom import getting, stores
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


class Archive:
    """A PACS with images of two kinds, and one that asks it; questions have no association of their own."""

    def __init__(self, pacs: PacsSimulator, opened: list[Retrieving]) -> None:
        self.kinds = {kind: make_series(SeriesSpec(kind, 2, study=kind)) for kind in ("CT", "MR")}
        for images in self.kinds.values():
            pacs.add(images)
        self.opened = opened
        desk = MoveDesk(max_object_bytes=1 << 20, budget=MemoryBudget(1 << 24))
        where = Pacs(PacsSettings("archive", pacs.ae_title, pacs.host, pacs.port), "MDM1")
        self.getting = GetArchive(where, "MDM1", desk, SystemClock())

    def wanted(self, kind: str, *more: str) -> Wanted:
        images = self.kinds[kind]
        names = tuple(str(each.SOPInstanceUID) for each in images)
        return Wanted(str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID), (*names, *more))

    def fetch(self, wanted: Wanted) -> list[str]:
        came: list[str] = []
        self.getting.fetch([wanted], lambda info, _data: came.append(info.sop_instance), 20.0)
        return sorted(came)

    def opens(self, kind: str) -> int:
        """Return how many associations there have been after a visit."""
        wanted = self.wanted(kind)
        assert self.fetch(wanted) == sorted(wanted.instances)
        return len(self.opened)


@pytest.fixture
def archive(
    pacs: PacsSimulator, opened: list[Retrieving], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Archive]:
    def session(_archive: GetArchive) -> None:
        pytest.fail("an association beside the one that is kept")

    monkeypatch.setattr(GetArchive, "session", session)
    made = Archive(pacs, opened)
    yield made
    made.getting.close()


def test_one_association_for_many_visits_and_their_questions(archive: Archive) -> None:
    assert [archive.opens("CT") for _ in range(3)] == [2, 2, 2], "one to ask, before the kind is known"
    assert [archive.opens("MR"), archive.opens("MR")] == [3, 3]
    assert archive.opens("CT") == 4, "the one for the other kind was released"
    archive.opened[-1]._connection.close()
    archive.getting.close()
    assert archive.opens("CT") == 5, "a new one is for what was fetched last"


def test_what_the_archive_does_not_have_is_not_asked_for(archive: Archive, pacs: PacsSimulator) -> None:
    """Orthanc refuses all of a C-GET for one object that it does not have."""
    wanted = archive.wanted("CT", "1.2.3.4")
    assert archive.fetch(wanted) == sorted(wanted.instances[:2])
    assert archive.fetch(replace(wanted, instances=("1.2.3.4",))) == []
    assert pacs.gets == 1


def test_questions_that_are_refused_or_answered_without_end(
    archive: Archive, pacs: PacsSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs.faults.refuses_find = 0xA900
    with pytest.raises(SourceRefused):
        archive.fetch(archive.wanted("CT"))
    pacs.faults.refuses_find = 0
    monkeypatch.setattr(stores, "MAX_HEARD_BYTES", 100)
    with pytest.raises(SourceUnavailable):
        archive.fetch(archive.wanted("CT"))


@pytest.mark.parametrize("evil", ["x" * 70_000, "1.2\\1.3", "1.2.é"])
def test_kinds_that_are_none(archive: Archive, pacs: PacsSimulator, evil: str) -> None:
    """They would be proposed as presentation contexts; it is as if they were not told."""
    described = pacs._describe

    def describe(*asked: Any) -> Dataset:
        answer = described(*asked)
        del answer.SOPClassUID  # it is the image's own element
        answer.SOPClassUID = evil
        return answer

    pacs._describe = describe  # type: ignore[method-assign]
    wanted = archive.wanted("CT")
    assert archive.fetch(wanted) == sorted(wanted.instances)
