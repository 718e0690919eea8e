"""One database of one process: opened from a URL, with models bound to it.

Models are declared unbound; `Database.bind` gives a subclass that belongs to this database, so that
several databases live in one process and nothing is global. Foreign keys are therefore plain columns
with a REFERENCES constraint.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import peewee

from srm_dicom.db.news import Board, News, Topic
from srm_dicom.db.pool import BUSY_TIMEOUT_S, CONNECTIONS, LentPostgresqlDatabase, LentSqliteDatabase
from srm_dicom.errors import ConfigError

_LENT = (LentSqliteDatabase, LentPostgresqlDatabase)

FAILURES = (peewee.OperationalError, peewee.InterfaceError)
"""What a call raises whose database is locked for too long, is full or does not answer: later it may do."""

M = TypeVar("M", bound=peewee.Model)

_PRAGMAS = {
    "busy_timeout": BUSY_TIMEOUT_S * 1000,
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "secure_delete": 1,
}


_OTHERWISE_ORDERED = (
    "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname ~ ?"
    " AND a.attnum > 0 AND NOT a.attisdropped AND a.attcollation NOT IN (0, 'pg_catalog.\"C\"'::regcollation)"
)


SILENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""When a PostgreSQL that falls silent is taken for gone, in the words of libpq; its URL may say otherwise."""


