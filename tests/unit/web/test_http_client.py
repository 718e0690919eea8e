import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from srm_dicom.client.http import HttpClient
from srm_dicom.errors import (
    CatalogueUnavailable,
    InvalidRequest,
    KeyServerUnavailable,
    NotAuthenticated,
    NotFound,
    TooLarge,
)
from srm_dicom.testing.pki import TestPki


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/missing":
        raise NotFound("not here")
    start_response("200 OK", [("X-Way", environ["REQUEST_METHOD"])])
    return [environ["HTTP_HOST"].encode(), b" ", body]


@contextmanager
def scripted(pki, *answers):
    """Serve TLS connections one after the other, answering the n-th request of all with the n-th answer.

    None closes the connection without an answer.
    """
    host = pki.host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.certificate, host.key)
    listener = socket.create_server(("localhost", 0))
    listener.settimeout(10)
    requests = []

    def run():
        left = list(answers)
        while left:
            try:
                tls = context.wrap_socket(listener.accept()[0], server_side=True)
            except OSError:
                return
            with tls:
                while left and (data := tls.recv(65536)):
                    requests.append(data)
                    answer = left.pop(0)
                    if answer is None:
                        break
                    tls.sendall(answer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"https://localhost:{listener.getsockname()[1]}", requests
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("scheme", ["https", "httpg"])
def test_one_connection_serves_many_requests(serve, alice, scheme):
    server = serve(app)
    client = HttpClient(f"{scheme}://localhost:{server.port}", alice)
    local = set()
    for _ in range(3):
        answer = client.request("POST", "/x", b"body" * 10_000)
        assert (answer.status, answer.header("x-way")) == (200, "POST")
        assert answer.body == f"localhost:{server.port} ".encode() + b"body" * 10_000
        local.add(client._connection._socket.getsockname())
    assert len(local) == 1
    client.close()


def test_a_problem_is_raised_as_what_it_was(serve, alice):
    client = HttpClient(f"https://localhost:{serve(app).port}", alice)
    with pytest.raises(NotFound, match="not here"):
        client.request("GET", "/missing").raise_for_problem()


def test_a_large_body_is_streamed_to_its_taker(serve, alice):
    client = HttpClient(f"https://localhost:{serve(app).port}", alice, max_answer_bytes=1000)
    pieces = []
    assert client.request("POST", "/", b"x" * 100_000, into=pieces.append).body == b""
    assert b"".join(pieces).count(b"x") == 100_000
    with pytest.raises(TooLarge):
        client.request("POST", "/", b"x" * 100_000)
    assert client.request("GET", "/").status == 200


def test_a_connection_that_was_closed_meanwhile_is_noticed_before_the_request(pki, alice):
    with scripted(pki, OK + b"", None, OK) as (url, requests):
        client = HttpClient(url, alice)
        client.request("GET", "/1")
        with pytest.raises(CatalogueUnavailable, match="without an answer"):
            client.request("POST", "/2", b"once")
        assert client.request("POST", "/3", b"new").body == b"ok"
    assert len(requests) == 3


def test_what_may_be_repeated_is_sent_once_more(pki, alice):
    with scripted(pki, OK, None, OK) as (url, requests):
        client = HttpClient(url, alice)
        client.request("GET", "/1")
        assert client.request("POST", "/2", b"x", repeatable=True).body == b"ok"
    assert [data.split()[1] for data in requests] == [b"/1", b"/2", b"/2"]


def test_it_is_not_sent_a_third_time(pki, alice):
    with scripted(pki, OK, None, None, OK) as (url, requests):
        client = HttpClient(url, alice, unavailable=KeyServerUnavailable)
        client.request("GET", "/1")
        with pytest.raises(KeyServerUnavailable):
            client.request("GET", "/2")
    assert len(requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2",
    ],
)
def test_half_an_answer_is_none_and_is_not_asked_for_again(pki, alice, answer):
    with scripted(pki, answer, None, OK) as (url, requests):
        client = HttpClient(url, alice, timeout_s=0.5)
        with pytest.raises(CatalogueUnavailable):
            client.request("GET", "/")
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("answer", "status", "kept"),
    [
        (OK, 200, True),
        (OK.replace(b"200 OK", b"500 No"), 500, True),
        (OK.replace(b"OK", b"OK\r\nConnection: close"), 200, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, True),
    ],
)
def test_a_request_is_begun_and_its_answer_is_taken_later(pki, alice, answer, status, kept):
    with scripted(pki, OK, answer, OK, OK) as (url, requests):
        client = HttpClient(url, alice)
        assert client.start("POST", "/0") is None
        client.request("GET", "/1")
        taken = client.start("POST", "/2", b"body").wait(5)
        assert (taken.status, taken.body) == (status, b"ok")
        again = client.start("POST", "/3", b"more")
        assert (again is not None) == kept
        if again is not None:
            assert again.wait(5).body == b"ok"
            assert client.request("POST", "/4", b"last").body == b"ok"
        heads = [data.partition(b"\r\n\r\n")[0].lower() for data in requests[1:]]
        assert [head.count(b"content-length: 4") for head in heads] == [1] * len(heads)


