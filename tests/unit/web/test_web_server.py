import json
import ssl
import threading
import time
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from srm_dicom.errors import NotFound, TooLarge
from srm_dicom.testing import certificates as made
from srm_dicom.web.limits import Limits

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def echo(environ, start_response):
    """Answer with the environment and the body."""
    body = environ["wsgi.input"].read()
    told = {key: value for key, value in environ.items() if isinstance(value, str)}
    principal = environ["srm_dicom.principal"]
    told |= {
        "dn": principal.dn,
        "body": body.decode("latin-1"),
        "delegated": str(environ["srm_dicom.delegated"]),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def told(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("opening", [b"", b"0"])
@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_https_and_httpg_share_a_port(serve, line, opening, maximum):
    server = serve(echo, maximum_tls=maximum)
    connection = line(server)
    if opening:
        connection.say(opening)
    variables = told(connection.say(GET).hear(b"}"))
    assert variables["dn"] == "/DC=test/DC=mdm/CN=alice"
    assert variables["srm_dicom.peer"] in ("127.0.0.1", "::1")
    assert (
        connection.tls.version()
        == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[maximum]
    )


def test_delete_is_not_taken_for_a_delegation(serve, line):
    answer = line(serve(echo)).say(b"DELETE /x HTTP/1.1\r\nHost: x\r\n\r\n").hear(b"}")
    assert told(answer)["REQUEST_METHOD"] == "DELETE"


def test_a_delegated_credential_reaches_the_application(serve, line, pki, alice):
    connection = line(serve(echo)).say(b"D")
    request = x509.load_der_x509_csr(connection.tls.recv(65536))
    leaf = x509.load_pem_x509_certificate(alice.certificate.read_bytes())
    key = load_pem_private_key(alice.key.read_bytes(), None)
    proxy = made.proxy_certificate(leaf, key, request.public_key())
    der = proxy.public_bytes(made.serialization.Encoding.DER)
    connection.say(der[:100]).say(der[100:])  # in two records
    assert "DelegatedCredential" in told(connection.say(GET).hear(b"}"))["delegated"]


def test_a_delegation_of_somebody_elses_making_ends_the_connection(serve, line):
    connection = line(serve(echo)).say(b"D")
    connection.tls.recv(65536)
    assert connection.say(b"\x30\x03\x02\x01\x00").hear_all() == b""


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"httpg://localhost:8446/srm/managerv2", "/srm/managerv2", ""),
        (b"/a%2Db%20c?x=%20&y", "/a-b c", "x=%20&y"),
    ],
)
def test_targets_become_path_and_query(serve, line, target, path, query):
    variables = told(
        line(serve(echo))
        .say(b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .hear(b"}")
    )
    assert (variables["PATH_INFO"], variables["QUERY_STRING"]) == (path, query)


def test_identity_comes_from_no_header(serve, line):
    forged = (
        b"SSL-CLIENT-S-DN: /CN=root\r\nSSL_CLIENT_S_DN: /CN=root\r\nX-SSL-Client-DN: /CN=root\r\n"
        b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nRemote-User: root\r\nProxy: http://evil\r\n"
        b"srm_dicom.principal: root\r\nX-Remote-User: root\r\n"
    )
    variables = told(
        line(serve(echo))
        .say(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\n" + forged + b"\r\n")
        .hear(b"}")
    )
    assert variables["HTTP_ACCEPT"] == "a,b"
    assert "root" not in str(variables)
    assert "1.2.3.4" not in str(variables)
    assert "evil" not in str(variables)


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(serve, line):
    first = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
    second = (
        b"POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n"
    )
    last = b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    heard = line(serve(echo)).say(first + second + last).hear_all().decode()
    assert [heard.index(f'"PATH_INFO": "/{n}"') for n in (1, 2, 3)] == sorted(
        heard.index(f'"PATH_INFO": "/{n}"') for n in (1, 2, 3)
    )
    assert '"body": "one"' in heard
    assert '"body": "two"' in heard


def test_head_has_the_length_and_no_body(serve, line):
    heard = line(serve(echo)).say(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").hear_all()
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert body == b""


def test_an_http_1_0_client_is_served_and_left(serve, line):
    heard = line(serve(echo)).say(b"GET / HTTP/1.0\r\n\r\n").hear_all()
    assert told(heard)["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_who_expects_100_continue_gets_it_before_the_body(serve, line):
    connection = line(serve(echo))
    connection.say(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert connection.hear().startswith(b"HTTP/1.1 100 ")
    assert told(connection.say(b"ok").hear(b"}"))["body"] == "ok"


def test_a_streamed_answer_of_unknown_length_is_chunked(serve, line):
    def app(_environ, start_response):
        start_response("200 OK", [])
        yield b"a" * 70_000
        yield b""
        yield b"b"

    heard = line(serve(app)).say(GET).hear(b"0\r\n\r\n")
    assert heard.count(b"a") >= 70_000
    assert b"Transfer-Encoding: chunked" in heard


def test_errors_of_the_tree_become_problems(serve, line):
    def app(_environ, _start_response):
        raise NotFound("no such thing")

    heard = line(serve(app)).say(GET).hear_all()
    assert heard.startswith(b"HTTP/1.1 404 ")
    assert told(heard)["detail"] == "no such thing"


@pytest.mark.parametrize("late", [False, True])
def test_a_defect_tells_an_id_and_nothing_else(serve, line, late):
    def app(environ, start_response):
        if late:
            start_response("200 OK", [])
        raise KeyError(environ["PATH_INFO"])

    heard = line(serve(app)).say(b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n").hear_all()
    assert heard.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in heard
    assert b"KeyError" not in heard


def test_an_answer_that_breaks_off_is_not_completed(serve, line):
    def app(_environ, start_response):
        start_response("200 OK", [])
        yield b"half"
        raise TooLarge("too much")

    heard = line(serve(app)).say(GET).hear_all()
    assert heard.endswith(b"half\r\n")  # a chunk, and no last chunk


def test_the_result_is_closed(serve, line):
    closed = threading.Event()

    class Result(list):
        close = staticmethod(closed.set)

    def app(_environ, start_response):
        start_response("204 No Content", [])
        return Result()

    heard = line(serve(app)).say(GET).hear()
    assert b"204" in heard
    assert b"ontent-Length" not in heard
    assert closed.wait(5)


def test_an_unread_body_is_forgotten_if_small_and_ends_the_connection_if_large(serve, line):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    server = serve(app, limits=Limits(drain_bytes=10_000))
    small = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + bytes(100)
    assert line(server).say(small + GET).hear(b"\r\n\r\n/1").count(b"HTTP/1.1 200") >= 1
    large = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000)
    assert line(server).say(large).hear_all().count(b"HTTP/1.1") == 1


def test_a_session_ends_with_its_credential(serve, line, clock):
    server = serve(echo, clock=clock)
    connection = line(server)
    assert b"200 OK" in connection.say(GET).hear(b"}")
    clock.ahead = timedelta(days=1)
    heard = connection.say(GET).hear_all()
    assert heard.startswith(b"HTTP/1.1 401 ") or not heard, "told, or hung up on while it was idle"


def test_an_idle_session_ends_when_its_credential_does(serve, line, pki):
    short = pki.proxy(pki.user("bob"), lifetime_s=2)
    connection = line(serve(echo), short)
    assert b"200 OK" in connection.say(GET).hear(b"}")
    assert connection.hear_all() == b""


def test_stop_lets_an_exchange_end_and_closes_idle_connections(serve, line):
    entered, release = threading.Event(), threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            entered.set()
            release.wait(10)
        start_response("200 OK", [])
        return [b"done"]

    server = serve(app)
    idle, busy = line(server), line(server)
    idle.say(GET).hear(b"done")
    busy.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    assert entered.wait(5)
    stopping = threading.Thread(target=server.stop, args=(10.0,))
    stopping.start()
    assert idle.hear_all() == b""
    release.set()
    assert busy.hear_all().endswith(b"done")
    stopping.join(5)
    assert not stopping.is_alive()
    with pytest.raises(ConnectionRefusedError):
        line(server)


def test_stop_cuts_off_what_does_not_end(serve, line):
    release = threading.Event()

    def app(_environ, start_response):
        release.wait(20)
        start_response("200 OK", [])
        return []

    server = serve(app)
    connection = line(server).say(GET)
    time.sleep(0.1)
    started = time.monotonic()
    server.stop(0.3)
    assert time.monotonic() - started < 5
    assert connection.hear_all() == b""
    release.set()
