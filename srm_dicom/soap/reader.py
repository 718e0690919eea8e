"""Messages read by a plan that is made once of each type, and not by asking each element anew.

spyne knows the types and reads the texts. What it does between the two, looking up for every element of
every message how such a one is read, took ten times as long as all the rest; so that is done here, once a
type. What is meant is the same: the order of elements does not matter, one that nobody knows is passed over,
of one that should stand once the last counts, nil is None, and what a client says of its types is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from lxml import etree

from srm_dicom.errors import InvalidRequest
from srm_dicom.soap.compat import Boolean, ComplexModel, Fault, Soap11, Unicode

Element = etree._Element  # noqa: SLF001 - its documented name
Reader = Callable[[Element], Any]
MessageReader = Callable[[Element], SimpleNamespace]
Filler = Callable[[Element, dict[str, Any]], None]

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_TRUE = ("true", "1")
_FALSE = ("false", "0")
_TEXTS = Soap11(validator=None)
_WRONG = (Fault, ValueError, TypeError, AttributeError, KeyError)
"""What spyne raises of a text that is none of its type."""


def boolean(_model: Any, text: str) -> bool:
    """Return what an xsd:boolean says; spyne takes for false whatever is not true to the letter.

    Raises:
        ValueError: it is neither.
    """
    word = text.strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError("neither true nor false")
    return word in _TRUE


_TEXTS._from_unicode_handlers[Boolean] = boolean  # noqa: SLF001 - spyne has no other word


def message_reader(parts: Mapping[str, type]) -> MessageReader:
    """Return what reads the body entry of an operation: an attribute a part, None for one that is absent.

    Args:
        parts: name and spyne type of each part.

    The reader raises `InvalidRequest` where a value is not of its type.
    """
    fill = _members({name: (False, _reader(model)) for name, model in parts.items()})
    absent = dict.fromkeys(parts)

    def read_message(entry: Element) -> SimpleNamespace:
        message = SimpleNamespace(**absent)
        try:
            fill(entry, vars(message))
        except _WRONG as error:
            raise InvalidRequest(
                "an element of the message does not have the type that was declared"
            ) from error
        return message

    return read_message


def _members(known: Mapping[str, tuple[bool, Reader]]) -> Filler:
    """Return what reads the children of an element; known are by name whether there may be many, and how."""

    def fill(element: Element, held: dict[str, Any]) -> None:
        for child in element:
            name = child.tag.rpartition("}")[2]
            found = known.get(name)
            if found is None:
                continue
            many, read = found
            value = None if child.get(_NIL) in _TRUE else read(child)
            if not many:
                held[name] = value
            elif held.get(name) is None:
                held[name] = [value]
            else:
                held[name].append(value)

    return fill


def _reader(model: Any) -> Reader:
    if issubclass(model, ComplexModel):
        return partial(_complex, model.__orig__ or model)
    if issubclass(model, Unicode):
        return _text
    return partial(_value, model, _TEXTS._from_unicode_handlers[model])  # noqa: SLF001 - as above


def _complex(model: Any, element: Element) -> Any:
    value = model()
    _filler(model)(element, vars(value))
    return value


@cache
def _filler(model: Any) -> Filler:
    # Made at its first use, not before: two types may contain each other.
    members = model.get_flat_type_info(model).items()
    return _members({name: (one.Attributes.max_occurs > 1, _reader(one)) for name, one in members})


def _text(element: Element) -> str:
    return element.text or ""


def _value(model: Any, read: Callable[[Any, str], Any], element: Element) -> Any:
    text = element.text
    return None if text is None else read(model, text)
