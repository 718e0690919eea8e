"""Connections: lent for a statement or a transaction, to whichever thread asks, and closed at the end."""

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peewee
import pytest

from srm_dicom import errors
from srm_dicom.db.database import Database
from srm_dicom.db.pool import CONNECTIONS
from srm_dicom.errors import Overloaded
from srm_dicom.testing.databases import VARIABLE, database_url

of_sqlite = pytest.mark.skipif(VARIABLE in os.environ, reason="looks into SQLite's files")


class CountRow(peewee.Model):
    name = peewee.TextField(primary_key=True)
    value = peewee.IntegerField()

    class Meta:
        table_name = "count"


class LargerCountRow(CountRow):
    source = peewee.TextField(default="")
    rank = peewee.IntegerField(default=7)
    open = peewee.BooleanField(default=True)
    seen_at = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "count"
        indexes = ((("source", "rank"), False),)


@pytest.fixture
def database(tmp_path):
    database = Database(database_url(tmp_path, "some"))
    yield database
    database.close()


@pytest.fixture
def counts(database):
    counts = database.bind(CountRow)
    counts.insert_many([{"name": str(number), "value": number} for number in range(50)]).execute()
    return counts


def in_threads(count, work):
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count), timeout=60))


def descriptors(path):
    """Count what this process has open of the database."""
    return [link.resolve() for link in Path("/proc/self/fd").iterdir()].count(path / "some.db")


@of_sqlite
def test_threads_leave_no_connection_behind(tmp_path, database, counts):
    """More threads than connections, all alive at the same time, as callers that are idle are."""
    together = threading.Barrier(3 * CONNECTIONS)

    def look(number):
        assert counts.get_by_id(str(number % 50)).value == number % 50
        together.wait(30)

    in_threads(together.parties, look)
    assert 0 < descriptors(tmp_path) <= CONNECTIONS
    database.close()
    assert descriptors(tmp_path) == 0


def test_transactions_of_many_threads_are_one_after_the_other(database, counts):
    def add(_number):
        for _ in range(5):
            with database.transaction():
                value = counts.get_by_id("0").value
                with database.transaction():
                    counts.update(value=value + 1).where(counts.name == "0").execute()

    in_threads(12, add)
    assert counts.get_by_id("0").value == 60


def test_a_transaction_that_fails_leaves_nothing(database, counts):
    def spoil():
        with database.transaction():
            counts.delete().execute()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        spoil()
    assert counts.select().count() == 50


def test_a_statement_that_fails_gives_its_connection_back(database, counts):
    for _ in range(2 * CONNECTIONS):
        with pytest.raises(peewee.IntegrityError):
            counts.insert(name="1", value=1).execute()
    assert counts.select().count() == 50


def test_rows_may_be_read_while_others_are_written(counts):
    for row in counts.select().order_by(counts.value):
        counts.update(value=row.value + 1).where(counts.name == row.name).execute()
    assert [row.value for row in counts.select().order_by(counts.value)] == list(range(1, 51))


@of_sqlite
def test_what_is_lent_when_the_database_closes_is_closed_when_it_comes_back(tmp_path, database, counts):
    with database.transaction():
        database.close()
        assert descriptors(tmp_path) == 1
    assert descriptors(tmp_path) == 0
    for late in (
        lambda: counts.get_by_id("1"),
        lambda: database.select("SELECT 1", ()),
        counts.delete().execute,
    ):
        with pytest.raises(Overloaded, match="the service is ending"):
            late()


@of_sqlite
def test_the_state_is_another_one_after_a_write_on_any_connection(database, counts):
    states = [database.state()]
    for number in range(5):
        assert database.state() == states[-1]
        in_threads(3, lambda n, number=number: counts.update(value=number * n).execute())
        states.append(database.state())
    assert len(set(states)) == len(states)


def test_rows_are_named_after_their_columns_inside_and_outside_a_transaction(database, counts):
    query = counts.select(counts.name, (counts.value * 2).alias("double")).where(counts.value < 2)
    outside = database.rows(query.order_by(counts.value))
    with database.transaction():
        inside = database.rows(query.order_by(counts.value))
    assert [(row.name, row.double) for row in outside] == [("0", 0), ("1", 2)]
    assert inside == outside
    assert database.rows(query.where(counts.name == "none")) == []


