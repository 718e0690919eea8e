"""What a collection is: a directory with typed attributes, each of one of two groups.

``search`` attributes are de-identified; ``nominative`` ones say who it is. A type is written as in AMGA
(``int``, ``float``, ``varchar(64)``, ``text``, ``timestamp``) and kept in one of three kinds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import SitePath
from srm_dicom.rights.acl import Acl
from srm_dicom.wire import amga, query

MAX_VALUE_CHARS = 4096
Value = str | int | float | None


class Group(Enum):
    """Which permission letter opens an attribute."""

    SEARCH = "search"
    NOMINATIVE = "nominative"

    @property
    def letter(self) -> str:
        """The permission letter (`rights.acl`)."""
        return "r" if self is Group.SEARCH else "n"


class Kind(Enum):
    """How a value is kept and compared; the value is the SQL type."""

    INTEGER = "BIGINT"
    REAL = "DOUBLE PRECISION"
    TEXT = "TEXT"


_TYPE = re.compile(r"(?P<name>[a-z]+)(?:\((?P<size>[0-9]{1,5})(?:,[0-9]{1,2})?\))?\Z", re.ASCII)
_KINDS = {
    **dict.fromkeys(("int", "integer", "smallint", "bigint"), Kind.INTEGER),
    **dict.fromkeys(("float", "double", "real", "numeric", "decimal"), Kind.REAL),
    **dict.fromkeys(("text", "varchar", "char", "timestamp", "date", "time"), Kind.TEXT),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewAttribute:
    """An attribute to be added to a collection."""

    name: str
    type: str
    group: Group

    def __post_init__(self) -> None:
        if _NAME.match(self.name) is None or self.name == query.ENTRY_NAME:
            raise InvalidRequest("an attribute is named by up to 64 letters, digits and underscores")
        kind_of(self.type)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a collection; `id` names its column."""

    id: int
    name: str
    type: str
    group: Group

    @property
    def kind(self) -> Kind:
        """How its values are kept."""
        return kind_of(self.type)

    def value(self, text: str) -> Value:
        """Read a value as it stands in a command; an empty one is no value.

        Raises:
            InvalidRequest: it does not fit the type.
        """
        if not text:
            return None
        try:
            return _READERS[self.kind](text, _size(self.type))
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"a value does not fit {self.name}, which is {self.type}") from error


@dataclass(frozen=True, slots=True)
class Collection:
    """A directory of entries.

    Attributes:
        valid_until: after it nobody finds anything here.
    """

    id: int
    path: SitePath
    acl: Acl
    valid_until: datetime


def kind_of(type_name: str) -> Kind:
    """Return how values of a type are kept.

    Raises:
        InvalidRequest: there is no such type.
    """
    match = _TYPE.match(type_name)
    kind = _KINDS.get(match["name"]) if match else None
    if kind is None:
        raise InvalidRequest("a type is one of int, float, varchar(n), text and timestamp")
    return kind


def show(value: Value) -> str:
    """Write a value as a row."""
    return "" if value is None else str(value)


def _size(type_name: str) -> int:
    match = _TYPE.match(type_name)
    named = match["size"] if match else None
    return min(int(named), MAX_VALUE_CHARS) if named else MAX_VALUE_CHARS


def _integer(text: str, _size_chars: int) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise OverflowError
    return number


def _real(text: str, _size_chars: int) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _line(text: str, size_chars: int) -> str:
    if len(text) > size_chars or not amga.is_one_line(text):
        raise ValueError
    return text


_READERS: dict[Kind, Callable[[str, int], Value]] = {
    Kind.INTEGER: _integer,
    Kind.REAL: _real,
    Kind.TEXT: _line,
}
