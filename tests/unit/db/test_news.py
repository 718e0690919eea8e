"""Hearing of writers: a hint that may come at once, and never has to."""

import os
import threading

import pytest

from srm_dicom.db import news as news_module
from srm_dicom.db.database import Database
from srm_dicom.testing.databases import VARIABLE, database_url

DEADLINE_S = 30
of_sqlite = pytest.mark.skipif(VARIABLE in os.environ, reason="looks into SQLite's files")


@pytest.fixture
def database(tmp_path):
    database = Database(database_url(tmp_path, "some"))
    database.change("CREATE TABLE told (number INTEGER)", ())
    yield database
    database.close()


def tell(tmp_path):
    """Write as another process would."""
    other = Database(database_url(tmp_path, "some"))
    other.change("INSERT INTO told VALUES (1)", ())
    other.close()


@pytest.fixture
def listener(database):
    """Start to wait for news of a database; the thread that waits ends with what it heard."""
    threads = []

    def listen(timeout_s):
        begun, heard = threading.Event(), []

        def work():
            with database.news() as news:
                seen = database.state()
                begun.set()
                news.wait(seen, timeout_s)
                heard.append(database.state() != seen)

        thread = threading.Thread(target=work)
        threads.append(thread)
        thread.start()
        assert begun.wait(DEADLINE_S)
        return thread, heard

    yield listen
    for thread in threads:
        thread.join(DEADLINE_S)


@of_sqlite
def test_a_writer_is_heard_long_before_the_time_is_up(tmp_path, listener):
    thread, heard = listener(1000 * DEADLINE_S)
    tell(tmp_path)
    thread.join(DEADLINE_S)
    assert heard == [True]


@of_sqlite
def test_what_is_written_beside_the_database_is_not_news(tmp_path, listener):
    thread, heard = listener(1000 * DEADLINE_S)
    for number in range(20):
        (tmp_path / "other.db-wal").write_text(str(number))
    thread.join(0.1)
    assert thread.is_alive()
    tell(tmp_path)
    thread.join(DEADLINE_S)
    assert heard == [True]


@of_sqlite
def test_the_traces_of_an_earlier_writer_make_nobody_deaf(monkeypatch, tmp_path, database, listener):
    monkeypatch.setattr(news_module, "_SOON_S", (*[0.001] * 50, 1000 * DEADLINE_S))
    log = next(tmp_path.glob("*-wal"))
    thread, heard = listener(1000 * DEADLINE_S)
    with log.open("r+b") as file:  # as it was: an event, and nothing new to be read
        beginning = file.read(1)
        file.seek(0)
        file.write(beginning)
    thread.join(0.2)
    assert thread.is_alive()
    tell(tmp_path)
    thread.join(DEADLINE_S)
    assert heard == [True]


def test_where_nothing_is_heard_time_goes_by(monkeypatch, listener, tmp_path):
    monkeypatch.setattr(news_module, "_watch", lambda _directory: None)
    thread, heard = listener(0.3)
    tell(tmp_path)
    thread.join(DEADLINE_S)
    assert heard == [True]


def test_nobody_writes(listener):
    thread, heard = listener(0.05)
    thread.join(DEADLINE_S)
    assert len(heard) == 1


def test_one_that_is_in_no_file_has_no_news():
    database = Database("sqlite://:memory:")
    with database.news() as news:
        news.wait(0, 0.01)