class Database:
    """SQLite (WAL, one machine) or PostgreSQL, the same for everything above.

    Attributes:
        is_sqlite: which of the two it is.
    """

    def __init__(self, url: str) -> None:
        """Open ``sqlite:///absolute/path.db``, ``sqlite://:memory:`` or ``postgresql://...``.

        Raises:
            ConfigError: the URL names no database that this program speaks.
        """
        self._peewee = _open(url)
        self.is_sqlite = isinstance(self._peewee, peewee.SqliteDatabase)
        in_file = isinstance(self._peewee, LentSqliteDatabase)
        self._board = Board(Path(self._peewee.database) if in_file else None)

    def bind(self, model: type[M]) -> type[M]:
        """Return `model` as a table of this database, created when it is missing.

        A table of an older version is given the columns that are new; its rows have their defaults in them.
        """
        table = model._meta.table_name  # noqa: SLF001 - peewee's documented place for it
        meta = type("Meta", (), {"database": self._peewee, "table_name": table})
        bound: type[M] = type(model.__name__, (model,), {"Meta": meta, "__module__": model.__module__})
        if self._lacking(bound):
            with self.transaction():  # of several processes that start, one
                for field in self._lacking(bound):
                    self._peewee.execute_sql(self._added(table, field))  # type: ignore[no-untyped-call]
        bound.create_table(safe=True)
        self.order_by_bytes(f"^{table}$")
        return bound

    def order_by_bytes(self, tables: str) -> None:
        """Have texts compared and ordered byte by byte, as SQLite does, and not by a language's rules.

        Args:
            tables: whose texts: a regular expression of their names.
        """
        if self.is_sqlite:
            return
        for table, column, kind in self.tuples(_OTHERWISE_ORDERED, [tables]):
            self.change(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE {kind} COLLATE "C"', ())

    def _lacking(self, bound: type[peewee.Model]) -> list[Any]:
        """Return the fields of a table that is there without them."""
        table, fields = bound._meta.table_name, bound._meta.columns  # noqa: SLF001
        if not self._peewee.table_exists(table):
            return []
        there = {column.name for column in self._peewee.get_columns(table)}
        return [field for name, field in fields.items() if name not in there]

    def _added(self, table: str, field: Any) -> str:
        """Return the statement that adds a column."""
        context = self._peewee.get_sql_context()
        column, _ = context.sql(field.ddl(context)).query()  # type: ignore[no-untyped-call]
        value = int(field.default) if isinstance(field.default, bool) else field.default
        return f'ALTER TABLE "{table}" ADD COLUMN {column}' + ("" if value is None else f" DEFAULT '{value}'")

    @contextmanager
    def transaction(self, *, lasting: bool = True, joining: bool = False) -> Iterator[None]:
        """Run a block in the one write transaction of its moment; nests as a savepoint.

        Args:
            joining: whether it needs no savepoint inside another: what fails in it ends that, too.
            lasting: whether it has to outlive a failure of the machine's power. What need not is as safe
                from the end of a process, and does not wait for the disk. Only the outermost says.
        """
        if self._peewee.in_transaction():
            with nullcontext() if joining else self._peewee.atomic():
                yield
            return
        if isinstance(self._peewee, LentSqliteDatabase):
            with self._peewee.writing(lasting=lasting):
                yield
            return
        with self._peewee.atomic("IMMEDIATE") if self.is_sqlite else self._peewee.atomic():
            if not lasting and not self.is_sqlite:
                self._peewee.execute_sql("SET LOCAL synchronous_commit TO OFF")  # type: ignore[no-untyped-call]
            yield

    def state(self) -> int:
        """Return a number that is another one after others have written; it costs next to nothing.

        Only SQLite knows. Elsewhere every answer is another one: who wants to know has to look.
        """
        if self.is_sqlite:
            return int(self._peewee.data_version)  # type: ignore[attr-defined]
        return time.monotonic_ns()

    def tell(self, topic: Topic) -> None:
        """Have everybody hear who waits for news of a topic; after what is new was committed."""
        self._board.tell(topic)

    def news(self, topic: Topic) -> AbstractContextManager[News]:
        """Hear at once what others tell of a topic, where that can be heard."""
        return self._board.news(topic)

    def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement of SQL, its parameters written ``?``, once for each row of them.

        Raises:
            peewee.IntegrityError: a row contradicts others; inside a transaction only.
        """
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            self._peewee.cursor().executemany(self._marked(statement), rows)  # type: ignore[no-untyped-call]

    def select(self, statement: str, parameters: Sequence[object]) -> list[Any]:
        """Run a SELECT of SQL, its parameters written ``?``, and return its rows as `rows` does.

        For what every call asks: peewee takes longer to write a statement than SQLite to answer it.
        """
        return _named(*self._read(statement, parameters))

    def tuples(self, statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """As `select`, for rows whose values are taken by their places."""
        return self._read(statement, parameters)[1]

    def _read(self, statement: str, parameters: Sequence[object]) -> tuple[Any, list[Any]]:
        """Return what the columns are, and the rows."""
        if isinstance(self._peewee, _LENT):
            return self._peewee.read(self._marked(statement), tuple(parameters))
        cursor = self._peewee.execute_sql(self._marked(statement), tuple(parameters))  # type: ignore[no-untyped-call]
        return cursor.description, cursor.fetchall()

    def change(self, statement: str, parameters: Sequence[object]) -> int:
        """Run a statement of SQL that changes rows, its parameters written ``?``; returns how many."""
        cursor = self._peewee.execute_sql(self._marked(statement), tuple(parameters))  # type: ignore[no-untyped-call]
        return int(cursor.rowcount)

    def _marked(self, statement: str) -> str:
        return statement if self.is_sqlite else statement.replace("?", "%s")

    def insert(
        self, table: type[peewee.Model], rows: Sequence[Mapping[str, object]], replaces: Sequence[str] = ()
    ) -> None:
        """Add rows that have the same columns; those left out take the defaults of the model.

        peewee would build a statement of as many values as all rows have, which takes longer than the rest.

        Args:
            table: as `bind` returned it.
            rows: column name to value.
            replaces: a row that agrees with an older one in these columns takes its place.
        """
        if not rows:
            return
        fields = table._meta.fields.values()  # noqa: SLF001 - peewee's documented place for it
        defaults = {field.name: field.default for field in fields if field.default is not None}
        columns = list({**defaults, **rows[0]})
        given = ", ".join("?" for _ in columns)
        statement = f"INSERT INTO {table._meta.table_name} ({', '.join(columns)}) VALUES ({given})"  # noqa: SLF001, S608
        if replaces:
            kept = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in replaces)
            statement += f" ON CONFLICT ({', '.join(replaces)}) DO UPDATE SET {kept}"
        values = [[row.get(name, defaults.get(name)) for name in columns] for row in rows]
        self.execute_many(statement, values)

    def rows(self, query: Any) -> list[Any]:
        """Run a SELECT and return its rows, named after their columns, with the values of the driver.

        peewee's own rows cost three times as much: it looks for a converter for every value.
        """
        cursor = self._peewee.execute(query)  # type: ignore[no-untyped-call]
        return _named(cursor.description, cursor.fetchall())

    def checkpoint(self) -> None:
        """Write SQLite's log into the database and empty it, as far as readers let it."""
        if self.is_sqlite:
            self._peewee.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[no-untyped-call]

    def claiming(self, statement: str) -> str:
        """Let a SELECT inside a transaction skip rows that another worker is claiming."""
        return statement if self.is_sqlite else f"{statement} FOR UPDATE SKIP LOCKED"

    def close(self) -> None:
        """Close every connection; nothing can be asked any more."""
        self._board.close()
        if isinstance(self._peewee, _LENT):
            self._peewee.shut()
        else:
            self._peewee.close()


def marks(count: int) -> str:
    """Return the places of so many parameters, for ``IN``."""
    return ", ".join("?" * count)


def _named(columns: Any, rows: Sequence[Any]) -> list[Any]:
    if not rows:
        return []
    names = next(zip(*columns, strict=True))
    return list(map(_row_of(names)._make, rows))


@lru_cache(maxsize=256)
def _row_of(columns: tuple[str, ...]) -> Any:
    return namedtuple("Row", columns, rename=True)  # what is no name is read by its place


def _open(url: str) -> peewee.Database:
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and parts.netloc == ":memory:":
        return peewee.SqliteDatabase(":memory:", pragmas=_PRAGMAS)
    kind: type[Any]
    if parts.scheme == "sqlite":
        path = url.partition("://")[2]  # `?` and `#` are letters of a file's name
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        kind, name, options = LentSqliteDatabase, path, {"pragmas": _PRAGMAS, "check_same_thread": False}
    elif parts.scheme in ("postgresql", "postgres"):
        given = dict(parse_qsl(parts.query))
        unsaid = {each: value for each, value in SILENCE.items() if each not in given}
        kind, name, options = LentPostgresqlDatabase, url, {"prefer_psycopg3": True, **unsaid}
    else:
        raise ConfigError(
            f"no database speaks {parts.scheme or 'an empty URL'}",
            advice="Use sqlite:/// or postgresql://.",
        )
    database: peewee.Database = kind(name, max_connections=CONNECTIONS, timeout=BUSY_TIMEOUT_S, **options)
    return database
