"""What a value must be to leave."""

import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srm_plugin_dicom.deidentify import values

KEY = values.temporal


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [
        (b"1.5", 1, b"1.5 "),
        (b"1.5\\-2", 2, b"1.5\\-2"),
        (b"1.5\\-2", 1, None),
        (b" 12 ", 1, b" 12 "[:3] + b" "),
        (b"1e-5", 1, b"1e-5"),
        (b"", 1, b""),
        (b"12\0name", 1, None),
        (b"Doe", 1, None),
        (b"0" * 40, 1, None),
    ],
)
def test_numbers(value, most, expected):
    assert values.number(value, most) == expected


def test_words_keep_their_places():
    assert (
        values.of_words(b"ORIGINAL\\PRIMARY\\SMITH JOHN\\NORM", None, "code") == b"ORIGINAL\\PRIMARY\\\\NORM"
    )
    assert values.of_words(b"SMITH", 1, "code") is None
    assert values.of_words(b"", 1, "code") == b""


@pytest.mark.parametrize("kernel", [b"B30f", b"Br40d", b"FC13", b"STANDARD", b"H31s"])
def test_kernels_by_list_and_grammar(kernel):
    assert values.of_words(kernel, None, "kernel").strip() == kernel


def test_dates_shift_and_times_stay():
    assert values.shifted_date(b"20040301", 1) == b"20040229"
    assert values.shifted_datetime(b"20040301120000.123456+0100", 1) == b"20040229120000.123456+0100"
    assert values.shifted_date(b"2004031", 1) is None
    assert values.shifted_date(b"20041350", 1) is None
    assert values.shifted_date(b"Doe", 1) is None
    assert values.shifted_date(b"", 1) == b""


def test_great_ages_are_not_told():
    assert values.age(b"091Y") == b"090Y"
    assert values.age(b"045Y") == b"045Y"
    assert values.age(b"Doe") is None
    assert values.age(b" 091Y") == b"090Y"
    assert values.age(b"091Y \0") == b"090Y"
    assert values.age(b"045Y\\ 095Y") == b"045Y\\090Y "
    assert values.age(b"999M") == b"999M"
    assert values.age(b"") == b""


def test_registered_uids_stay():
    value = b"1.2.840.10008.5.1.4.1.1.2\\1.2.3\0"
    assert values.uids(value, lambda _: b"2.25.9") == b"1.2.840.10008.5.1.4.1.1.2\\2.25.9" + b"\0" * 0


@given(st.binary(max_size=64))
def test_no_rule_lets_arbitrary_bytes_pass_as_text(value):
    for rule, vr in (("number", b"DS"), ("words:code", b"CS"), ("words:model", b"LO")):
        made = values.clean_for(rule, vr, None)(value)
        assert made is None or (len(made) % 2 == 0 and made.isascii() and b"\0" not in made)


def accepted(value, most):
    """Return what `number` does, value by value and without a pattern for all of them."""
    text = value.rstrip(b" \0")
    parts = text.split(b"\\")
    one = re.compile(rb" *(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)? *")
    if (most is not None and len(parts) > most) or any(len(part) > 32 for part in parts):
        return None
    return values.pad(text) if all(map(one.fullmatch, parts)) else None


LIKE_NUMBERS = st.text("0019+-.eE  \\\0\n", max_size=40).map(str.encode)
MOST = st.sampled_from((1, 2, 3, 16, None))


@settings(max_examples=500)
@given(LIKE_NUMBERS | st.from_regex(rb"\A( ?[0-9.]{1,34}e?-?[0-9]{0,4} ?\\?){0,4}\Z"), MOST)
def test_numbers_are_taken_one_by_one(value, most):
    assert values.number(value, most) == accepted(value, most)


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(LIKE_NUMBERS | st.sampled_from((b"1.5 ", b"12\\-3", b"", b"5 ", b"7\\ ")), MOST),
        min_size=1,
        max_size=4,
    )
)
def test_numbers_that_stay_together_are_those_that_stay_alone(each):
    each = [(value + b"1" if len(value) & 1 else value, most) for value, most in each]
    stay = values.numbers_that_stay([most for _, most in each])
    alone = all(values.number(value, most) == value for value, most in each)
    assert (stay.fullmatch(b"\n".join(value for value, _ in each)) is not None) == alone


def test_no_number_takes_long():
    """Spaces between values could be tried in more ways than can be counted."""
    hostile = b"\\".join([b" " * 30 + b"1" * 2] * 2000) + b"x"
    assert values.number(hostile, None) is None
    assert values.numbers_that_stay([None] * 2).fullmatch(hostile + b"\n" + hostile) is None


@pytest.mark.parametrize(
    "table",
    [
        struct.pack("<256H", *range(0, 65536, 256)),
        struct.pack("<256H", *(round(65535 * (i / 255) ** 2.2) for i in range(256))),
        struct.pack("<256H", *(i * 257 for i in range(256))),
        struct.pack(">256H", *(round(i * 231.7) for i in range(256))),
        struct.pack("<4096H", *range(0x3030, 0x4030)),
        struct.pack("<4096H", *range(0x7030, 0x6030, -1)),
        bytes(range(256)),
        struct.pack("<120H", *range(1, 121)),
        struct.pack("<60H", *(i // 2 + 40 for i in range(60))),
        b"01" * 40,
    ],
)
def test_tables_are_no_text(table):
    assert values.binary(table, None, 2) == table


@given(
    st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 4)), min_size=2, max_size=16),
    st.sampled_from("<>"),
)
def test_floats_of_a_header_are_no_text(numbers, order):
    for letter, size in (("d", 8), ("f", 4)):
        value = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if not values.reads_as_text(value, 24):
            assert values.binary(value, None, size, text=24, floats=True) == value
