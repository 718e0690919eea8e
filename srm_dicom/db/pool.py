"""Connections are lent, never left in a thread: one for a statement, or for a transaction.

peewee opens a connection for every thread and keeps it there. Here a thread that ends leaves nothing to
the garbage collector, a thousand idle callers hold no file descriptor, and a server's connections stay
open from its start to its end: SQLite does not map and unmap its shared memory at every request.
The rows of a statement outside a transaction are read at once; statements here are bounded in size.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

import peewee
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

from srm_dicom.errors import Overloaded

CONNECTIONS = 32
"""Statements and transactions of one database that may be under way; others wait their turn."""

BUSY_TIMEOUT_S = 30
"""How long a writer waits for another before the call fails."""

_TURN = (
    "SELECT set_config('lock_timeout', %s, true),"
    " pg_advisory_xact_lock(hashtext('srm-dicom'), hashtext(current_schema()))"
)


class _Rows:
    """A cursor whose rows have been read: all that peewee asks of one."""

    def __init__(self, cursor: Any) -> None:
        self.description = cursor.description
        self.rowcount = cursor.rowcount
        self.lastrowid = getattr(cursor, "lastrowid", None)
        self._rows = iter(cursor.fetchall() if cursor.description else ())

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rest."""
        return list(self._rows)

    def close(self) -> None:
        """Do nothing: the connection has been given back."""


class _Lent:
    """Gives the connection back as soon as nothing is under way on it."""

    def shut(self) -> None:
        """Close what is idle, at once, and what is lent, when it comes back; lend no more."""
        self.autoconnect = False
        self.close_idle()  # type: ignore[attr-defined]

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        super()._close(conn, close_conn=close_conn or not self.autoconnect)  # type: ignore[misc]

    def read(self, sql: str, params: tuple[object, ...]) -> tuple[Any, list[Any]]:
        """Execute a SELECT; returns what its columns are, and its rows.

        What peewee keeps of a connection for the thread takes longer than a small statement.
        """
        if self.in_transaction():  # type: ignore[attr-defined]
            cursor = super().execute_sql(sql, params)  # type: ignore[misc]
            return cursor.description, cursor.fetchall()
        self._still_open()
        try:
            connection = self._lend()
        except MaxConnectionsExceeded:
            waited = self.execute_sql(sql, params)
            return waited.description, waited.fetchall()
        try:
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
                cursor = connection.execute(sql, params)
                return cursor.description, cursor.fetchall()
        finally:
            self._close(connection)

    def _lend(self) -> Any:
        """Return a connection that need not be good for writing."""
        return self._connect()  # type: ignore[attr-defined]

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Execute one statement."""
        if self.in_transaction():  # type: ignore[attr-defined]
            return super().execute_sql(sql, params)  # type: ignore[misc]
        self._still_open()
        try:
            return _Rows(super().execute_sql(sql, params))  # type: ignore[misc]
        finally:
            self.close()  # type: ignore[attr-defined]

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin a transaction."""
        try:
            self._still_open()
            super().begin(*args, **kwargs)  # type: ignore[misc]
        except BaseException:
            self.close()  # type: ignore[attr-defined]
            raise

    def commit(self) -> None:
        """End a transaction; if that fails, peewee rolls it back."""
        super().commit()  # type: ignore[misc]
        self.close()  # type: ignore[attr-defined]

    def rollback(self) -> None:
        """End a transaction without its effects."""
        try:
            super().rollback()  # type: ignore[misc]
        finally:
            self.close()  # type: ignore[attr-defined]

    def _still_open(self) -> None:
        """Refuse a thread that is late at the end of its service.

        Raises:
            Overloaded: the database has been closed.
        """
        if not self.autoconnect:
            raise Overloaded("the service is ending")


class _Connection(sqlite3.Connection):
    """One that knows whether the end of a transaction waits for the disk: it does from the beginning."""

    lasting = True

    def be(self, *, lasting: bool) -> None:
        """Let the ends of the transactions that follow wait for the disk, or not."""
        if lasting is not self.lasting:
            self.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            self.lasting = lasting


class LentSqliteDatabase(_Lent, peewee.SqliteDatabase):
    """SQLite; a connection may be used by one thread after another, the one used last first.

    The pool of peewee takes as long to lend a connection as SQLite to answer.
    """

    def __init__(self, *args: Any, max_connections: int = CONNECTIONS, **kwargs: Any) -> None:
        super().__init__(*args, factory=_Connection, **kwargs)
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(max_connections):
            self._turns.put(None)
        self._idle: list[Any] = []
        self._aside_lock = threading.Lock()
        self._aside: Any = None

    def close_idle(self) -> None:
        """Close what is not lent."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self) -> Any:
        connection = self._lend()
        connection.be(lasting=True)
        return connection

    def _lend(self) -> Any:
        try:
            self._turns.get(timeout=BUSY_TIMEOUT_S)
        except Empty:
            raise peewee.OperationalError("every connection is lent") from None
        with suppress(IndexError):
            return self._idle.pop()
        try:
            return super()._connect()  # type: ignore[misc]
        except BaseException:
            self._turns.put(None)
            raise

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        if close_conn or not self.autoconnect:
            conn.close()
        else:
            self._idle.append(conn)
            if not self.autoconnect:  # shut in the meantime
                self.close_idle()
        self._turns.put(None)

    @contextmanager
    def writing(self, *, lasting: bool) -> Iterator[None]:
        """Run a block in a transaction that writes; peewee's way there takes several times as long.

        Args:
            lasting: whether its end waits for the disk.
        """
        self._still_open()
        connection = self._lend()
        try:
            connection.be(lasting=lasting)
            _run(connection, "BEGIN IMMEDIATE")
            # Where peewee's statements of this thread go until it has ended.
            self._state.set_connection(connection)  # type: ignore[attr-defined]
            self.push_transaction(self)
            try:
                yield
                _run(connection, "COMMIT")
            except BaseException:
                connection.rollback()
                raise
            finally:
                self._state.reset()  # type: ignore[attr-defined]
        finally:
            self._close(connection)

    @property
    def data_version(self) -> int:
        """SQLite's, as one connection sees it that is never lent: of two connections it says nothing."""
        with self._aside_lock:
            self._aside = self._aside or peewee.SqliteDatabase._connect(self)  # type: ignore[attr-defined]  # noqa: SLF001
            return int(self._aside.execute("PRAGMA data_version").fetchone()[0])

    def shut(self) -> None:
        """Close the one that is never lent, too."""
        super().shut()
        with self._aside_lock:
            if self._aside is not None:
                self._aside.close()


def _run(connection: Any, statement: str) -> None:
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
        connection.execute(statement)


class LentPostgresqlDatabase(_Lent, PooledPostgresqlDatabase):  # type: ignore[misc]
    """PostgreSQL, with one writer at a time, as SQLite has (ADR 0014).

    The pool drops connections that the server has closed.
    """

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin a transaction when no other is writing; wait for it as long as SQLite would."""
        super().begin(*args, **kwargs)
        try:
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
                self.cursor().execute(_TURN, (f"{BUSY_TIMEOUT_S}s",))  # type: ignore[no-untyped-call]
        except BaseException:
            self.rollback()
            raise

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Execute one statement; what may write has its turn, too."""
        if self.in_transaction() or sql.startswith("SELECT"):
            return super().execute_sql(sql, params)
        with self.atomic():
            return _Rows(super().execute_sql(sql, params))
