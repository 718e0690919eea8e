"""From a condition's tree to an expression of the database, values as parameters throughout."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from mdm_metadata.schema import Kind
from srm_dicom.errors import InvalidRequest
from srm_dicom.wire import query


@dataclass(frozen=True, slots=True)
class Field:
    """What a reference stands for: a column and the kind of its values."""

    column: Any
    kind: Kind


Resolve = Callable[[query.Reference], Field]
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def expression(condition: query.Condition | None, resolve: Resolve) -> Any:
    """Return the expression of a condition, or None when there is none.

    Args:
        condition: from `wire.query`, whose bounds keep this recursion shallow.
        resolve: finds the field of a reference, and refuses one that is not for this caller.

    Raises:
        InvalidRequest: a value does not fit the attribute it is compared to.
    """
    return None if condition is None else _tree(condition, resolve)


def _tree(condition: query.Condition, resolve: Resolve) -> Any:  # noqa: PLR0911 - one line a shape
    match condition:
        case query.All(parts):
            return _balanced(operator.and_, [_tree(part, resolve) for part in parts])
        case query.AnyOf(parts):
            return _balanced(operator.or_, [_tree(part, resolve) for part in parts])
        case query.Not(part):
            return ~_tree(part, resolve)
        case query.Comparison(left, sign, right):
            return _comparison(left, sign, right, resolve)
        case query.Like(reference, pattern):
            return _like(resolve(reference), pattern)
        case query.In(reference, values):
            field = resolve(reference)
            return field.column.in_([_fitting(value, field.kind) for value in values])
        case query.Between(reference, low, high):
            field = resolve(reference)
            return field.column.between(_fitting(low, field.kind), _fitting(high, field.kind))
        case query.IsNull(reference):
            return resolve(reference).column.is_null()


def _balanced(join: Callable[[Any, Any], Any], parts: Sequence[Any]) -> Any:
    """Join many so that few are in one another: SQLite reads no more than a hundred parentheses deep."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return join(_balanced(join, parts[:middle]), _balanced(join, parts[middle:]))


def _comparison(left: query.Operand, sign: str, right: query.Operand, resolve: Resolve) -> Any:
    if isinstance(left, query.Literal):
        if isinstance(right, query.Literal):
            raise InvalidRequest("a comparison needs an attribute")
        return _comparison(right, _MIRRORED[sign], left, resolve)
    field = resolve(left)
    if isinstance(right, query.Literal):
        return _COMPARE[sign](field.column, _fitting(right, field.kind))
    other = resolve(right)
    if (field.kind is Kind.TEXT) != (other.kind is Kind.TEXT):
        raise InvalidRequest("a number is compared to a text")
    return _COMPARE[sign](field.column, other.column)


def _like(field: Field, pattern: str) -> Any:
    if field.kind is not Kind.TEXT:
        raise InvalidRequest("like needs an attribute that is a text")
    escaped = peewee.NodeList((peewee.Value(_well_formed(pattern)), peewee.SQL(r"ESCAPE '\'")))
    return peewee.Expression(field.column, peewee.OP.ILIKE, escaped)


def _well_formed(pattern: str) -> str:
    """Let a backslash quote only what needs it; PostgreSQL refuses a pattern that ends in one."""
    quoted = False
    pieces = []
    for character in pattern:
        if quoted:
            pieces.append("\\" + character if character in "%_\\" else "\\\\" + character)
        elif character != "\\":
            pieces.append(character)
        quoted = character == "\\" and not quoted
    return "".join(pieces) + ("\\\\" if quoted else "")


def _fitting(literal: query.Literal, kind: Kind) -> str | int | float:
    if (kind is Kind.TEXT) is not isinstance(literal.value, str):
        wanted = "a string in double quotes" if kind is Kind.TEXT else "a number"
        raise InvalidRequest(f"an attribute is compared to {wanted}")
    if isinstance(literal.value, int) and not -(2**63) <= literal.value < 2**63:
        return float(literal.value)
    return literal.value