@of_sqlite
def test_what_need_not_last_does_not_wait_for_the_disk_and_nothing_after_it_is_spoiled(
    database, counts, tmp_path
):
    """The connection that a relaxed transaction was lent keeps its promise for whoever writes by it next."""

    def promised():
        alone = database._peewee.execute_sql("PRAGMA synchronous").fetchone()[0]
        with database.transaction():
            together = database.select("PRAGMA synchronous", ())[0][0]
        assert alone == together
        return alone

    with database.transaction(lasting=False):
        assert promised() == 1
        with database.transaction():  # what is inside goes with what is around it
            counts.update(value=7).where(counts.name == "0").execute()
    assert promised() == 2
    assert counts.get_by_id("0").value == 7

    def spoil():
        with database.transaction(lasting=False):
            counts.update(value=8).where(counts.name == "0").execute()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spoil()
    assert promised() == 2

    def busy():
        with database.transaction(lasting=False):
            pass

    holder = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    database.change("PRAGMA busy_timeout = 1", ())
    with pytest.raises(peewee.OperationalError):
        busy()
    holder.close()
    assert promised() == 2
    assert counts.get_by_id("0").value == 7
    with database.transaction():
        assert promised() == 2


def test_an_error_of_ours_leaves_a_transaction_as_what_it_is(database, counts):
    """peewee takes errors by their names for the driver's, and some of ours have the same."""
    for error in (errors.IntegrityError("a file is not what it was"), errors.InternalError("a defect")):

        def spoil(error=error):
            with database.transaction(), database.transaction():
                counts.delete().execute()
                raise error

        with pytest.raises(type(error)) as caught:
            spoil()
        assert caught.value is error
        assert counts.select().count() == 50


def test_a_contradiction_found_at_the_end_of_a_transaction_leaves_nothing(database, counts):
    def add_twice():
        with database.transaction(lasting=False):
            counts.update(value=9).execute()
            database.execute_many("INSERT INTO count (name, value) VALUES (?, ?)", [("1", 1)])

    with pytest.raises(peewee.IntegrityError):
        add_twice()
    assert counts.get_by_id("0").value == 0
    with database.transaction():
        counts.update(value=9).execute()
    assert counts.get_by_id("0").value == 9


def test_a_table_of_an_older_version_gets_the_columns_that_are_new(database, counts):
    larger = database.bind(LargerCountRow)
    row = larger.get_by_id("3")
    assert (row.value, row.source, row.rank, row.open, row.seen_at) == (3, "", 7, True, None)
    larger.insert(name="new", value=1, source="ct").execute()
    assert [row.name for row in larger.select().where(larger.source == "ct", larger.rank == 7)] == ["new"]
    assert counts.select().count() == 51


def test_processes_that_start_together_add_a_column_once(tmp_path, database, counts):
    others = [Database(database_url(tmp_path, "some")) for _ in range(4)]
    in_threads(len(others), lambda number: others[number].bind(LargerCountRow))
    assert database.bind(LargerCountRow).get_by_id("1").rank == 7
    for other in others:
        other.close()


NAMES = ["_", "Z", "a", "B", "b-1", "b1", "\u00c4", "A", "b.0"]
BY_BYTES = ["A", "B", "Z", "_", "a", "b-1", "b.0", "b1", "\u00c4"]


def test_texts_are_in_the_order_of_their_bytes(database):
    """Pages of a listing, and what is compared in a query, are the same on every server."""
    larger = database.bind(LargerCountRow)
    larger.insert_many([{"name": name, "value": 0, "source": name} for name in NAMES]).execute()
    for column in (larger.name, larger.source):
        assert [row.name for row in larger.select().order_by(column)] == BY_BYTES
        assert {row.name for row in larger.select().where(column > "Z")} == set(BY_BYTES[3:])


@pytest.mark.skipif(VARIABLE not in os.environ, reason="SQLite knows no other order")
def test_texts_of_an_older_version_get_that_order(database):
    database.change('CREATE TABLE "count" (name TEXT PRIMARY KEY, value INTEGER NOT NULL)', ())
    larger = database.bind(LargerCountRow)
    larger.insert_many([{"name": name, "value": 0} for name in NAMES]).execute()
    assert [row.name for row in larger.select().order_by(larger.name)] == BY_BYTES
    assert larger.select().where(larger.name == larger.source).count() == 0


def test_a_path_is_a_path_whatever_it_means_in_a_url(tmp_path):
    for name in ("a#1", "a?b", "a%20 b"):
        path = tmp_path / name / "x.db"
        database = Database(f"sqlite:///{path}")
        with database.transaction():
            pass
        database.close()
        assert path.exists()
    assert {each.name for each in tmp_path.iterdir()} == {"a#1", "a?b", "a%20 b"}
