"""Peers that want the HTTP server to fail: each gets a clean refusal or a close, and nobody else notices."""

import os
import resource
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from structlog.testing import capture_logs

from srm_dicom.client.http import HttpClient
from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

QUICK = Limits(handshake_s=1.0, head_s=1.0, idle_s=30.0, transfer_s=1.0, linger_s=0.5)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d bytes" % len(body)]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def alice(pki):
    return pki.proxy(pki.user("alice"))


@pytest.fixture
def serve(pki):
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    with ExitStack() as stack:

        def start(limits=QUICK, application=app):
            server = WebServer(application, gate, host="localhost", port=0, name="test", limits=limits)
            server.start()
            stack.callback(server.stop, 0.5)
            return server

        yield start


@pytest.fixture
def dial(alice):
    """Open connections, plain or TLS, that are closed when the test ends."""
    with ExitStack() as stack:

        def connect(server, *, tls=True):
            sock = socket.create_connection(("localhost", server.port), timeout=15)
            if tls:
                sock = alice.client_context().wrap_socket(sock, server_hostname="localhost")
            stack.callback(sock.close)
            return sock

        yield connect


def answer(sock):
    """Return all that comes until the server closes."""
    heard = b""
    try:
        while data := sock.recv(65536):
            heard += data
    except (ConnectionError, ssl.SSLError):
        pass
    return heard


def assert_still_serving(server, credential):
    client = HttpClient(f"https://localhost:{server.port}", credential, timeout_s=20)
    assert client.request("POST", "/", b"hello").body == b"5 bytes"
    client.close()


@pytest.mark.parametrize(
    "noise",
    [
        GET,
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 200,
        b"\x80\x2e\x01\x00\x02",
        os.urandom(4096),
        b"\0" * 100_000,
    ],
    ids=["http", "record", "endless record", "sslv2", "random", "zeros"],
)
def test_what_is_no_tls_is_closed(serve, dial, alice, noise):
    server = serve()
    sock = dial(server, tls=False)
    with capture_logs() as logs:
        with suppress(ConnectionError):
            sock.sendall(noise)
        assert b"HTTP/1.1 200" not in answer(sock)
        assert_still_serving(server, alice)
    assert not [line for line in logs if line["event"] == "connection_failed"]


def test_silence_ends_with_the_handshakes_deadline(serve, dial):
    started = time.monotonic()
    assert answer(dial(serve(), tls=False)) == b""
    assert 0.5 < time.monotonic() - started < 8


def test_a_handshake_byte_by_byte_has_one_deadline(serve, dial):
    sock = dial(serve(), tls=False)
    hello = client_hello()
    started = time.monotonic()
    with pytest.raises(ConnectionError):
        drip(sock, hello * 10)
    assert time.monotonic() - started < 8


def drip(sock, data):
    for byte in data:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("who", ["nobody", "stranger", "revoked", "expired"])
