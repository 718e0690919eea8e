"""A disk of scratch that breaks: who waits for the file hears so at once, and the others get theirs."""

import errno
import threading
from collections import Counter

from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState
from srm_dicom.errors import InternalError
from srm_dicom.scratch.area import Incoming
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_plugin_dicom import retrieving


def test_one_write_that_fails_is_one_file_that_fails(staging, pacs, wait_for, monkeypatch):
    pacs.add(make_series(SeriesSpec("CT", 3)))
    (files,) = staging.register()
    writes, plain = [], Incoming.write

    def write(self, data):
        writes.append(self)
        if len(writes) == 1:
            raise OSError(errno.EIO, "Input/output error")
        plain(self, data)

    monkeypatch.setattr(Incoming, "write", write)
    with staging.stager(visit_s=600.0):
        token = staging.want("/CN=Alice", files)
        wait_for(lambda: not staging.states(token) & set(ACTIVE))
    rows = staging.stores.requests.files(token)
    assert Counter(row.state for row in rows) == {FileState.FAILED: 1, FileState.PINNED: 2}
    (failed,) = (row for row in rows if row.state is FileState.FAILED)
    assert isinstance(failed.failure, InternalError)
    assert (pacs.moves, staging.incoming()) == (1, [])


def test_a_write_that_hangs_keeps_the_place_of_its_visit_for_as_long_as_somebody_waits(
    staging, pacs, wait_for, monkeypatch
):
    """Nothing ends such a write, and a disk that answers again delivers: so long it is waited for."""
    pacs.add(make_series(SeriesSpec("CT", 3)))
    pacs.add(make_series(SeriesSpec("MR", 2, study="2")))
    hung, others = sorted(staging.register(), key=len, reverse=True)
    begun, answers, plain = threading.Event(), threading.Event(), Incoming.write

    def write(self, data):
        if not begun.is_set():
            begun.set()
            assert answers.wait(120)
        plain(self, data)

    monkeypatch.setattr(Incoming, "write", write)
    monkeypatch.setattr(retrieving, "CANCEL_S", 0.5)
    staging.change_settings('name = "archive"', 'name = "archive"\nmax_visits = 1')
    with staging.stager(visit_s=600.0):
        token = staging.want("/CN=Alice", hung)
        wait_for(begun.is_set)
        other = staging.want("/CN=Bob", others)
        waiting = [row.id for row in staging.stores.requests.files(token)]
        staging.stores.requests.move(waiting, ACTIVE, FileState.FAILED)  # as time does
        wait_for(lambda: staging.is_there(other))
        answers.set()
    assert staging.states(token) == {FileState.FAILED}
