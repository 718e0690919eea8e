"""What is measured of requests: how many files wait, and since when, whatever has ended before."""

from datetime import timedelta

import pytest

from srm_dicom.daemon import gauges
from srm_dicom.ids import new_token
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind


@pytest.fixture
def measured(site):
    """Return what the gauges of requests show."""
    waiting, oldest = gauges.of_requests(site.stores.requests, site.clock)

    def look():
        states = {sample.labels["state"]: sample.value for sample in waiting.metric().samples}
        (age,) = oldest.metric().samples
        return {state: value for state, value in states.items() if value}, age.value

    return look


def add(site, *states):
    now = site.clock.now()
    request = Request(
        new_token(), RequestKind.BRING_ONLINE, "/CN=Alice", "", now, now + timedelta(hours=1), pin_s=60
    )
    files = [RequestFile(f"/p/{state}", f"/p/{state}", None, state) for state in states]
    site.stores.requests.add(request, files)
    return [file.id for file in site.stores.requests.files(request.token)]


def test_nothing_waits(measured):
    assert measured() == ({}, 0.0)


def test_files_that_wait_and_the_age_of_the_oldest(site, measured):
    add(site, FileState.PINNED, FileState.FAILED)
    site.clock.advance(10)
    first = add(site, FileState.IN_PROGRESS, FileState.QUEUED)
    site.clock.advance(10)
    add(site, FileState.QUEUED, FileState.QUEUED, FileState.RELEASED)
    site.clock.advance(5)
    assert measured() == ({"queued": 3, "in_progress": 1}, 15.0)
    site.stores.requests.move(first, [FileState.QUEUED, FileState.IN_PROGRESS], FileState.PINNED)
    assert measured() == ({"queued": 2}, 5.0)


@pytest.mark.parametrize("name", ["waiting", "oldest"])
def test_what_has_ended_is_not_read(site, monkeypatch, name):
    """A site has millions of files of requests that are over."""
    database, said = site.stores.database._peewee, []
    execute = database.execute_sql
    with monkeypatch.context() as patched:
        patched.setattr(database, "execute_sql", lambda *args: (said.append(args), execute(*args))[1])
        getattr(site.stores.requests, name)(*[FileState.QUEUED][: name == "oldest"])
    ((sql, *params),) = said
    if not site.stores.database.is_sqlite:
        execute("SET enable_seqscan TO off")  # there are no millions here
    explain = "EXPLAIN QUERY PLAN" if site.stores.database.is_sqlite else "EXPLAIN"
    assert "request_file_open_by" in str(execute(f"{explain} {sql}", *params).fetchall())
