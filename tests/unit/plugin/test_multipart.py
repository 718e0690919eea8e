"""Multipart messages, whole, cut and broken, in chunks of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_plugin_dicom.multipart import (
    MAX_HEADER_BYTES,
    MultipartError,
    MultipartReader,
    PartBegins,
    PartEnds,
    boundary_of,
)

BOUNDARY = b"b0undary"
HEADERS = b"Content-Type: application/dicom\r\nContent-Length: 7\r\n"


def message(parts: list[bytes], *, headers: bytes = HEADERS, preamble: bytes = b"") -> bytes:
    body = b"".join(b"\r\n--%s\r\n%s\r\n%s" % (BOUNDARY, headers, part) for part in parts)
    whole = preamble + body + b"\r\n--%s--\r\nepilogue" % BOUNDARY
    return whole if preamble else whole.removeprefix(b"\r\n")


def read(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return the contents of the parts; `sizes` are those of the chunks, again and again."""
    reader, parts, open_part, at, turn = MultipartReader(BOUNDARY), [], False, 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        for event in reader.feed(data[at : at + size]):
            if isinstance(event, PartBegins):
                assert not open_part
                open_part = True
                parts.append(b"")
            elif isinstance(event, PartEnds):
                assert open_part
                open_part = False
            else:
                assert open_part
                parts[-1] += event
        at, turn = at + size, turn + 1
    reader.finish()
    return parts


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
NEARLY = st.lists(
    st.sampled_from([b"\r", b"\n", b"--", BOUNDARY, BOUNDARY[:-1], b"\r\n--", b"x"]), max_size=9
)
CONTENT = (st.binary(max_size=60) | NEARLY.map(b"".join)).filter(
    lambda content: b"\r\n--b0undary" not in content
)


@given(st.lists(CONTENT.filter(lambda each: not each.startswith(b"--b0undary")), max_size=4), SIZES)
def test_parts_come_as_they_are(parts: list[bytes], sizes: list[int]) -> None:
    assert read(message(parts), sizes) == parts


@given(SIZES)
def test_a_preamble_and_parts_without_headers(sizes: list[int]) -> None:
    assert read(message([b"one", b""], headers=b"", preamble=b"hello\r\nyou"), sizes) == [b"one", b""]


@given(st.integers(0, 120), SIZES)
def test_a_message_that_is_cut_short(length: int, sizes: list[int]) -> None:
    whole = message([b"content"]).removesuffix(b"--\r\nepilogue")
    with pytest.raises(MultipartError):
        read(whole[:length], sizes)


@given(st.binary(max_size=400), SIZES)
def test_any_bytes(data: bytes, sizes: list[int]) -> None:
    try:
        read(data, sizes)
    except MultipartError:
        return


def test_what_is_held_is_bounded() -> None:
    reader = MultipartReader(BOUNDARY)
    list(reader.feed(b"--b0undary\r\n\r\n"))
    for _ in range(100):
        assert sum(len(event) for event in reader.feed(b"\r\n--b0un" * 1000) if isinstance(event, bytes))
        assert len(reader._buffer) < 16


@pytest.mark.parametrize(
    "data",
    [
        b"--b0undary\r\n" + b"A: " + b"a" * MAX_HEADER_BYTES,
        b"--b0undary" + b" " * 9000,
        b"--b0undaryX\r\n\r\n",
    ],
)
def test_headers_and_delimiters_have_a_form(data: bytes) -> None:
    with pytest.raises(MultipartError):
        read(data, [100])


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', b"abc"),
        ('Multipart/Related; boundary="a b:c"', b"a b:c"),
        ("multipart/related", None),
        ("application/dicom; boundary=abc", None),
        ('multipart/related; boundary="' + "a" * 71 + '"', None),
        ('multipart/related; boundary="a\r\nb"', None),
        ("", None),
    ],
)
def test_boundaries(text: str, boundary: bytes | None) -> None:
    if boundary is not None:
        assert boundary_of(text) == boundary
        return
    with pytest.raises(MultipartError):
        boundary_of(text)
