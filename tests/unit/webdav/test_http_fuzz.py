"""Anything that a client may send to the HTTPS door: it is answered as the standard says, or refused."""

import email.parser
import re
import string
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus

import h11
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest, NotSupported, TooLarge
from srm_dicom.identity.principal import Principal
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.body import RequestBody
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.limits import Limits
from srm_dicom.web.stream import PeerGone
from srm_dicom.wire.dav.thirdparty import MAX_HEADERS, Copy, failure
from srm_dicom.wire.tape import BASE, Paths, Stage, call_of, read

CONTENT = bytes(range(256)) * 13
TAG = f'"{zlib.adler32(CONTENT):08x}-{len(CONTENT)}"'
ALICE = Principal("/CN=Alice", (), limited=False, expires=datetime.max.replace(tzinfo=UTC))
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- bodies


class Script:
    """A stream that has just these bytes, in these pieces."""

    def __init__(self, pieces):
        self.pieces = list(pieces)
        self.sent = b""

    def receive(self, _budget):
        return self.pieces.pop(0) if self.pieces else b""

    def send(self, data, _budget):
        self.sent += bytes(data)


def body_of(head, pieces, limit_bytes=10_000):
    """Return the body of a request whose head has been read, as the server makes it."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(head)
    assert isinstance(http.next_event(), h11.Request)
    return RequestBody(http, Script(pieces), Limits(body_bytes=limit_bytes), None)


CHUNKED = b"PUT /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def cut(data, places):
    bounds = sorted({min(place, len(data)) for place in places} - {0})
    pairs = zip([0, *bounds], [*bounds, len(data)], strict=True)
    return [data[start:end] for start, end in pairs if start < end]


@given(
    st.lists(st.binary(min_size=1, max_size=200), max_size=20),
    st.lists(st.integers(0, 5000), max_size=20),
    st.sampled_from([b"", b";name=value", b';a;b="c"']),
    st.sampled_from([b"", b"X-Trailer: yes\r\n"]),
)
@FUZZ
def test_a_chunked_body_is_its_chunks_however_it_is_cut(chunks, places, extension, trailer):
    wire = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    wire += b"0\r\n" + trailer + b"\r\n"
    body = body_of(CHUNKED, cut(wire, places))
    assert body.read() == b"".join(chunks)
    assert body.read(1) == b""


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
@FUZZ
def test_any_bytes_are_chunks_or_refused(wire, places):
    body = body_of(CHUNKED, cut(wire, places))
    with suppress(InvalidRequest, TooLarge, PeerGone):
        body.read()


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=5), st.data())
@FUZZ
def test_a_chunked_body_with_one_wrong_byte_ends(content, places, data):
    wire = bytearray(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n")
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    body = body_of(CHUNKED, cut(bytes(wire), places))
    with suppress(InvalidRequest, TooLarge, PeerGone):
        assert len(body.read()) <= len(wire)


@given(st.integers(1, 3000), st.integers(1, 50))
@FUZZ
def test_a_chunked_body_beyond_the_bound_is_refused_before_it_is_there(size_bytes, limit_bytes):
    body = body_of(CHUNKED, [b"%x\r\n%s\r\n" % (size_bytes, bytes(size_bytes)), b"0\r\n\r\n"], limit_bytes)
    if size_bytes <= limit_bytes:
        assert len(body.read()) == size_bytes
    else:
        with pytest.raises(TooLarge):
            body.read()


# --- ranges, against what the standard says of them


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "file").write_bytes(CONTENT)
    files = DirectoryFiles(root)
    return WebDavDoor(files, boundary=lambda: "b0undary", more=Writes(files, files).handlers)


def ask(door, method="GET", path="/file", body=None, **headers):
    """Call the door as the server does; return status, headers and body."""
    told = []
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", PRINCIPAL: ALICE,
        "wsgi.input": body, **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
    }  # fmt: skip
    answer = door(environ, lambda status, fields, *_: told.append((int(status.split()[0]), dict(fields))))
    try:
        content = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    status, fields = told[-1]
    return status, fields, content


NUMBER = st.one_of(st.integers(0, 2 * len(CONTENT)), st.integers(0, 10**19)).map(str)
SPECIFIED = st.one_of(
    st.builds("{}-{}".format, NUMBER, NUMBER), NUMBER.map("{}-".format), NUMBER.map("-{}".format)
)
RANGE = st.one_of(
    st.lists(SPECIFIED, min_size=1, max_size=8).map(lambda parts: "bytes=" + ",".join(parts)),
    st.text(string.printable, max_size=30).map("bytes={}".format),
    st.text(string.printable, max_size=30),
)


@given(RANGE, st.sampled_from([None, TAG, '"other"', "nonsense"]))
@FUZZ
def test_what_is_sent_for_any_range_are_just_these_bytes(door, wanted, if_range):
    headers = {"range": wanted} | ({} if if_range is None else {"if_range": if_range})
    status, fields, body = ask(door, **headers)
    if status == HTTPStatus.OK:
        assert body == CONTENT
    elif status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        assert fields["Content-Range"] == f"bytes */{len(CONTENT)}"
    else:
        assert status == HTTPStatus.PARTIAL_CONTENT
        assert if_range in (None, TAG)
        assert int(fields["Content-Length"]) == len(body)
        for told, part in parts_of(fields, body):
            start, end = map(int, re.fullmatch(rf"bytes (\d+)-(\d+)/{len(CONTENT)}", told).groups())
            assert part == CONTENT[start : end + 1]


def parts_of(fields, body):
    if not fields["Content-Type"].startswith("multipart/byteranges"):
        return [(fields["Content-Range"], body)]
    head = f"Content-Type: {fields['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser().parsebytes(head + body)
    assert len(message.get_payload()) > 1
    found, at = [], 0
    for part in message.get_payload():
        start, end = map(int, re.match(r"bytes (\d+)-(\d+)/", part["Content-Range"]).groups())
        at = body.index(part["Content-Range"].encode() + b"\r\n\r\n", at) + len(part["Content-Range"]) + 4
        found.append((part["Content-Range"], body[at : at + end - start + 1]))
    return found


@given(st.text(max_size=40))
@FUZZ
def test_any_path_is_answered(door, path):
    status, _, _ = ask(door, path="/" + path)
    assert 200 <= status < 500


# --- the Tape REST API

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(
            st.one_of(st.sampled_from(["files", "paths", "path", "diskLifetime"]), st.text(max_size=5)),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@given(st.one_of(JSON.map(msgspec.json.encode), st.binary(max_size=100)))
@FUZZ
def test_any_body_is_a_request_of_the_tape_api_or_refused(body):
    for kind in (Stage, Paths):
        with suppress(InvalidRequest):
            message = read(body, kind)
            if kind is Stage:
                assert message.lifetime_s is None or message.lifetime_s >= 0


DURATION = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"-?P([0-9]{1,25}[YMWD])*(T([0-9]{1,25}[HMS])*)?", fullmatch=True),
    st.from_regex(r"P[0-9]{1,400}D", fullmatch=True),
)


@given(st.lists(DURATION, max_size=4))
@FUZZ
def test_any_lifetime_is_seconds_or_left_to_the_site(durations):
    files = [{"path": "/f", "diskLifetime": one} for one in durations]
    asked = read(msgspec.json.encode({"files": files}), Stage).lifetime_s
    assert asked is None or asked >= 0


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.text(max_size=30))
@FUZZ
def test_any_path_is_a_call_or_none(method, rest):
    found = call_of(method, BASE + "/" + rest)
    if found is not None:
        call, token = found
        assert "/" not in token
        assert bool(token) == ("{id}" in call.path)


# --- COPY

TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)


def environ_of(fields):
    """Return headers as the server hands them on: of one name the values are joined."""
    environ = {}
    for name, value in fields:
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(["Source", "Destination", "Credential", "Overwrite"]),
                TOKEN.map("TransferHeader{}".format),
                st.sampled_from(["Host", "Transfer-Encoding", "Range", "TE"]).map("TransferHeader{}".format),
                TOKEN,
            ),
            VALUE,
        ),
        max_size=40,
    )
)
@FUZZ
def test_any_headers_are_a_copy_or_refused(fields):
    try:
        copy = Copy.read(environ_of(fields))
    except (InvalidRequest, NotSupported):
        return
    assert len(copy.headers) <= MAX_HEADERS
    names = [name.lower() for name, _ in copy.headers]
    assert not {"host", "transfer-encoding", "range", "te", "expect", "content-length"} & set(names)
    client = h11.Connection(h11.CLIENT)
    with suppress(h11.LocalProtocolError):  # what cannot be said is not said
        head = h11.Request(method="GET", target="/f", headers=[("Host", "there"), *copy.headers])
        server = h11.Connection(h11.SERVER)
        server.receive_data(client.send(head) + client.send(h11.EndOfMessage()))
        request = server.next_event()
        assert request.target == b"/f"
        assert len(request.headers) == 1 + len(copy.headers)
        assert isinstance(server.next_event(), h11.EndOfMessage)


@given(st.text(max_size=100))
@FUZZ
def test_the_reason_of_a_failure_is_one_line(reason):
    line = failure(reason)
    assert line.startswith(b"failure: ")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert not set(line[:-1]) & set(b"\r\n\x0b\x0c")
