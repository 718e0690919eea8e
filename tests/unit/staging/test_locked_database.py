"""A database that is locked, or does not answer, for a while: who waits goes on waiting, and then has it."""

import sqlite3
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import peewee
import pytest

from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.views import FileState
from srm_dicom.db import database
from srm_dicom.store.leases import Leases
from srm_dicom.store.namespace import Namespace
from srm_dicom.testing.images import SeriesSpec, make_series


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Lets a writer wait for another less long than any test."""
    monkeypatch.setitem(database._PRAGMAS, "busy_timeout", 100)


@contextmanager
def locked(staging):
    """Writes to the database, as a backup or an administrator may, and is slow about it."""
    url = staging.common.config.database
    if not staging.stores.database.is_sqlite:
        pytest.skip("of SQLite")
    other = sqlite3.connect(urlsplit(url).path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def publishing(monkeypatch):
    """Tells when a stager publishes, and when that has failed."""
    begun, failed, go_on = threading.Event(), threading.Event(), threading.Event()
    publish = Publisher.publish

    def watched(self, *files):
        begun.set()
        assert go_on.wait(60)
        try:
            publish(self, *files)
        except Exception:
            failed.set()
            raise

    monkeypatch.setattr(Publisher, "publish", watched)
    return begun, go_on, failed


def test_a_visit_that_cannot_say_what_it_brought_is_made_again(staging, pacs, wait_for, publishing):
    begun, go_on, failed = publishing
    pacs.add(make_series(SeriesSpec("CT", 3)))
    (guids,) = staging.register()
    token = staging.want("/CN=Alice", guids)
    with staging.stager():
        wait_for(begun.is_set)
        with locked(staging):
            go_on.set()
            wait_for(failed.is_set)
        wait_for(lambda: staging.is_there(token))
    assert {file.attempts for file in staging.stores.requests.files(token)} == {1}
    assert pacs.moves == 2


def test_who_asks_while_nothing_can_be_claimed_is_served_later(staging, pacs, wait_for, monkeypatch):
    pacs.add(make_series(SeriesSpec("CT", 3)))
    (guids,) = staging.register()
    begun, go_on, broken = threading.Event(), threading.Event(), threading.Event()
    line_up = Stager._line_up

    def watched(self, *arguments):
        begun.set()
        assert go_on.wait(60)
        try:
            line_up(self, *arguments)
        except Exception:
            broken.set()
            raise

    monkeypatch.setattr(Stager, "_line_up", watched)
    with staging.stager():
        wait_for(begun.is_set)
        token = staging.want("/CN=Alice", guids)
        with locked(staging):
            go_on.set()
            wait_for(broken.is_set)
            assert staging.states(token) == {FileState.QUEUED}
        wait_for(lambda: staging.is_there(token))


@pytest.mark.parametrize("step", ["find_guids", "give_back"])
def test_what_was_claimed_when_the_database_failed_does_not_wait_for_its_lease(
    staging, pacs, wait_for, monkeypatch, step
):
    """One study has its turn, the other is given back: neither is in anybody's hands when that fails."""
    for study in ("1", "2"):
        pacs.add(make_series(SeriesSpec("CT", 2, study=study)))
    guids = [guid for series in staging.register() for guid in series]
    owner = {"find_guids": Namespace, "give_back": Leases}[step]
    works, failures = getattr(owner, step), []

    def fails_once(self, *arguments):
        if not failures:
            failures.append(arguments)
            raise peewee.OperationalError("server closed the connection unexpectedly")
        return works(self, *arguments)

    staging.change_settings('name = "archive"', 'name = "archive"\nuser_files = 2')
    token = staging.want("/CN=Alice", guids)
    monkeypatch.setattr(owner, step, fails_once)
    with staging.stager(visit_s=300.0):
        wait_for(lambda: staging.is_there(token))
    assert failures
    assert {file.attempts for file in staging.stores.requests.files(token)} == {1}