def test_what_is_taken_is_bounded(pki, alice):
    with scripted(pki, OK, OK) as (url, _):
        client = HttpClient(url, alice, max_answer_bytes=2)
        client.request("GET", "/1")
        client._connection._max_answer_bytes = 1
        with pytest.raises(TooLarge):
            client.start("POST", "/2", b"body").wait(5)


@pytest.mark.parametrize("answer", [OK[:-1], OK[:9], b"SSH-2.0-OpenSSH\r\n\r\n", OK.replace(b"2\r", b"-2\r")])
def test_half_an_answer_is_not_taken(pki, alice, answer):
    with scripted(pki, OK, answer, None) as (url, _):
        client = HttpClient(url, alice, timeout_s=0.5)
        client.request("GET", "/1")
        with pytest.raises(CatalogueUnavailable):
            client.start("POST", "/2", b"body").wait(0.5)


def test_an_answer_is_taken_in_its_pieces(pki, alice):
    with scripted(pki, OK, OK[:30], OK[30:]) as (url, _):
        client = HttpClient(url, alice)
        client.request("GET", "/1")
        begun = client.start("POST", "/2", b"body")
        threading.Timer(0.2, lambda: client._connection._socket.send(b"x")).start()
        assert begun.wait(5).body == b"ok"


def test_a_silent_server_has_its_time(alice):
    with socket.create_server(("localhost", 0)) as listener:
        client = HttpClient(f"https://localhost:{listener.getsockname()[1]}", alice, timeout_s=0.2)
        with pytest.raises(CatalogueUnavailable, match="did not answer"):
            client.request("GET", "/")


def test_a_server_that_is_not_there(alice):
    with socket.create_server(("localhost", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CatalogueUnavailable, match="cannot be reached"):
        HttpClient(f"https://localhost:{port}", alice).request("GET", "/")


def test_a_server_of_an_untrusted_authority_is_refused(serve, alice, tmp_path):
    stranger = TestPki(tmp_path)
    with pytest.raises(CatalogueUnavailable, match="not who it should be"):
        HttpClient(f"https://localhost:{serve(app).port}", replace(alice, trust=stranger.trust_dir)).request(
            "GET", "/"
        )


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_refused_credential_is_told_apart(serve, pki, tmp_path, maximum):
    stranger = replace(TestPki(tmp_path).user("eve"), trust=pki.trust_dir)
    server = serve(app, maximum_tls=maximum)
    with pytest.raises(NotAuthenticated, match="unknown ca"):
        HttpClient(f"https://localhost:{server.port}", stranger).request("GET", "/")


@pytest.mark.parametrize("url", ["http://h", "srm://h:1", "https://", "https://h:x", "nonsense"])
def test_other_urls_are_refused(alice, url):
    with pytest.raises(InvalidRequest):
        HttpClient(url, alice)


def test_a_target_with_a_blank_is_refused_here(serve, alice):
    with pytest.raises(InvalidRequest):
        HttpClient(f"https://localhost:{serve(app).port}", alice).request("GET", "/a b\r\nX: y")
