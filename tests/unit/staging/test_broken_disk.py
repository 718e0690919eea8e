"""A disk of scratch that breaks: who waits for the file hears so at once, and the others get theirs."""

import errno
from collections import Counter

from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState
from srm_dicom.errors import InternalError
from srm_dicom.scratch.area import Incoming
from srm_dicom.testing.images import SeriesSpec, make_series


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
