"""The line protocol: both halves against each other, whatever the pieces, and whatever the bytes."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import CatalogueUnavailable, InvalidRequest, MdmError, TooLarge
from srm_dicom.wire import amga

LINES = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=30)
WORDS = st.tuples(st.sampled_from(["find", "put"]), st.lists(LINES, max_size=6))


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(WORDS, max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_a_server_reads_what_a_client_says(commands: list[tuple[str, list[str]]], cuts: list[int]) -> None:
    said = [[verb, *words] for verb, words in commands]
    data = amga.choice("plain") + amga.login("somebody") + b"".join(map(amga.command, said))
    server, events = amga.ServerConnection(), []
    for piece in in_pieces(data, cuts):
        server.receive(piece)
        while (event := server.next_event()) is not None:
            events.append(event)
    assert events[:2] == [amga.Choice("plain"), amga.Login()]
    assert events[2:] == [amga.Command(tuple(words)) for words in said]
    assert server.unread_bytes == 0


@given(
    st.lists(st.tuples(st.sampled_from(amga.Code), LINES, st.lists(LINES, max_size=5)), max_size=4),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_a_client_reads_what_a_server_says(
    answers: list[tuple[amga.Code, str, list[str]]], cuts: list[int]
) -> None:
    data = b"".join(amga.reply(*answer) for answer in answers)
    client, replies = amga.ClientConnection(), []
    for piece in in_pieces(data, cuts):
        client.receive(piece)
        while (answer := client.reply()) is not None:
            replies.append(answer)
    expected = [(code.value, text.rstrip(), tuple(rows)) for code, text, rows in answers]
    assert [(one.code, one.text.rstrip(), one.rows) for one in replies] == expected


@given(st.binary(max_size=300))
def test_a_server_survives_any_bytes(data: bytes) -> None:
    server = amga.ServerConnection(max_line_bytes=100)
    server.receive(b"plain\n\n0 x\n\n" + data)
    with suppress(MdmError):
        while server.next_event() is not None:
            pass


@given(st.binary(max_size=300))
def test_a_client_survives_any_bytes(data: bytes) -> None:
    client = amga.ClientConnection()
    client.receive(data)
    for ask in (client.greeting, client.reply):
        with suppress(MdmError):
            ask()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dir", ["dir"]),
        ("  dir \t /a  ", ["dir", "/a"]),
        (r"put x 'it\'s' '' 'a b'", ["put", "x", "it's", "", "a b"]),
        (r"put x 'ORIGINAL\PRIMARY' a\b", ["put", "x", r"ORIGINAL\PRIMARY", r"a\b"]),
        (r"put x 'a\\'", ["put", "x", "a\\"]),
        ('find /a like(/a:x,"1")', ["find", "/a", 'like(/a:x,"1")']),
        ("put x a'b c'd", ["put", "x", "ab cd"]),
        ("", []),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert amga.split_words(line) == words


def test_an_open_quote_is_refused_and_the_next_line_is_read() -> None:
    server = amga.ServerConnection()
    server.receive(b"plain\n\n0 x\n\nput 'x\npwd\n")
    server.next_event(), server.next_event()
    with pytest.raises(InvalidRequest):
        server.next_event()
    assert server.next_event() == amga.Command(("pwd",))


def test_a_line_has_an_end() -> None:
    server = amga.ServerConnection(max_line_bytes=1000)
    server.receive(b"x" * 5000)
    with pytest.raises(TooLarge):
        server.next_event()


def test_a_row_that_could_end_a_reply_is_not_sent() -> None:
    for value in ("a\nb", "a\x04", "a\x18"):
        with pytest.raises(MdmError):
            amga.reply(amga.Code.OK, rows=[value])
        with pytest.raises(InvalidRequest):
            amga.command(["put", value])


def test_another_protocol_is_refused() -> None:
    client = amga.ClientConnection()
    client.receive(b"220 ready\nProtocol 1\nssl\n")
    with pytest.raises(CatalogueUnavailable):
        client.greeting()
