"""What nobody waits for any more is not fetched, and takes nobody's turn."""

import threading

import pytest

from srm_dicom.broker.stager import Stager
from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_plugin_dicom import retrieving

SOURCE = 'name = "archive"'


def abort(staging, rows):
    assert staging.stores.requests.move([row.id for row in rows], ACTIVE, FileState.ABORTED) == len(rows)


@pytest.fixture
def begin(monkeypatch):
    """Lets visits whose turn it is begin."""
    begin, plain = threading.Event(), Stager.visit

    def visit(self, visit):
        assert begin.wait(60)
        plain(self, visit)

    monkeypatch.setattr(Stager, "visit", visit)
    yield begin
    begin.set()


def test_files_that_are_aborted_before_their_move_begins(staging, pacs, wait_for, begin):
    pacs.add(make_series(SeriesSpec("CT", 4)))
    pacs.add(make_series(SeriesSpec("MR", 2, study="2")))
    series = sorted(staging.register(), key=len)
    token, both = staging.want("/CN=Alice", series[1]), staging.want("/CN=Bob", series[1][:1])
    whole = staging.want("/CN=Carol", series[0])
    with staging.stager():
        for each in (token, both, whole):
            wait_for(lambda each=each: staging.states(each) == {FileState.IN_PROGRESS})
        abort(staging, staging.stores.requests.files(token)[:2])
        abort(staging, staging.stores.requests.files(whole))
        begin.set()
        wait_for(lambda: staging.is_there(both))
        wait_for(lambda: not staging.states(token) & set(ACTIVE))
        last = staging.want("/CN=Carol", series[0][:1])
        wait_for(lambda: staging.is_there(last))
    assert pacs.moves == 2
    wanted = {series[1][0], *series[1][2:], series[0][0]}
    assert {item.guid for item in staging.staged()} == wanted
    assert [row.state for row in staging.stores.requests.files(token)].count(FileState.PINNED) == 2


def test_a_visit_that_waits_for_its_turn_has_none_when_all_of_it_is_aborted(staging, pacs, wait_for):
    """The archive may be asked for one file in ten minutes: what is aborted must not be that one."""
    images = {study: make_series(SeriesSpec("CT", 3, study=study)) for study in ("slow", "aborted", "last")}
    for each in images.values():
        pacs.add(each)
    slow = pacs.faults.recall_s = {str(images["slow"][0].StudyInstanceUID): 60.0}
    files = {
        study: staging.register(f"StudyInstanceUID={each[0].StudyInstanceUID}")[0]
        for study, each in images.items()
    }
    staging.change_settings(SOURCE, SOURCE + "\nmax_visits = 1")
    with staging.stager():
        first = staging.want("/CN=Alice", files["slow"])
        wait_for(lambda: pacs.moves == 1)
        token = staging.want("/CN=Alice", files["aborted"])
        wait_for(lambda: staging.states(token) == {FileState.IN_PROGRESS})
        abort(staging, staging.stores.requests.files(token))
        last = staging.want("/CN=Alice", files["last"])
        slow.clear()
        wait_for(lambda: staging.is_there(last))
    assert staging.is_there(first)
    assert pacs.moves == 2
    assert {item.guid for item in staging.staged()} == {*files["slow"], *files["last"]}


@pytest.mark.parametrize("heeds", [True, False])
def test_a_move_under_way_is_cancelled_when_the_last_who_waits_is_gone(
    staging, pacs, wait_for, monkeypatch, heeds
):
    """The archive hears of it by C-CANCEL; its association is aborted if it goes on all the same."""
    monkeypatch.setattr(retrieving, "CANCEL_S", 0.5)
    pacs.add(make_series(SeriesSpec("CT", 40)))
    pacs.add(make_series(SeriesSpec("MR", 2, study="2")))
    pacs.faults.slow_s, pacs.faults.ignores_cancel = 0.5, not heeds
    series = sorted(staging.register(), key=len)
    token, both = staging.want("/CN=Alice", series[1]), staging.want("/CN=Bob", series[1][:4])
    staging.change_settings(SOURCE, SOURCE + "\nmax_visits = 1")
    with staging.stager():
        wait_for(staging.staged)
        active = [row for row in staging.stores.requests.files(token) if row.state in ACTIVE]
        abort(staging, active)
        wait_for(lambda: staging.is_there(both))
        other = staging.want("/CN=Carol", series[0])
        wait_for(lambda: staging.is_there(other))
        assert pacs.moves == 2
        assert pacs.cancelled == int(heeds)
    assert len(staging.staged()) < 30
    assert staging.incoming() == []
