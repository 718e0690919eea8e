"""Text that stands among binary numbers: a name is not only looked for where it fills a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

_SHORTEST, _FEW_LETTERS, _FLOATS = 12, 4, 8
_LETTERS = rb"A-Za-z0-9 ^_.,:;=@/()+-"
_RUN = re.compile(rb"[%b]{12,}" % _LETTERS)
# Of a float the first or the last byte is its exponent. No number of a header is so large or so small that
# one of these could be that, but for few letters in single precision: there two such numbers are a text.
_DOUBLE = re.compile(rb"[0-9C-Z^_a-z][%b]{6}[0-9C-Z^_a-z]" % _LETTERS)
_SINGLE = re.compile(rb"[N-Z^_a-z][%b]{2}[N-Z^_a-z]" % _LETTERS)


def among_integers(value: bytes) -> bool:
    """Tell integers with a text among them, in one byte a letter or with NULs between."""
    if len(value) < _SHORTEST:
        return False
    found = _RUN.findall(value)
    if 3 * value.count(0) > len(value):
        found += _RUN.findall(value.replace(b"\0", b""))
    return any(map(_is_text, found))


def among_floats(value: bytes, size: int) -> bool:
    """Tell floats of so many bytes with eight letters or more among them."""
    pattern, least = (_DOUBLE, 1) if size == _FLOATS else (_SINGLE, 2)
    if pattern.search(value) is None:
        return False
    numbers = (value[at : at + size] for at in range(0, len(value), size))
    return sum(1 for number in numbers if pattern.fullmatch(number)) >= least


def _is_text(run: bytes) -> bool:
    """Tell a text from a table: letters go up and down; numbers, or one byte of each, go one way."""
    if len(set(run)) <= _FEW_LETTERS:
        return False
    return not any(map(_goes_one_way, _readings(run)))


def _readings(run: bytes) -> Iterator[Sequence[int]]:
    """Yield what the bytes may be: numbers of one byte, or of two in both orders, or one byte of these."""
    yield run
    for start in (0, 1):
        yield run[start::2]
        words = [run[at : at + 2] for at in range(start, len(run) - 1, 2)]
        yield [int.from_bytes(word, "little") for word in words]
        yield [int.from_bytes(word, "big") for word in words]


def _goes_one_way(numbers: Sequence[int]) -> bool:
    return all(one <= other for one, other in pairwise(numbers)) or all(
        one >= other for one, other in pairwise(numbers)
    )
