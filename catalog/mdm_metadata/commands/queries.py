"""Commands that read values: one entry, one collection, or all that the caller may search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mdm_metadata.access import View, no_such_attribute
from mdm_metadata.commands.scope import Scope, bounded, most_rows
from mdm_metadata.commands.table import OWN, Session, command
from mdm_metadata.entries import Row
from mdm_metadata.schema import show
from srm_dicom.errors import InvalidRequest, NotFound
from srm_dicom.rights.declare import Right
from srm_dicom.wire import query

T = TypeVar("T")
_MIXED = "text"


@command("getattr <pattern> <attribute> ...", Right.METADATA_SEARCH, least=1)
def getattr_(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Show entries: the name of each and its values."""
    pattern = session.pattern(args[0])
    scope = Scope(session, session.access.view(pattern.collection))
    columns = [scope.entry, *(scope.column(name) for name in args[1:])]
    found = scope.rows(columns, scope.where(None, pattern))
    rows = list(bounded(session, found, len(columns)))
    if not rows and not pattern.is_glob:
        raise NotFound("no such entry")
    return _flat(rows)


@command("find <pattern> [<condition>]", Right.METADATA_SEARCH, least=1, most=2)
def find(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Name the entries that the pattern chooses and for which the condition is true."""
    wanted = query.parse(args[1]) if args[1:] else query.Query(None)
    pattern = session.pattern(args[0])
    scope = Scope(session, session.access.view(pattern.collection))
    where = scope.where(wanted.condition, pattern)
    found = scope.found([scope.entry], wanted.condition, _limit(session, wanted), wanted.offset, where)
    return bounded(session, (name for (name,) in found))


@command("selectattr <attribute> ... <condition>", Right.METADATA_SEARCH, least=2)
def selectattr(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Show values of the entries of one collection for which the condition is true."""
    shown = [query.parse_reference(text) for text in args[:-1]]
    wanted = query.parse(args[-1])
    first = next((one.directory for one in shown if one.directory), ".")
    scope = Scope(session, session.access.view(session.path(first)))
    columns = [scope.resolve(reference).column for reference in shown]
    limit = _limit(session, wanted, len(columns))
    rows = scope.found(columns, wanted.condition, limit, wanted.offset)
    return _flat(bounded(session, rows, len(columns)))


@command("findall <attribute> ... <condition>", Right.METADATA_SEARCH, since=OWN, least=1)
def findall(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Search every collection that the caller may search.

    A collection that lacks an attribute of the condition is passed over, one that lacks a shown
    attribute has no value for it. The reply has the type of each shown attribute first, then of each
    entry its collection, its name and its values.
    """
    wanted = query.parse(args[-1])
    names = list(args[:-1])
    needed = [*query.references(wanted.condition), *map(query.parse_reference, names)]
    if any(reference.directory for reference in needed):
        raise InvalidRequest("an attribute of this command stands alone")
    views = session.access.searchable()
    scopes = [Scope(session, view) for view in views if _has_all(view, wanted)]
    types = [_type_in(views, name) for name in names]
    if views and not scopes:
        raise no_such_attribute()
    rows = _everywhere(session, scopes, names, wanted)
    return [*types, *_flat(bounded(session, rows, 2 + len(names)))]


def _everywhere(
    session: Session, scopes: Sequence[Scope], names: Sequence[str], wanted: query.Query
) -> Iterator[Row]:
    left, passed_over = _limit(session, wanted, 2 + len(names)), wanted.offset
    for scope in scopes:
        columns = [scope.entry, *map(scope.column_or_nothing, names)]
        if passed_over and (count := scope.count(wanted.condition)) <= passed_over:
            passed_over -= count
            continue
        for row in scope.found(columns, wanted.condition, left, passed_over):
            left -= 1
            yield (scope.path, *row)
        passed_over = 0


def _limit(session: Session, wanted: query.Query, width: int = 1) -> int:
    """Return how many rows of so many values are wanted, or one more than a reply may have."""
    most = most_rows(session, width) + 1
    return most if wanted.limit is None else min(wanted.limit, most)


def _has_all(view: View, wanted: query.Query) -> bool:
    names = {reference.attribute for reference in query.references(wanted.condition)}
    return names <= {query.ENTRY_NAME, *view.attributes}


def _type_in(views: Sequence[View], name: str) -> str:
    types = {view.attributes[name].type for view in views if name in view.attributes}
    return types.pop() if len(types) == 1 else _MIXED


def _flat(rows: Iterable[Sequence[Any]]) -> list[str]:
    return [show(value) for row in rows for value in row]
