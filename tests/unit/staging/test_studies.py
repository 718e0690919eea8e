"""A study of many small series is one C-MOVE where the archive takes lists of series, else one for each."""

import pytest

from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState
from srm_dicom.testing.images import SeriesSpec, make_series

SERIES = 30


@pytest.fixture
def study(staging, pacs):
    """Return the files of a study, series by series, and one of another study."""
    for number in range(SERIES):
        pacs.add(make_series(SeriesSpec("CT", 1 + number % 2, number=number, rows=8, columns=8)))
    pacs.add(make_series(SeriesSpec("CT", 1, study="2", rows=8, columns=8)))
    return [guid for series in staging.register() for guid in series]


def stage(staging, wait_for, files):
    """Stage files; returns the states in which they end."""
    with staging.stager():
        token = staging.want("/CN=Alice", files)
        wait_for(lambda: not staging.states(token) & set(ACTIVE))
    return [row.state for row in staging.stores.requests.files(token)]


def test_series_of_a_study_are_one_move(staging, pacs, wait_for, study):
    assert set(stage(staging, wait_for, study)) == {FileState.PINNED}
    assert pacs.moves == 2, "one for each study"


@pytest.mark.parametrize("status", [0, 0xA900])
def test_an_archive_that_takes_one_series_at_a_time(staging, pacs, wait_for, study, status):
    """It finds nothing under a list, or refuses it: it is asked series by series, and then always."""
    pacs.faults.one_series = status
    assert set(stage(staging, wait_for, study)) == {FileState.PINNED}
    assert pacs.moves == 1 + SERIES + 1


def test_what_the_archive_has_lost_of_a_study_keeps_nothing_else(staging, pacs, wait_for, study):
    pacs.faults.lost = frozenset(pacs.instances[:1])
    states = stage(staging, wait_for, study)
    assert states.count(FileState.FAILED) == 1
    assert states.count(FileState.PINNED) == len(study) - 1
