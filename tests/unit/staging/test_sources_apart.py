"""What waits at one source keeps nobody from another, not even who waits there."""

import pytest

from srm_dicom.broker.views import FileState
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator

SOURCE = 'name = "archive"'
OTHER = """
[[settings.sources]]
name = "other"
ae_title = "OTHER"
host = "127.0.0.1"
port = {port}
"""
CLOSED = "hours = [{begins = 00:00:00, ends = 00:00:00, max_visits = 0}]"
MANY = 60


@pytest.fixture
def other(staging, pacs):
    """Another PACS of the site."""
    with PacsSimulator("OTHER") as second:
        second.destinations["MDM1"] = pacs.destinations["MDM1"]
        staging.settings += OTHER.format(port=second.port)
        staging.plugin_file.write_text(staging.settings)
        yield second


@pytest.fixture
def files(staging, pacs, other):
    """Many files of one PACS, and one of the other."""
    pacs.add(make_series(SeriesSpec("CT", MANY, rows=8, columns=8)))
    other.add(make_series(SeriesSpec("MR", 1, study="9")))
    return sorted(staging.register(), key=len, reverse=True)


def test_a_closed_source_keeps_its_own_files_and_no_others(staging, pacs, files, wait_for):
    many, one = files
    staging.change_settings(SOURCE, f"{SOURCE}\n{CLOSED}")
    with staging.stager(claim=10):
        closed = staging.want("/CN=Robot", many)
        late = staging.want("/CN=Robot", one)
        wait_for(lambda: staging.is_there(late))
        assert pacs.moves == 0
        assert staging.states(closed) <= {FileState.QUEUED, FileState.IN_PROGRESS}
    staging.change_settings(SOURCE, SOURCE)
    with staging.stager(claim=10):
        wait_for(lambda: staging.is_there(closed))


def test_a_busy_source_keeps_its_own_files_and_no_others(staging, pacs, files, wait_for):
    many, one = files
    pacs.faults.recall_s = {str(pacs.held(pacs.instances[0]).StudyInstanceUID): 60.0}
    with staging.stager(claim=10):
        busy = staging.want("/CN=Robot", many)
        wait_for(lambda: pacs.moves)
        late = staging.want("/CN=Robot", one)
        wait_for(lambda: staging.is_there(late))
        assert FileState.PINNED not in staging.states(busy)
        pacs.faults.recall_s.clear()


def test_how_many_files_of_a_user_are_in_hand_is_set_at_the_source(staging, pacs, files, wait_for):
    pacs.faults.recall_s = {str(pacs.held(pacs.instances[0]).StudyInstanceUID): 60.0}
    staging.change_settings(SOURCE, f"{SOURCE}\nfirst_object_s = 600.0\nmax_visits = 1\nuser_files = 7")
    with staging.stager(claim=10):
        token = staging.want("/CN=Robot", files[0])
        query = "SELECT COUNT(*) AS count FROM request_file WHERE token = ? AND source = ?"
        wait_for(
            lambda: staging.stores.database.select(query, [token, "dicom:archive"])[0].count == MANY - 20
        )
        assert staging.stores.requests.counts()[FileState.IN_PROGRESS] == MANY
        pacs.faults.recall_s.clear()
        wait_for(lambda: staging.is_there(token))
