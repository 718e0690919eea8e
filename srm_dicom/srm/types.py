"""The complex types of SRM v2.2 as spyne models, made from the contract.

``T.TReturnStatus(statusCode="SRM_SUCCESS")`` makes a value; an element that is not given reads as
None, and a name that the type does not have is refused. On the wire every child is unqualified:
gSOAP reads nothing else. Enumerations are plain strings here: what a caller sent is judged by
`srm.checks`, so that a wrong word gets a status and not a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srm_dicom.soap.compat import (
    AnyUri,
    Boolean,
    ComplexModel,
    ComplexModelMeta,
    DateTime,
    Integer32,
    Unicode,
    UnsignedLong,
)
from srm_dicom.soap.rpc import unqualified
from srm_dicom.srm.contract import NAMESPACE, Field, contract

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRIMITIVES: Mapping[str, type] = {
    "string": Unicode,
    "anyURI": AnyUri,
    "int": Integer32,
    "unsignedLong": UnsignedLong,
    "boolean": Boolean,
    "dateTime": DateTime,
}
_TYPES_NAMESPACE = f"{NAMESPACE}/types"
"""Where the models live, unseen on the wire: message and type of one name may not share a namespace."""


class Record(ComplexModel):  # type: ignore[misc]
    """Base of every complex type; spyne's own constructor takes ten times as long."""

    _names: frozenset[str] = frozenset()

    def __init__(self, **elements: Any) -> None:
        if not elements.keys() <= self._names:
            unknown = ", ".join(sorted(elements.keys() - self._names))
            raise TypeError(f"{type(self).__name__} has no element {unknown}")
        self.__dict__.update(elements)


def _models() -> dict[str, type[Record]]:
    types = contract().types
    # Declared empty and filled afterwards: TMetaDataPathDetail and its array contain each other.
    models = {name: _empty(name, fields) for name, fields in types.items()}
    for name, fields in types.items():
        for field in fields:
            models[name].append_field(field.name, _member(field, models))
    return models


def _empty(name: str, fields: tuple[Field, ...]) -> type[Record]:
    body: dict[str, Any] = dict.fromkeys((field.name for field in fields), None)
    body |= {
        "__namespace__": _TYPES_NAMESPACE,
        "__module__": __name__,
        "_names": frozenset(body),
    }
    model: type[Record] = ComplexModelMeta(name, (Record,), body)
    return model


def _member(field: Field, models: Mapping[str, type[Record]]) -> Any:
    base: Any = _PRIMITIVES.get(field.type) or models.get(field.type) or Unicode
    return unqualified(base, many=field.many)


class _Types:
    """The models, as attributes and items by the names of the standard."""

    def __init__(self, models: Mapping[str, type[Record]]) -> None:
        vars(self).update(models)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"SRM v2.2 has no type {name}")

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]


T = _Types(_models())


def array(name: str, items: list[Any]) -> Any:
    """Return an array type around `items`; None for an empty list, which no client expects."""
    (field,) = contract().types[name]
    return T[name](**{field.name: items}) if items else None


def items(value: Any) -> list[Any]:
    """Return what an array type holds; empty where the caller left it out."""
    if value is None:
        return []
    (name,) = value._names  # noqa: SLF001 - our own base class
    held: list[Any] | None = getattr(value, name)
    return held or []
