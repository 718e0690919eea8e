"""A study that the PACS has to fetch from its own archive first holds up nobody but those who want it."""

import pytest

from srm_dicom.broker.views import FileState
from srm_dicom.testing.images import SeriesSpec, make_series

SLOW_S = 60.0
SOURCE = 'name = "archive"'
PATIENT = f"{SOURCE}\nfirst_object_s = 600.0"
IMPATIENT = f"{SOURCE}\nfirst_object_s = 0.5"


def study(name, slices=3):
    return make_series(SeriesSpec("CT", slices, study=name))


@pytest.fixture
def studies(staging, pacs):
    """Put studies into the PACS, some of which it has to fetch first; returns the files of each."""

    def put(quick, slow):
        images = {name: study(name) for name in (*quick, *slow)}
        for each in images.values():
            pacs.add(each)
        pacs.faults.recall_s = {str(images[name][0].StudyInstanceUID): SLOW_S for name in slow}
        return {
            name: staging.register(f"StudyInstanceUID={each[0].StudyInstanceUID}")[0]
            for name, each in images.items()
        }

    return put


def test_quick_studies_of_others_end_while_slow_ones_of_one_user_wait(staging, pacs, studies, wait_for):
    files = studies(["bob", "carol", "dave"], ["one", "two", "three"])
    staging.change_settings(SOURCE, PATIENT)
    with staging.stager():
        slow = staging.want("/CN=Alice", [*files["one"], *files["two"], *files["three"]])
        wait_for(lambda: pacs.moves == 2)
        quick = [staging.want(f"/CN={name}", files[name]) for name in ("bob", "carol", "dave")]
        for token in quick:
            wait_for(lambda token=token: staging.is_there(token))
        assert staging.states(slow) == {FileState.IN_PROGRESS}
        assert pacs.moves == 2 + len(quick), "the last place is not one user's, however much waits"
        pacs.faults.recall_s.clear()
        wait_for(lambda: staging.is_there(slow))


def test_a_slow_study_of_each_of_two_users_leaves_a_place_for_a_third(staging, pacs, studies, wait_for):
    files = studies(["carol"], ["alice", "bob"])
    staging.change_settings(SOURCE, PATIENT)
    with staging.stager():
        slow = [staging.want(f"/CN={name}", files[name]) for name in ("alice", "bob")]
        wait_for(lambda: pacs.moves == 2)
        quick = staging.want("/CN=Carol", files["carol"])
        wait_for(lambda: staging.is_there(quick))
        assert [staging.states(token) for token in slow] == [{FileState.IN_PROGRESS}] * 2
        pacs.faults.recall_s.clear()
        for token in slow:
            wait_for(lambda token=token: staging.is_there(token))


@pytest.mark.parametrize("way", ["move", "get"])
def test_slow_studies_of_a_user_do_not_block_a_quick_one_of_the_same(staging, pacs, studies, wait_for, way):
    files = studies(["quick"], ["one", "two", "three"])
    staging.change_settings(SOURCE, f'{IMPATIENT}\nretrieve = "{way}"')
    with staging.stager():
        slow = [staging.want("/CN=Alice", files[name]) for name in ("one", "two", "three")]
        wait_for(lambda: pacs.moves + pacs.gets >= 2)
        quick = staging.want("/CN=Alice", files["quick"])
        wait_for(lambda: staging.is_there(quick))
        wait_for(lambda: slowness(staging, slow[0]))
        assert slowness(staging, slow[0]) == {("SourceSlow", 0)}, "nobody has lost it"
        pacs.faults.recall_s.clear()
        for token in slow:
            wait_for(lambda token=token: staging.is_there(token))


def test_slow_studies_of_many_users_do_not_block_another_user(staging, pacs, studies, wait_for):
    names = ["alice", "bob", "carol"]
    files = studies(["dave"], names)
    staging.change_settings(SOURCE, IMPATIENT)
    with staging.stager():
        slow = [staging.want(f"/CN={name}", files[name]) for name in names]
        wait_for(lambda: pacs.moves >= 3)
        quick = staging.want("/CN=Dave", files["dave"])
        wait_for(lambda: staging.is_there(quick))
        assert not any(staging.is_there(token) for token in slow)
        pacs.faults.recall_s.clear()
        for token in slow:
            wait_for(lambda token=token: staging.is_there(token))


def test_an_archive_that_begins_anew_each_time_is_waited_for_in_the_end(staging, pacs, studies, wait_for):
    files = studies([], ["one"])
    pacs.faults.recall_s = dict.fromkeys(pacs.faults.recall_s, 3.0)
    staging.change_settings(SOURCE, IMPATIENT)
    with staging.stager():
        slow = staging.want("/CN=Alice", files["one"])
        wait_for(lambda: staging.is_there(slow))
    assert pacs.moves >= 2, "0.5, 1, 2 and 4 seconds"


def slowness(staging, token):
    files = staging.stores.requests.files(token)
    return {(type(file.failure).__name__, file.lost) for file in files if file.failure is not None}
