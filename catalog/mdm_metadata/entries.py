"""Entries and their values: one SQL table a collection, as AMGA did, one typed column an attribute.

So the database compares and indexes values in their own types, a condition over 100,000 entries is one
scan of a narrow table, and a join of two collections is a join. Tables and columns are named by numbers
(``c12``, ``a34``): nothing that anybody typed is ever part of a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import peewee

from mdm_metadata.schema import Attribute, Collection, Kind, Value
from srm_dicom.errors import AlreadyExists

Row = tuple[Any, ...]
TABLES = "^c[0-9]+$"
"""What tables of entries are called."""

_CHUNK = 400
_MAX_VARIABLES = 30_000  # SQLite takes 32,766 in a statement
ENTRY = "entry"


class Entries:
    """The tables of all collections."""

    def __init__(self, database: peewee.Database) -> None:
        self._database: Any = database  # execute_sql has no annotations
        # Texts are compared byte by byte, as SQLite does, and not by the rules of the server's language.
        self._by_bytes = ' COLLATE "C"' if isinstance(database, peewee.PostgresqlDatabase) else ""

    def create(self, collection: Collection) -> None:
        """Make the table of a new collection."""
        name = _table_name(collection)
        column = f"{ENTRY} VARCHAR(255){self._by_bytes} PRIMARY KEY NOT NULL"
        self._database.execute_sql(f"CREATE TABLE {name} ({column})")

    def drop(self, collection: Collection) -> None:
        """Remove the table of a collection."""
        self._database.execute_sql(f"DROP TABLE {_table_name(collection)}")

    def add_column(self, collection: Collection, attribute: Attribute, *, indexed: bool) -> None:
        """Add the column of a new attribute."""
        table, column = _table_name(collection), _column_name(attribute)
        kind = attribute.kind.value + (self._by_bytes if attribute.kind is Kind.TEXT else "")
        self._database.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        if indexed:
            self._database.execute_sql(f"CREATE INDEX {table}_{column} ON {table} ({column})")

    def count(self, collection: Collection, where: Any = None) -> int:
        """Return how many entries there are, or for how many an expression is true."""
        query = self._table(collection).select(peewee.fn.COUNT(peewee.Value(1)))
        return int((query if where is None else query.where(where)).scalar() or 0)

    def add(self, collection: Collection, rows: Sequence[tuple[str, Mapping[Attribute, Value]]]) -> None:
        """Add entries.

        Raises:
            AlreadyExists: a name is taken; nothing was added.
        """
        try:
            with self._database.atomic():
                for attributes, chunk in _chunks(rows):
                    self._insert(collection, attributes, chunk).execute()
        except peewee.IntegrityError as error:
            raise AlreadyExists("the entry exists") from error

    def put(self, collection: Collection, attributes: Sequence[Attribute], rows: Sequence[Row]) -> None:
        """Add entries, or give those that exist these values; all of them or none.

        Args:
            collection: where.
            attributes: of the values in each row, after the entry's name.
            rows: shape (n, 1 + len(attributes)).
        """
        with self._database.atomic():
            columns = [self.column(collection, attribute) for attribute in attributes]
            for chunk in _statements(rows, len(attributes)):
                insert = self._insert(collection, attributes, chunk)
                if columns:
                    insert = insert.on_conflict(conflict_target=[ENTRY], preserve=columns)
                else:
                    insert = insert.on_conflict_ignore()
                insert.execute()

    def update(self, collection: Collection, names: Sequence[str], values: Mapping[Attribute, Value]) -> None:
        """Set values of entries by name."""
        columns = {self.column(collection, attribute): value for attribute, value in values.items()}
        for chosen in self._by_name(collection, names):
            self._table(collection).update(columns).where(chosen).execute()

    def remove(self, collection: Collection, names: Sequence[str]) -> None:
        """Remove entries by name."""
        for chosen in self._by_name(collection, names):
            self._table(collection).delete().where(chosen).execute()

    def select(
        self, collection: Collection, columns: Sequence[Any], where: Any, *, limit: int, offset: int = 0
    ) -> Iterator[Row]:
        """Yield values in the order of the entries' names.

        Args:
            collection: where.
            columns: from `column` and `name_column`.
            where: an expression, or None for every entry.
            limit: rows at most.
            offset: rows to pass over first.
        """
        query = self._table(collection).select(*columns).order_by(self.name_column(collection))
        if where is not None:
            query = query.where(where)
        yield from query.limit(limit).offset(offset).tuples().iterator()

    def distinct(self, collection: Collection, attribute: Attribute | None, where: Any) -> int:
        """Count different values of an attribute; an entry without a value is one of its own."""
        entry = self.name_column(collection)
        value = peewee.fn.COALESCE(self.column(collection, attribute), entry) if attribute else entry
        query = self._table(collection).select(peewee.fn.COUNT(value.distinct()))
        return int(query.where(where).scalar() or 0)

    def column(self, collection: Collection, attribute: Attribute) -> Any:
        """Return an attribute's column for `select` and conditions."""
        return getattr(self._table(collection).c, _column_name(attribute))

    def name_column(self, collection: Collection) -> Any:
        """Return the column of the entries' names."""
        return self._table(collection).c.entry

    def called(self, collection: Collection, pattern: str) -> Any:
        """Return the condition that a name is like a pattern of ``*`` and ``?``, case and all."""
        if not self._by_bytes:  # where this operator is GLOB
            return peewee.Expression(self.name_column(collection), peewee.OP.LIKE, pattern)
        text = pattern.replace("_", "\\_").translate({ord("*"): "%", ord("?"): "_"})
        return peewee.Expression(self.name_column(collection), peewee.OP.LIKE, text)

    def nothing(self) -> Any:
        """Return a column without values."""
        return peewee.Value(None)

    def _by_name(self, collection: Collection, names: Sequence[str]) -> Iterator[Any]:
        """Yield conditions that choose the names, in one transaction, each short enough for a statement."""
        entry = self.name_column(collection)
        with self._database.atomic():
            for start in range(0, len(names), _CHUNK):
                yield entry.in_(list(names[start : start + _CHUNK]))

    def _insert(self, collection: Collection, attributes: Sequence[Attribute], rows: Sequence[Row]) -> Any:
        columns = [self.name_column(collection), *(self.column(collection, one) for one in attributes)]
        return self._table(collection).insert(list(rows), columns=columns)

    def _table(self, collection: Collection) -> Any:
        return peewee.Table(_table_name(collection)).bind(self._database)


def _chunks(
    rows: Iterable[tuple[str, Mapping[Attribute, Value]]],
) -> Iterator[tuple[list[Attribute], list[Row]]]:
    """Group rows that set the same attributes, each group small enough for one statement."""
    groups: dict[tuple[Attribute, ...], list[Row]] = {}
    for name, values in rows:
        groups.setdefault(tuple(values), []).append((name, *values.values()))
    for attributes, group in groups.items():
        for chunk in _statements(group, len(attributes)):
            yield list(attributes), list(chunk)


def _statements(rows: Sequence[Row], attributes: int) -> Iterator[Sequence[Row]]:
    """Cut rows into pieces whose values fit into one statement."""
    size = max(1, min(_CHUNK, _MAX_VARIABLES // (1 + attributes)))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _table_name(collection: Collection) -> str:
    return f"c{collection.id:d}"


def _column_name(attribute: Attribute) -> str:
    return f"a{attribute.id:d}"
