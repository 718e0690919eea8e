"""How many connections one address and one identity may have."""

import json
import socket
import ssl
import time

import pytest

from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def app(_environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]


@pytest.fixture
def dial(alice):
    """Open connections from an address of this machine, plain or TLS, that are closed when the test ends."""
    opened = []

    def connect(server, source="127.0.0.1", credential=alice, *, tls=True):
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(source, 0))
        opened.append(sock)
        if tls:
            sock = credential.client_context().wrap_socket(sock, server_hostname="localhost")
            opened.append(sock)
        return sock

    yield connect
    for sock in opened:
        sock.close()


@pytest.fixture(scope="session")
def bob(pki):
    return pki.proxy(pki.user("bob"))


def ask(sock):
    sock.sendall(GET)
    heard = b""
    while data := sock.recv(65536):
        heard += data
        if b"\r\n\r\n" in heard and heard.startswith(b"HTTP/1.1 200"):
            break
    return heard


def is_served(sock):
    return ask(sock).startswith(b"HTTP/1.1 200")


def eventually(condition, within_s=10.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_one_address_leaves_room_for_others(serve, dial):
    server = serve(app, limits=Limits(connections=10, connections_per_address=3))
    known = [dial(server) for _ in range(3)]
    assert all(map(is_served, known))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        dial(server)
    assert is_served(dial(server, "127.0.0.2"))
    assert all(map(is_served, known))
    known[0].close()
    eventually(lambda: len(server._connections) == 3)
    assert is_served(dial(server))


def test_of_a_full_address_the_oldest_silent_peer_makes_room_and_of_no_other(serve, dial):
    server = serve(app, limits=Limits(connections=10, connections_per_address=3, handshake_s=30.0))
    other = dial(server, "127.0.0.2", tls=False)
    silent = [dial(server, tls=False) for _ in range(3)]
    assert is_served(dial(server))
    assert silent[0].recv(1) == b""
    for sock in (other, silent[1]):
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_ipv4_and_ipv6_come_to_one_port_and_are_told_as_they_are(gate, alice):
    told = []

    def peer(environ, start_response):
        told.append(environ["srm_dicom.peer"])
        return app(environ, start_response)

    server = WebServer(peer, gate, host="::", port=0, name="both")
    server.start()
    try:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), timeout=10) as sock:
                assert is_served(alice.client_context().wrap_socket(sock, server_hostname="localhost"))
    finally:
        server.stop(0.5)
    assert told == ["127.0.0.1", "::1"]


def test_one_identity_leaves_room_for_others(serve, dial, bob):
    server = serve(app, limits=Limits(connections=10, connections_per_identity=2))
    known = [dial(server, f"127.0.0.{host}") for host in (1, 2)]
    assert all(map(is_served, known))
    head, _, body = ask(dial(server, "127.0.0.3")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"\r\nRetry-After: 30\r\n" in head
    assert json.loads(body)["error"] == "Overloaded"
    assert is_served(dial(server, credential=bob))
    assert all(map(is_served, known))
    known[0].close()
    eventually(lambda: len(server._connections) == 2)
    assert is_served(dial(server))


def test_who_is_beyond_the_bound_makes_room_for_others(serve, dial, bob):
    """Connections that got no place of their identity are as good as unknown."""
    server = serve(app, limits=Limits(connections=3, connections_per_identity=1, idle_s=30.0))
    known = dial(server)
    assert is_served(known)
    beyond = [dial(server) for _ in range(2)]
    assert is_served(dial(server, credential=bob))
    assert is_served(known)
    assert beyond[0].recv(1) == b""


def test_the_defaults_bear_what_a_site_sees_from_one_address_and_one_identity():
    limits = Limits()
    assert 620 < limits.connections_per_address < limits.connections
    assert 620 < limits.connections_per_identity < limits.connections
