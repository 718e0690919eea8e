"""A whole answer is read as h11 reads it, or left to h11."""

import random

import h11
import pytest

from srm_dicom.client import whole

MAX = 1000
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: 4\r\n"
    b"Date: Sun, 29 Nov 2026 03:00:00 GMT\r\n\r\n<a/>"
)


def by_h11(data):
    """Return headers and body as h11 has them, and whether the connection is as new then."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    head, body = http.next_event(), b""
    assert isinstance(head, h11.Response)
    assert head.status_code == 200
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    http.start_next_cycle()
    assert http.trailing_data == (b"", False)
    return tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers), body


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 Well done\r\nX-A: b \r\nContent-Length: 2  \r\nX-A: c\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 002\r\nA: a:b, c\r\n\r\n\0\xff",
    ],
)
def test_a_plain_answer_is_read_as_h11_reads_it(answer):
    assert whole.read(answer, MAX) == by_h11(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        ANSWER[:-1],
        ANSWER + b" ",
        ANSWER.replace(b"200", b"500"),
        ANSWER.replace(b"200", b"204"),
        ANSWER.replace(b"1.1", b"1.0"),
        ANSWER.replace(b"Length: 4", b"Length: +4"),
        ANSWER.replace(b"Length: 4", b"Length: 4, 4"),
        ANSWER.replace(b"Length: 4", b"Length: 4\r\nContent-Length: 4"),
        ANSWER.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        ANSWER.replace(b"Date", b"Transfer-Encoding: identity\r\nDate"),
        ANSWER.replace(b"Date", b"CONNECTION: close\r\nDate"),
        ANSWER.replace(b"Date: ", b"Date : "),
        ANSWER.replace(b"Date: ", b"Date:\t"),
        ANSWER.replace(b"Date: ", b"Date: \xe9"),
        ANSWER.replace(b"\r\nDate", b"\r\n Date"),
        ANSWER.replace(b"\r\n", b"\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001,
    ],
)
def test_what_is_not_plain_is_left_to_h11(answer):
    assert whole.read(answer, MAX) is None


def test_whatever_is_read_of_a_damaged_answer_h11_reads_too():
    dice = random.Random(20260301)
    read = 0
    for _ in range(20_000):
        data = bytearray(ANSWER)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data))
            some = dice.choices(b"\r\n :-,4aC\t\0\xff", k=dice.randint(0, 2))
            data[at : at + dice.randint(0, 1)] = bytes(some)
        found = whole.read(bytes(data), MAX)
        if found is not None:
            read += 1
            assert found == by_h11(bytes(data))
    assert read > 1000
