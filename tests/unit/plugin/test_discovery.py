"""Walking an archive: what its answers may not bring about."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from srm_dicom.clock import SystemClock
from srm_dicom.errors import InvalidRequest
from srm_dicom.plugin.api import PluginContext
from srm_dicom.rights.project import Release
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.discovery import any_image, walk
from srm_plugin_dicom.pacs import PacsSession
from srm_plugin_dicom.plugin import DicomPlugin
from srm_plugin_dicom.selector import Level, parse_selector

STUDY, SERIES, IMAGE = "1.2.1", "1.2.1.1", "1.2.1.1.1"
RELEASE = Release("p", "basic", "v1")
EVIL = ["*", "1.2.3\\1.2.4", "../../instances", "1.2\r\nX: y", "1.2.3?x", "1.2.é", "1" * 65, "1.2 3"]


class Archive:
    """Answers each question with what it was told to, whatever was asked."""

    name = "archive"

    def __init__(self, answers: Mapping[Level, Sequence[dict[str, str]]]) -> None:
        self.answers = answers
        self.asked: list[Mapping[str, str]] = []

    @contextmanager
    def session(self) -> Iterator["Archive"]:
        yield self

    def find(self, level: Level, keys: Mapping[str, str]) -> list[dict[str, str]]:
        self.asked.append(keys)
        return list(self.answers[level])


class Association:
    """One of pynetdicom's whose archive answers a C-FIND so."""

    def __init__(self, *answers: dict[str, str]) -> None:
        self.answers = answers

    def send_c_find(self, _identifier: Dataset, _model: str) -> Iterator[tuple[Dataset, Dataset | None]]:
        for answer in self.answers:
            status, told = Dataset(), Dataset()
            status.Status = 0xFF00
            for keyword, value in answer.items():
                setattr(told, keyword, value)
            yield status, told
        status = Dataset()
        status.Status = 0
        yield status, None


def told(series: str = SERIES, instance: str = IMAGE, study: str = STUDY) -> Archive:
    patient = {"PatientID": "4711"}
    return Archive(
        {
            Level.STUDY: [{"StudyInstanceUID": study} | patient],
            Level.SERIES: [{"StudyInstanceUID": study, "SeriesInstanceUID": series}],
            Level.IMAGE: [
                {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance}
            ],
        }
    )


def found(archive: Archive) -> list[dict[str, str]]:
    return list(walk(archive, parse_selector("source=archive")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("date", "asked"),
    [
        ("20261129", ["20261129-"]),
        ("20261120", ["20261129-", "20261030-"]),
        ("20000101", ["20261129-", "20261030-", "20251129-", ""]),
    ],
)
def test_some_image_is_looked_for_among_the_newest(date: str, asked: list[str]) -> None:
    """An archive has millions of studies, and would tell of all of them."""
    archive = told()
    archive.answers[Level.STUDY][0]["StudyDate"] = date
    image = any_image(archive, datetime(2026, 11, 29, 12, tzinfo=UTC))
    assert image is not None
    assert image["SOPInstanceUID"] == IMAGE
    assert [keys["StudyDate"] for keys in archive.asked if "StudyDate" in keys] == asked


def test_what_is_told_of_another_study_or_series_is_no_answer() -> None:
    """It would be registered for the patient of the study that was asked for."""
    (image,) = found(told())
    assert (image["StudyInstanceUID"], image["PatientID"]) == (STUDY, "4711")
    archive = told()
    archive.answers[Level.SERIES][0]["StudyInstanceUID"] = "1.2.9"
    assert found(archive) == []
    archive = told()
    archive.answers[Level.IMAGE][0]["SeriesInstanceUID"] = "1.2.9"
    assert found(archive) == []


def test_a_study_that_has_no_name_is_not_asked_for_its_series() -> None:
    archive = told()
    del archive.answers[Level.STUDY][0]["StudyInstanceUID"]
    assert found(archive) == []
    assert len(archive.asked) == 1, "who asks for the series of no study asks for all"


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_what_is_called_by_no_uid_is_left_out(keyword: str, evil: str) -> None:
    """Over C-FIND and QIDO-RS: it would go into the paths and lists of what is asked for later."""
    good = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": IMAGE}
    session = PacsSession("archive", Association(good | {keyword: evil}, good))  # type: ignore[arg-type]
    assert session.find(Level.IMAGE, {}) == [good]


@pytest.mark.parametrize("evil", [*EVIL, ""])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_an_arrival_that_is_called_by_no_uid_is_refused(keyword: str, evil: str, tmp_path: Path) -> None:
    sources = [{"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}]
    settings = {"sources": sources, "moves": {"ae_title": "MDM1", "port": free_port()}}
    plugin = DicomPlugin(PluginContext("dicom", settings, tmp_path, SystemClock()))
    good = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": IMAGE}
    assert plugin._discovered("main", good, RELEASE).group
    with pytest.raises(InvalidRequest):
        plugin._discovered("main", good | {keyword: evil}, RELEASE)
    plugin.close()
