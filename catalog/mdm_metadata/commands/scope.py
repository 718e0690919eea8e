"""One collection as the subject of a command: resolves attributes, gives rows, keeps within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mdm_metadata.access import View
from mdm_metadata.commands.table import Pattern, Session
from mdm_metadata.conditions import Field, expression
from mdm_metadata.entries import Row
from mdm_metadata.schema import Kind
from srm_dicom.errors import NotSupported, TooLarge
from srm_dicom.wire import query

T = TypeVar("T")
MOST_COLUMNS = 1000  # SQLite shows 2,000, PostgreSQL 1,664
MOST_VALUES = 4_000_000
"""Of one reply: all of it is in memory before it is sent."""


class Scope:
    """A view with its columns."""

    def __init__(self, session: Session, view: View) -> None:
        self._session = session
        self._view = view
        self._entries = session.collections.entries
        self.path = view.collection.path
        self.entry = self._entries.name_column(view.collection)

    def resolve(self, reference: query.Reference) -> Field:
        """Find the column that an attribute stands for.

        Raises:
            NotFound: it is of a collection that is not there for this caller.
            NotSupported: it is of another collection.
            amga.Refused: no such attribute.
        """
        if reference.directory and (path := self._session.path(reference.directory)) != self.path:
            self._session.access.view(path)
            raise NotSupported("a query is about one collection")
        if reference.attribute == query.ENTRY_NAME:
            return Field(self.entry, Kind.TEXT)
        attribute = self._view.attribute(reference.attribute)
        return Field(self._entries.column(self._view.collection, attribute), attribute.kind)

    def column(self, name: str) -> Any:
        """Return the column of an attribute that stands alone."""
        return self.resolve(query.parse_reference(name)).column

    def column_or_nothing(self, name: str) -> Any:
        """Return the column of an attribute, or a column of nothing where the view has none."""
        known = name == query.ENTRY_NAME or name in self._view.attributes
        return self.column(name) if known else self._entries.nothing()

    def where(self, condition: query.Condition | None, pattern: Pattern | None = None) -> Any:
        """Return the expression of a condition and of a pattern of names; None is every entry."""
        parts = [expression(condition, self.resolve), self._named(pattern) if pattern else None]
        given = [part for part in parts if part is not None]
        return given[0] if len(given) == 1 else given[0] & given[1] if given else None

    def rows(self, columns: Sequence[Any], where: Any) -> Iterator[Row]:
        """Yield rows in the order of names, as many as one more than a reply may have."""
        limit = most_rows(self._session, len(columns)) + 1
        return self._entries.select(self._view.collection, columns, where, limit=limit)

    def found(
        self,
        columns: Sequence[Any],
        condition: query.Condition | None,
        limit: int,
        offset: int = 0,
        where: Any = None,
    ) -> Iterator[Row]:
        """Yield the rows that a search chooses; none of them where they are of too few people.

        Args:
            columns: to show.
            condition: of the search; without one nobody was singled out.
            limit: rows at most.
            offset: rows to pass over first.
            where: of the condition and of what else chooses, if there is something else.
        """
        chosen = self.where(condition) if where is None else where
        if condition is not None and self._is_of_too_few(chosen):
            return iter(())
        return self._entries.select(self._view.collection, columns, chosen, limit=limit, offset=offset)

    def count(self, condition: query.Condition | None) -> int:
        """Return how many rows `found` chooses."""
        where = self.where(condition)
        if condition is not None and self._is_of_too_few(where):
            return 0
        return self._entries.count(self._view.collection, where)

    def _named(self, pattern: Pattern) -> Any:
        if not pattern.is_glob:
            return self.entry == pattern.text
        return None if pattern.text == "*" else self._entries.called(self._view.collection, pattern.text)

    def _is_of_too_few(self, where: Any) -> bool:
        """Tell whether a caller who may not know who somebody is would find too few people."""
        settings, view = self._session.settings, self._view
        if not settings.smallest_answer or settings.people_by in view.attributes:
            return False
        people = self._session.collections.attributes(view.collection).get(settings.people_by)
        return self._entries.distinct(view.collection, people, where) < settings.smallest_answer


def most_rows(session: Session, width: int) -> int:
    """Return how many rows of so many values a reply may have.

    Raises:
        TooLarge: a row may not have so many.
    """
    if width > MOST_COLUMNS:
        raise TooLarge(f"a reply shows at most {MOST_COLUMNS} attributes")
    return min(session.settings.rows, MOST_VALUES // max(1, width))


def bounded(session: Session, rows: Iterable[T], width: int = 1) -> Iterator[T]:
    """Pass rows of so many values on.

    Raises:
        TooLarge: there are more than one reply may have.
    """
    most = most_rows(session, width)
    for count, row in enumerate(rows):
        if count == most:
            raise TooLarge(f"more than {most} entries: use limit and offset")
        yield row


def matching(
    session: Session, view: View, pattern: Pattern, condition: query.Condition | None = None
) -> list[str]:
    """Return the names of the entries that a pattern and a condition choose.

    Raises:
        TooLarge: more than one command may touch.
    """
    scope = Scope(session, view)
    rows = bounded(session, scope.rows([scope.entry], scope.where(condition, pattern)))
    return [entry for (entry,) in rows]
