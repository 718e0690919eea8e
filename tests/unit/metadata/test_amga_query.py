"""The query grammar: what is written is what is read, within bounds, and no text comes back out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest, MdmError, TooLarge
from srm_dicom.wire import query
from srm_dicom.wire.query import (
    All,
    AnyOf,
    Between,
    Comparison,
    Condition,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Query,
    Reference,
)

TEXTS = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=20)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(
    lambda name: name.lower() not in query._KEYWORDS
)
DIRECTORIES = st.sampled_from(["", ".", "/mdm/here/heart-v1/image", "/a", "../b", "7.5"])
REFERENCES = st.builds(Reference, DIRECTORIES, NAMES)
NUMBERS = st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
LITERALS = st.builds(Literal, TEXTS | NUMBERS)
OPERATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
PREDICATES = st.one_of(
    st.builds(Comparison, REFERENCES | LITERALS, OPERATORS, REFERENCES | LITERALS),
    st.builds(Like, REFERENCES, TEXTS),
    st.builds(In, REFERENCES, st.lists(LITERALS, min_size=1, max_size=3).map(tuple)),
    st.builds(Between, REFERENCES, LITERALS, LITERALS),
    st.builds(IsNull, REFERENCES),
)
CONDITIONS = st.recursive(
    PREDICATES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
QUERIES = st.builds(Query, st.none() | CONDITIONS, st.none() | st.integers(0, 10**6), st.integers(0, 10**6))


def write_operand(operand: Reference | Literal) -> str:
    if isinstance(operand, Reference):
        return f"{operand.directory}:{operand.attribute}" if operand.directory else operand.attribute
    return query.quote_string(operand.value) if isinstance(operand.value, str) else repr(operand.value)


def write(condition: Condition) -> str:
    match condition:
        case All(parts):
            return " and ".join(f"({write(part)})" for part in parts)
        case AnyOf(parts):
            return " OR ".join(f"({write(part)})" for part in parts)
        case Not(part):
            return f"not ({write(part)})"
        case Comparison(left, sign, right):
            return f"{write_operand(left)} {sign} {write_operand(right)}"
        case Like(reference, pattern):
            return f"like({write_operand(reference)}, {query.quote_string(pattern)})"
        case In(reference, values):
            return f"{write_operand(reference)} in ({', '.join(map(write_operand, values))})"
        case Between(reference, low, high):
            return f"{write_operand(reference)} between {write_operand(low)} and {write_operand(high)}"
        case IsNull(reference):
            return f"{write_operand(reference)} is null"
    raise AssertionError


@given(QUERIES)
def test_what_is_written_is_read(wanted: Query) -> None:
    text = write(wanted.condition) if wanted.condition else ""
    if wanted.limit is not None:
        text += f" limit {wanted.limit}"
    if wanted.offset:
        text += f" offset {wanted.offset}"
    assert query.parse(text) == wanted


WHAT_MAY_BE_SAID = (
    r"the query (cannot be read|needs [a-z0-9 (),]+) at character \d+"
    r"|the number at character \d+ is out of range"
    r"|like takes an attribute and a string|a text has no control characters"
    r"|(conditions nest|a query has) at most \d+ ?[a-z]*"
)


def refusal_of(text: str) -> str | None:
    try:
        query.parse(text)
    except MdmError as error:
        return error.message
    return None


@given(st.text(max_size=200) | st.text("ab:/.\"'\\()=<>,0-+e not in like and limit ", max_size=200))
def test_any_text_is_read_or_refused_without_repeating_it(text: str) -> None:
    said = refusal_of(text)
    assert said is None or re.fullmatch(WHAT_MAY_BE_SAID, said)


def test_and_binds_tighter_than_or() -> None:
    a, b, c = (Comparison(Reference("", name), "=", Literal(1)) for name in "abc")
    assert query.parse("a=1 or b=1 and c=1").condition == AnyOf((a, All((b, c))))
    assert query.parse("not a=1 and b=1").condition == All((Not(a), b))
    assert query.parse('a not like "x"').condition == Not(Like(Reference("", "a"), "x"))


@pytest.mark.parametrize(
    "text",
    [
        "a = 1; drop table c1",
        "a = 1 -- x",
        "a = 'x'",
        'a = "x" or "1" = "1',
        "a = (select 1)",
        "a = 1 union select 1",
        "a like 5",
        'like("x", a)',
        "a in ()",
        "a = 1 limit -1",
        "a = 1 limit 1.5",
        "a = 1 limit x",
        "a = 1)",
        "a = 1 1",
        "1e999 = a",
        'a = "nul\x00"',
        "and",
        "a is 5",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        query.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 31 + "a=1" + ")" * 31,
        "not " * 31 + "a=1",
        " or ".join(["a=1"] * 201),
        "a = " + query.quote_string("x" * query.MAX_CHARS),
    ],
)
def test_bounds(text: str) -> None:
    with pytest.raises(TooLarge):
        query.parse(text)


def test_the_largest_queries_are_read() -> None:
    assert query.parse("(" * 30 + "a=1" + ")" * 30).condition
    assert query.parse(" or ".join(["a=1"] * 200)).condition
