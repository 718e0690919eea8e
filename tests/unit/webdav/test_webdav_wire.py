"""Ranges, conditions, digests and properties, for any input."""

import base64
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import parse_path
from srm_dicom.wire.dav import digest
from srm_dicom.wire.dav.conditions import entity_tag, fails_if_match, meets_if_none_match, meets_if_range
from srm_dicom.wire.dav.multistatus import PROPERTIES, multistatus, wanted_properties
from srm_dicom.wire.dav.ranges import ByteRange, Multipart, Unsatisfiable, ranges_of

SIZE = st.integers(min_value=0, max_value=10_000)
SPECIFIED = st.from_regex(r"[0-9]{0,5}-[0-9]{0,5}", fullmatch=True)
TAG = '"0d370270-17"'


@dataclass(frozen=True)
class Name:
    path: str
    is_directory: bool
    size_bytes: int | None
    adler32: str | None
    online: bool = True
    shown_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


# --- ranges


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("Bytes = 0-4 , 6-", [(0, 5), (6, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-30", [(0, 10)]),
        ("bytes=8-100", [(8, 10)]),
        ("bytes=20-30,1-2", [(1, 3)]),
        ("bytes=,0-1,", [(0, 2)]),
        ("bytes=4-2", []),
        ("bytes=0-1,4-2", []),
        ("bytes=", []),
        ("bytes=-", []),
        ("bytes=a-b", []),
        ("bytes=\u0661-", []),
        ("bytes=0-" + "9" * 30, []),
        ("lines=0-1", []),
        ("", []),
        ("bytes=0-5,0-5", []),
        ("bytes=" + ",".join(["0-0"] * 300), []),
    ],
)
def test_what_a_range_header_means(header, ranges):
    assert [(one.start, one.end) for one in ranges_of(header, 10)] == ranges


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20,11-12", "bytes=-0"])
def test_ranges_that_touch_nothing(header):
    with pytest.raises(Unsatisfiable):
        ranges_of(header, 10)


@given(st.lists(SPECIFIED, max_size=10), SIZE)
def test_no_range_leaves_the_file_and_none_is_sent_over_and_over(specified, size_bytes):
    try:
        ranges = ranges_of("bytes=" + ",".join(specified), size_bytes)
    except Unsatisfiable:
        return
    assert all(0 <= one.start < one.end <= size_bytes for one in ranges)
    assert sum(one.size_bytes for one in ranges) <= size_bytes


@given(st.text(max_size=60), SIZE)
def test_any_text_is_a_range_header_or_none(text, size_bytes):
    with suppress(Unsatisfiable):
        ranges_of(text, size_bytes)
    with suppress(Unsatisfiable):
        ranges_of("bytes=" + text, size_bytes)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=2, max_size=8))
def test_the_length_of_several_parts_is_told_before_they_are_sent(pairs):
    ranges = [ByteRange(start, start + length) for start, length in pairs]
    parts = Multipart(ranges, 100, "text/plain", "b0undary")
    body = b"".join(parts.head(one) + bytes(one.size_bytes) for one in ranges) + parts.tail
    assert parts.length == len(body)


# --- conditions


def test_a_tag_is_of_known_bytes():
    assert entity_tag("0d370270", 17) == TAG
    assert entity_tag(None, 17) is None
    assert entity_tag("0d370270", None) is None


@pytest.mark.parametrize(
    ("header", "fails"),
    [(None, False), ("*", False), (TAG, False), (f'"x" , {TAG}', False), (f"W/{TAG}", True), ('"x"', True)],
)
def test_if_match_is_strong(header, fails):
    assert fails_if_match(header, TAG) is fails


@pytest.mark.parametrize(
    ("header", "met"),
    [(None, False), ("*", True), (TAG, True), (f"W/{TAG}", True), ('"x"', False), ("nonsense", False)],
)
def test_if_none_match_is_weak(header, met):
    assert meets_if_none_match(header, TAG) is met


@pytest.mark.parametrize("header", [TAG, '"x"', "Thu, 01 Jan 2026 00:00:00 GMT"])
def test_bytes_that_are_not_known_meet_no_tag(header):
    assert fails_if_match(header, None)
    assert not meets_if_none_match(header, None)
    assert not meets_if_range(header, None)


# --- digests


@pytest.mark.parametrize(
    ("header", "algorithm"),
    [
        ("ADLER32", digest.Algorithm.ADLER32),
        ("md5;q=0.3, sha-256;q=1", digest.Algorithm.SHA256),
        ("crc64;q=1, md5; q=0.1", digest.Algorithm.MD5),
        ("md5;q=0", None),
        ("md5;q=a", None),
        ("", None),
    ],
)
def test_the_wanted_digest(header, algorithm):
    assert digest.RFC3230.wanted(header) is algorithm


def test_the_wanted_digest_of_the_newer_standard():
    assert digest.RFC9530.wanted("sha-512=10, adler=3, md5=1") is digest.Algorithm.ADLER32
    assert digest.RFC9530.wanted("sha-256=0") is None


def test_how_a_digest_is_written():
    adler = zlib.adler32(b"x").to_bytes(4, "big")
    assert digest.RFC3230.value(digest.Algorithm.ADLER32, adler) == "adler32=00790079"
    assert digest.RFC3230.value(digest.Algorithm.MD5, b"abc") == "md5=YWJj"
    wanted = f"adler=:{base64.b64encode(adler).decode()}:"
    assert digest.RFC9530.value(digest.Algorithm.ADLER32, adler) == wanted


@given(st.text(max_size=60))
def test_any_text_wants_a_digest_or_none(text):
    for dialect in digest.DIALECTS:
        dialect.wanted(text)


# --- properties


@given(st.binary(max_size=200))
def test_any_body_is_a_propfind_or_refused(body):
    with suppress(InvalidRequest):
        wanted_properties(body)


@pytest.mark.parametrize("entity", ['SYSTEM "file:///etc/hostname"', '"text"'])
def test_entities_mean_nothing(entity):
    body = f'<!DOCTYPE a [<!ENTITY b {entity}>]><propfind xmlns="DAV:"><prop><c>&b;</c></prop></propfind>'
    assert wanted_properties(body.encode()) == ("{DAV:}c",)


def test_too_many_properties():
    body = "".join(f"<p{number}/>" for number in range(101))
    with pytest.raises(InvalidRequest):
        wanted_properties(f'<propfind xmlns="DAV:"><prop>{body}</prop></propfind>'.encode())


@given(
    st.lists(st.sampled_from([*PROPERTIES, "{DAV:}unknown", "{u:&y'}x", "plain"]), unique=True, min_size=1),
    st.sampled_from(
        [
            Name(parse_path("/"), is_directory=True, size_bytes=None, adler32=None),
            Name(parse_path("/a/b"), is_directory=False, size_bytes=17, adler32="0d370270"),
            Name(parse_path("/a/b"), is_directory=False, size_bytes=None, adler32=None, online=False),
        ]
    ),
)
def test_every_property_is_answered_once(wanted, entry):
    response = etree.fromstring(b"".join(multistatus([entry], tuple(wanted))))[0]
    told = [one.tag for stat in response.iter("{DAV:}prop") for one in stat]
    assert sorted(told) == sorted(wanted)
    statuses = [one.text for one in response.iter("{DAV:}status")]
    assert statuses in (
        ["HTTP/1.1 200 OK"],
        ["HTTP/1.1 404 Not Found"],
        ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"],
    )
