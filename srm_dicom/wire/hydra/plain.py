"""Messages that are written as `messages` writes them, read without a parser of XML.

Nearly all of a key server's messages come from this program, and to parse them took longer than what they
ask for. Of each type a pattern is made, from the same table as its writer: fixed tags in their order, and
between them text of printable ASCII without any markup, which stands for itself. What fits means in XML
what is read here; what does not fit, as the messages of other programs, is left to a parser.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from srm_dicom.wire.hydra.contract import OPERATIONS, Operation, Wire
from srm_dicom.wire.hydra.messages import HEAD, TAIL, item_of, members

_SIMPLE: Mapping[Any, tuple[str, Callable[[str], Any]]] = {
    str: ("[^<]*+", str),
    int: ("-?[0-9]{1,18}+", int),
    bool: ("true|false", "true".__eq__),
}
"""What an element of a simple type has inside, and what makes its value."""

_CALL = re.compile("<m:([A-Za-z]+)>")


def read_request(message: bytes) -> tuple[Operation, list[Any]] | None:
    """Return the operation that a message calls, and its arguments; None for one that has to be parsed."""
    text = _inside(message)
    call = _CALL.match(text)
    if call is None or call[1] not in OPERATIONS:
        return None
    operation = OPERATIONS[call[1]]
    arguments = _parts(text, operation.name, operation.parameters)
    return None if arguments is None else (operation, arguments)


def read_response(name: str, message: bytes) -> list[Any] | None:
    """Return what an operation answered, in a list of one; None for a message that has to be parsed."""
    returns = OPERATIONS[name].returns
    return _parts(_inside(message), f"{name}Response", {f"{name}Return": returns}) if returns else None


def _inside(message: bytes) -> str:
    """Return what is inside the body of a message; nothing if its envelope is another one."""
    inside = message[len(_HEAD) : -len(_TAIL)]
    if not (message.startswith(_HEAD) and message.endswith(_TAIL)):
        return ""
    if inside.translate(None, _PLAIN) or b"]]>" in inside:
        return ""
    return inside.decode("ascii")


_HEAD, _TAIL = HEAD.encode(), TAIL.encode()
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b"&"))
"""Bytes that stand for themselves, tags among them."""


def _parts(text: str, name: str, kinds: Mapping[str, Wire]) -> list[Any] | None:
    """Return the parts of a body entry, if it has these and nothing else."""
    at = _past(text, 0, f"<m:{name}>")
    parts = []
    for part, kind in kinds.items():
        at = _past(text, at, f"<{part}>")
        if at < 0:
            return None
        value, at = _value(text, at, kind)
        parts.append(value)
        at = _past(text, at, f"</{part}>")
    return parts if _past(text, at, f"</m:{name}>") == len(text) else None


def _past(text: str, at: int, tag: str) -> int:
    """Return where a tag ends that has to be at a place; -1 if it is not."""
    return at + len(tag) if at >= 0 and text.startswith(tag, at) else -1


def _value(text: str, at: int, kind: Wire) -> tuple[Any, int]:
    """Return the value at a place, and where it ends; -1 if there is none."""
    item = item_of(kind)
    if item is None:
        reader = _reader(kind)
        match = reader.alone.match(text, at)
        return (reader.make(iter(match.groups())), match.end()) if match else (None, -1)
    reader = _reader(item)
    values = []
    while match := reader.item.match(text, at):
        values.append(reader.make(iter(match.groups())))
        at = match.end()
    return tuple(values), at


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the content of an element of a type.

    Attributes:
        pattern: of that content, a group for each value in it.
        bare: the same without groups.
        make: takes the groups in their order and makes the value.
        alone: the pattern, compiled.
        item: an item of a list of them, compiled.
    """

    pattern: str
    bare: str
    make: Callable[[Iterator[str]], Any]
    alone: re.Pattern[str]
    item: re.Pattern[str]

    @classmethod
    def of(cls, pattern: str, bare: str, make: Callable[[Iterator[str]], Any]) -> _Reader:
        """Return the reader of a pattern."""
        return cls(pattern, bare, make, re.compile(pattern), re.compile(f"<item>{pattern}</item>"))


@cache
def _reader(kind: Wire) -> _Reader:
    if dataclasses.is_dataclass(kind):
        return _structure_reader(kind)  # type: ignore[arg-type]
    content, value = _SIMPLE[kind]
    return _Reader.of(f"({content})", f"(?:{content})", lambda groups: value(next(groups)))


def _structure_reader(structure: type) -> _Reader:
    """A list inside a structure is one group, which is taken apart when it is made."""
    pattern, bare, makers = "", "", []
    for name, (_, kind) in members(structure).items():
        item = item_of(kind)
        reader = _reader(item or kind)
        element = f"<{name}>{reader.bare}</{name}>"
        bare += f"(?>(?:{element})*)" if item else element
        pattern += f"((?>(?:{element})*))" if item else f"<{name}>{reader.pattern}</{name}>"
        makers.append(_list_maker(name, reader) if item else reader.make)
    return _Reader.of(pattern, bare, lambda groups: structure(*[make(groups) for make in makers]))


def _list_maker(name: str, reader: _Reader) -> Callable[[Iterator[str]], Any]:
    element = re.compile(f"<{name}>{reader.pattern}</{name}>")
    return lambda groups: tuple(reader.make(iter(match.groups())) for match in element.finditer(next(groups)))