def test_who_is_refused_is_named_in_the_log_and_closed(serve, pki, tmp_path, who):
    server = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=str(pki.trust_dir))
    if who == "stranger":
        stranger = TestPki(tmp_path).user("eve")
        context.load_cert_chain(stranger.certificate, stranger.key)
    elif who == "revoked":
        revoked = pki.user("mallory")
        proxy = pki.proxy(revoked)
        pki.revoke(revoked)
        context.load_cert_chain(proxy.certificate, proxy.key)
    elif who == "expired":
        proxy = pki.proxy(pki.user("late"), lifetime_s=1)
        time.sleep(1.5)
        context.load_cert_chain(proxy.certificate, proxy.key)
    with capture_logs() as logs:
        heard = b""
        with socket.create_connection(("localhost", server.port), timeout=10) as sock:
            try:
                tls = context.wrap_socket(sock, server_hostname="localhost")
                tls.sendall(GET)
                heard = answer(tls)
            except (ConnectionError, ssl.SSLError):
                pass
        assert heard == b""
        assert wait_for(lambda: [line for line in logs if line["event"] == "connection_refused"])
    (refused,) = (line for line in logs if line["event"] == "connection_refused")
    expected = {
        "nobody": "peer did not return",
        "stranger": "issuer",
        "revoked": "revoked",
        "expired": "expired",
    }
    assert expected[who] in refused["reason"]


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(10_000)) + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n", b"400"),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\nExpect: 100-continue\r\n\r\n", b"413"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", b"400"),
    ],
)
def test_a_bad_request_is_refused_once_and_what_follows_it_is_not_read(
    serve, dial, alice, request_bytes, status
):
    server = serve()
    sock = dial(server)
    with suppress(ConnectionError, ssl.SSLError):
        sock.sendall(request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    heard = answer(sock)
    assert heard.startswith(b"HTTP/1.1 " + status), heard[:200]
    assert heard.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in heard
    assert_still_serving(server, alice)


@pytest.mark.parametrize("framing", ["length", "chunked", "endless chunks"])
def test_a_huge_body_is_refused_with_a_reason(serve, dial, alice, framing):
    server = serve(Limits(linger_s=10.0))
    sock = dial(server)
    piece = b"x" * 65536
    head = b"POST / HTTP/1.1\r\nHost: x\r\n"
    head += (
        b"Content-Length: 30000000\r\n\r\n" if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = (
        piece
        if framing == "length"
        else b"10000\r\n" + piece + b"\r\n"
        if framing == "chunked"
        else b"1\r\nx\r\n" * 8000
    )
    # One thread writes and hears: two would use one TLS connection at a time, which OpenSSL forbids.
    heard, unsent, until = b"", head + chunk, time.monotonic() + 15
    sock.setblocking(False)
    while not heard and time.monotonic() < until:
        select.select([sock], [sock] if unsent else [], [], 0.1)
        try:
            unsent = unsent[sock.send(unsent) :] or chunk
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (ConnectionError, ssl.SSLError):  # who goes on sending for ever is reset, and can still read
            unsent = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            heard = sock.recv(65536)
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert_still_serving(server, alice)


@pytest.mark.parametrize(
    "start",
    [b"", b"0", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"],
)
def test_who_drips_is_closed_after_one_deadline_for_the_whole(serve, dial, start):
    server = serve(Limits(handshake_s=1.0, head_s=1.0, idle_s=1.0, transfer_s=1.0, linger_s=0.2))
    sock = dial(server)
    sock.sendall(start)
    started = time.monotonic()
    with pytest.raises((ConnectionError, ssl.SSLError)):
        drip(sock, b"a" * 400)
    assert time.monotonic() - started < 10


def test_who_does_not_read_the_answer_is_closed(serve, dial, alice):
    stopped = threading.Event()

    def flood(environ, start_response):
        if environ["PATH_INFO"] != "/flood":
            return app(environ, start_response)
        start_response("200 OK", [])

        def pieces():
            try:
                for _ in range(2000):
                    yield b"x" * 65536
            finally:
                stopped.set()

        return pieces()

    server = serve(application=flood)
    sock = dial(server)
    sock.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stopped.wait(20)
    assert_still_serving(server, alice)


def test_a_peer_that_resets_in_the_middle_harms_nobody(serve, alice):
    server = serve()
    for cut in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf"):
        sock = socket.create_connection(("localhost", server.port), timeout=10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        tls = alice.client_context().wrap_socket(sock, server_hostname="localhost")
        tls.sendall(cut)
        tls.close()
    assert_still_serving(server, alice)
    assert wait_for(lambda: not server._connections)


def test_three_hundred_idle_connections_and_an_honest_one(serve, dial, alice):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    server = serve(Limits(handshake_s=30.0))
    idle = [dial(server, tls=False) for _ in range(250)]
    shaken = [dial(server) for _ in range(50)]
    for sock in shaken[::2]:
        sock.sendall(b"POST / HTTP/1.1\r\nHost:")
    assert_still_serving(server, alice)
    assert len(idle) + len(shaken) == 300


def test_the_oldest_unauthenticated_peer_makes_room(serve, dial, alice):
    server = serve(Limits(connections=20, handshake_s=30.0))
    silent = [dial(server, tls=False) for _ in range(40)]
    assert_still_serving(server, alice)
    silent[-1].settimeout(0.2)
    with pytest.raises(TimeoutError):
        silent[-1].recv(1)
    assert silent[0].recv(1) == b""


def test_beyond_the_bound_a_newcomer_is_turned_away_and_no_authenticated_peer_is(serve, dial, alice):
    server = serve(Limits(connections=5))
    known = [dial(server) for _ in range(5)]
    for sock in known:
        sock.sendall(GET)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    with pytest.raises((ConnectionError, ssl.SSLError)):
        dial(server)
    for sock in known:
        sock.sendall(GET)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_resumed_session_is_not_offered(serve, alice):
    server = serve()
    for maximum in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context, session, reused = alice.client_context(maximum=maximum), None, []
        for _ in range(3):
            with socket.create_connection(("localhost", server.port), timeout=10) as sock:
                tls = context.wrap_socket(sock, server_hostname="localhost", session=session)
                tls.sendall(GET)
                tls.recv(65536)
                reused.append(tls.session_reused)
                session = tls.session
                tls.close()
        assert reused == [False] * 3


def test_stop_while_many_are_in_every_state(serve, dial, alice):
    server = serve(Limits(handshake_s=30.0, head_s=30.0))
    for _ in range(20):
        dial(server, tls=False)
        dial(server)
        dial(server).sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nha")
        dial(server).sendall(b"GET / H")
    assert_still_serving(server, alice)
    started = time.monotonic()
    server.stop(1.0)
    assert time.monotonic() - started < 8
    assert wait_for(lambda: not server._connections)


@pytest.mark.interop
@pytest.mark.parametrize("program", ["curl", "davix-get"])
def test_real_https_clients_come_with_a_proxy(serve, pki, alice, program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    url = f"https://localhost:{serve().port}/x"
    proxy, trust = str(alice.certificate), str(pki.trust_dir)
    commands = {
        "curl": ["curl", "--silent", "--show-error", "--cert", proxy, "--capath", trust, url],
        "davix-get": ["davix-get", "--cert", proxy, "--capath", trust, url],
    }
    done = subprocess.run(commands[program], capture_output=True, timeout=60, check=False)
    assert done.stdout == b"0 bytes", done.stderr
