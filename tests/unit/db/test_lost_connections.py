"""A PostgreSQL that goes away and comes back: nothing is half done, and nobody has to be started again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peewee
import pytest

from srm_dicom.daemon.common import Loop
from srm_dicom.db.database import SILENCE, Database
from srm_dicom.db.pool import CONNECTIONS
from srm_dicom.testing import databases

psycopg = pytest.importorskip("psycopg")
if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)


class CountRow(peewee.Model):
    name = peewee.TextField(primary_key=True)
    value = peewee.IntegerField()

    class Meta:
        table_name = "count"


class Server:
    """A cluster, and an administrator of it."""

    def __init__(self, url):
        self.url = url
        self._admin = psycopg.connect(url.replace("/postgres?", "/template1?"), autocommit=True)

    def cut(self):
        """End every connection to the database, as a restart does."""
        self._admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres'"
        )

    def open(self, *, opened):
        self._admin.execute(f"ALTER DATABASE postgres ALLOW_CONNECTIONS {str(opened).lower()}")
        if not opened:
            self.cut()

    def close(self):
        self._admin.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # The path of a socket is short.
    with databases.short_directory() as directory, databases.cluster(directory) as url:
        server = Server(url)
        yield server
        server.close()


@pytest.fixture
def database(server):
    database = Database(server.url)
    yield database
    database.close()


@pytest.fixture
def counts(database):
    counts = database.bind(CountRow)
    counts.delete().execute()
    counts.insert(name="one", value=0).execute()
    return counts


def test_connections_that_were_cut_while_they_were_idle_fail_nobody(server, database, counts):
    together = threading.Barrier(CONNECTIONS // 2)

    def hold(_number):
        with database.transaction():
            pass
        together.wait(30)
        return counts.get_by_id("one").value

    with ThreadPoolExecutor(CONNECTIONS // 2) as pool:
        list(pool.map(hold, range(CONNECTIONS // 2)))
        server.cut()
        assert set(pool.map(hold, range(CONNECTIONS // 2))) == {0}
    server.cut()
    assert database.select("SELECT value FROM count", ())[0].value == 0
    server.cut()
    assert counts.update(value=1).execute() == 1


@pytest.mark.parametrize("joining", [False, True])
def test_a_transaction_that_is_cut_leaves_nothing(server, database, counts, joining):
    def change():
        with database.transaction():
            counts.update(value=7).execute()
            with database.transaction(joining=joining):
                counts.insert(name="two", value=2).execute()
            server.cut()
            counts.update(value=8).execute()

    with pytest.raises(peewee.PeeweeException):
        change()
    assert [(row.name, row.value) for row in counts.select()] == [("one", 0)]
    with database.transaction():
        counts.update(value=3).execute()
    assert counts.get_by_id("one").value == 3


def test_what_works_in_a_loop_goes_on_when_the_server_is_back(server, database, counts):
    worked = threading.Semaphore(0)

    def body(stop):
        while not stop.is_set():
            counts.update(value=counts.value + 1).execute()
            worked.release()
            stop.wait(0.01)

    loop = Loop("counting", body, pause_s=0.05)
    loop.start()
    try:
        assert worked.acquire(timeout=30)
        server.open(opened=False)
        time.sleep(0.3)
        while worked.acquire(blocking=False):
            pass
        server.open(opened=True)
        assert worked.acquire(timeout=30)
    finally:
        server.open(opened=True)
        loop.stop()


def test_a_server_that_falls_silent_is_noticed(server):
    """Nobody says that the power of a machine has gone: who waits for it has to look."""
    database = Database(server.url)
    told = database._peewee.connection().info.get_parameters()
    assert {name: told[name] for name in SILENCE} == {name: str(value) for name, value in SILENCE.items()}
    database._peewee.close()
    database.close()
    chosen = Database(f"{server.url}&connect_timeout=3&keepalives_idle=5")
    told = chosen._peewee.connection().info.get_parameters()
    assert (told["connect_timeout"], told["keepalives_idle"], told["keepalives_count"]) == ("3", "5", "3")
    chosen._peewee.close()
    chosen.close()
