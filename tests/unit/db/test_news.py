"""Hearing of news: a hint that may come at once, and never has to."""

import os
import threading

import pytest

from srm_dicom.db import news as news_module
from srm_dicom.db.database import Database
from srm_dicom.db.news import Topic
from srm_dicom.testing.databases import VARIABLE, database_url

DEADLINE_S = 30
FOREVER_S = 10 * DEADLINE_S
of_sqlite = pytest.mark.skipif(VARIABLE in os.environ, reason="is told beside SQLite's file")


@pytest.fixture
def database(tmp_path):
    database = Database(database_url(tmp_path, "some"))
    database.change("CREATE TABLE told (number INTEGER)", ())
    yield database
    database.close()


@pytest.fixture
def listener(database):
    """Start to wait for news; the thread that waits ends when there was some, or the time is up."""
    threads = []

    def listen(timeout_s, topic=Topic.WORK):
        begun = threading.Event()

        def work():
            with database.news(topic) as news:
                begun.set()
                news.wait(timeout_s)

        thread = threading.Thread(target=work, daemon=True)
        threads.append(thread)
        thread.start()
        assert begun.wait(DEADLINE_S)
        return thread

    yield listen
    for thread in threads:
        thread.join(DEADLINE_S)


@of_sqlite
def test_what_another_process_tells_is_heard_long_before_the_time_is_up(tmp_path, listener):
    thread = listener(FOREVER_S)
    other = Database(database_url(tmp_path, "some"))
    other.tell(Topic.WORK)
    other.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@of_sqlite
def test_what_was_told_before_one_waits_is_heard(database):
    with database.news(Topic.WORK) as news:
        database.tell(Topic.WORK)
        database.tell(Topic.WORK)
        news.wait(FOREVER_S)
        news.wait(0.01)  # it was one piece of news


@of_sqlite
def test_who_listens_next_has_what_the_last_one_listened_with(database):
    with database.news(Topic.WORK) as first, database.news(Topic.WORK) as beside:
        assert first is not beside
    with database.news(Topic.WORK) as again:
        assert again in (first, beside)
        assert again.is_heard


@of_sqlite
def test_whoever_may_write_to_the_database_may_tell(tmp_path, database):
    (tmp_path / "some.db").chmod(0o660)
    database.tell(Topic.WORK)
    assert (tmp_path / "some.db-work").stat().st_mode & 0o777 == 0o660


@of_sqlite
def test_another_topic_is_no_news_nor_is_what_is_written_to_the_database(database, listener):
    thread = listener(FOREVER_S)
    database.tell(Topic.READY)
    database.change("INSERT INTO told VALUES (1)", ())
    thread.join(0.1)
    assert thread.is_alive()
    database.tell(Topic.WORK)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_where_nothing_is_heard_time_goes_by(monkeypatch, database, listener):
    monkeypatch.setattr(news_module, "_watch", lambda _file: None)
    thread = listener(0.05)
    database.tell(Topic.WORK)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_nobody_tells(listener):
    thread = listener(0.05)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_one_that_is_closed_or_in_no_file_has_no_news():
    database = Database("sqlite://:memory:")
    with database.news(Topic.WORK) as news:
        database.tell(Topic.WORK)
        news.wait(0.01)
    database.close()
    database.tell(Topic.WORK)
    with database.news(Topic.WORK) as news:
        news.wait(0.01)
