"""The readable tables of this package, as data: table E.1-1, the keep list, words, codes, UIDs.

Nothing here depends on the version of a library, so the bytes that leave do not either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

FILES = (
    "table_e1_1.tsv",
    "keep.tsv",
    "words.tsv",
    "codes.tsv",
    "registered_uids.tsv",
    "keep_options.tsv",
    "safe_private.tsv",
)
_TAG_DIGITS = 8
_OPTIONS = slice(4, -1)
_OLD_SNOMED = ("SNM3", "99SDM")


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of table E.1-1 for one attribute.

    Attributes:
        vrs: the value representations of PS3.6, the usual first.
        basic: the action codes of the basic profile, such as ``X/Z/D``.
        options: what an option says (K or C), by column; silent ones are missing.
    """

    tag: int
    name: str
    vrs: tuple[bytes, ...]
    basic: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeepRow:
    """An attribute that leaves although the table is silent about it.

    Attributes:
        most: the largest value multiplicity; None without a bound.
        rule: what a value must be to leave (see `values`).
        reason: the module of PS3.3 whose meaning depends on it.
    """

    tag: int
    keyword: str
    vrs: tuple[bytes, ...]
    most: int | None
    rule: str
    reason: str


@cache
def table() -> tuple[TableRow, ...]:
    """Return the rows that are single attributes; those for groups are only removed (see `patterns`)."""
    _, *rows = _lines("table_e1_1.tsv")
    return tuple(_table_row(row) for row in rows if _is_tag(row[0]))


@cache
def patterns() -> tuple[tuple[str, str], ...]:
    """Return the rows for whole groups (curves, overlays, private), as written, with their names."""
    _, *rows = _lines("table_e1_1.tsv")
    return tuple((row[0], row[1]) for row in rows if not _is_tag(row[0]))


@cache
def keep() -> tuple[KeepRow, ...]:
    """Return the keep list."""
    _, *rows = _lines("keep.tsv")
    return tuple(
        KeepRow(int(tag, 16), keyword, _vrs(vr), None if most == "n" else int(most), rule, reason)
        for tag, keyword, vr, most, rule, reason in rows
    )


@cache
def keep_with(option: str) -> tuple[KeepRow, ...]:
    """Return what also leaves when an option, named by its column of the table, is chosen."""
    _, *rows = _lines("keep_options.tsv")
    return tuple(
        KeepRow(int(tag, 16), keyword, _vrs(vr), None if most == "n" else int(most), rule, reason)
        for its_option, tag, keyword, vr, most, rule, reason in rows
        if its_option == option
    )


@cache
def safe_private() -> Mapping[tuple[int, bytes], KeepRow]:
    """Return safe private attributes by group and low byte of the element, and creator."""
    _, *rows = _lines("safe_private.tsv")
    numbers = {b"DS": "number", b"IS": "number"}
    return {
        (int(element, 16), creator.encode("ascii")): KeepRow(
            int(element, 16),
            meaning,
            _vrs(vr),
            None if most == "n" else int(most),
            numbers.get(vr.encode("ascii"), "binary"),
            "safe private",
        )
        for element, creator, vr, most, meaning in rows
    }


@cache
def words(kind: str) -> frozenset[bytes]:
    """Return the public words of a kind."""
    _, *rows = _lines("words.tsv")
    return frozenset(word.encode("ascii") for its_kind, word in rows if its_kind == kind)


@cache
def codes() -> Mapping[tuple[bytes, bytes], bytes]:
    """Return the meaning of each public concept by scheme designator and code."""
    _, *rows = _lines("codes.tsv")
    found = {(scheme.encode(), code.encode()): meaning.encode() for scheme, code, meaning in rows}
    old = {code: meaning for (scheme, code), meaning in found.items() if scheme == b"SRT"}
    for designator in _OLD_SNOMED:
        found |= {(designator.encode(), code): meaning for code, meaning in old.items()}
    return found


@cache
def registered_uids() -> frozenset[bytes]:
    """Return the UIDs of PS3.6 annex A."""
    _, *rows = _lines("registered_uids.tsv")
    return frozenset(row[0].encode("ascii") for row in rows)


@cache
def digest() -> str:
    """Return a hash of all tables; a profile's version is pinned to it by a test."""
    total = sha256()
    for name in FILES:
        total.update(files(__package__).joinpath(name).read_bytes())
    return total.hexdigest()


def _lines(name: str) -> Iterator[list[str]]:
    text = files(__package__).joinpath(name).read_text("utf-8")
    return (line.split("\t") for line in text.splitlines() if not line.startswith("#"))


def _is_tag(text: str) -> bool:
    return len(text) == _TAG_DIGITS and "x" not in text


def _vrs(text: str) -> tuple[bytes, ...]:
    return tuple(part.encode("ascii") for part in text.split())


@cache
def _columns() -> tuple[str, ...]:
    header = next(_lines("table_e1_1.tsv"))
    return tuple(header[_OPTIONS])


def _table_row(row: list[str]) -> TableRow:
    said = {name: code for name, code in zip(_columns(), row[_OPTIONS], strict=True) if code != "-"}
    return TableRow(int(row[0], 16), row[1], _vrs(row[2]), row[3], said)
