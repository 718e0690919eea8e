import socket
import ssl
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.web.server import WebServer


class ShiftedClock(SystemClock):
    """The machine's clock, `ahead` of itself."""

    ahead = timedelta(0)

    def now(self):
        return super().now() + self.ahead


class Line:
    """A TLS connection on which a test says what it likes."""

    def __init__(self, port, credential, maximum=ssl.TLSVersion.TLSv1_3):
        sock = socket.create_connection(("localhost", port), timeout=10)
        self.tls = credential.client_context(maximum=maximum).wrap_socket(sock, server_hostname="localhost")

    def say(self, data):
        """Send; a server that has closed meanwhile is heard as silence."""
        with suppress(ConnectionError, ssl.SSLError):
            self.tls.sendall(data)
        return self

    def hear(self, end=b"\r\n\r\n"):
        """Return what arrives up to `end`, or up to the end of the connection."""
        heard = b""
        while end not in heard:
            try:
                data = self.tls.recv(65536)
            except (ConnectionError, ssl.SSLError):
                break
            if not data:
                break
            heard += data
        return heard

    def hear_all(self):
        return self.hear(end=b"\0never\0")


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def alice(pki):
    return pki.proxy(pki.user("alice"))


@pytest.fixture(scope="session")
def gate(pki):
    return Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())


@pytest.fixture
def serve(gate):
    """Start servers that are stopped when the test ends."""
    with ExitStack() as stack:

        def start(app, **options):
            server = WebServer(app, gate, host="localhost", port=0, name="test", **options)
            server.start()
            stack.callback(server.stop, 0.5)
            return server

        yield start


@pytest.fixture
def line(alice):
    """Open raw connections that are closed when the test ends."""
    with ExitStack() as stack:

        def connect(server, credential=alice, **options):
            opened = Line(server.port, credential, **options)
            stack.callback(opened.tls.close)
            return opened

        yield connect


@pytest.fixture
def clock():
    return ShiftedClock()
