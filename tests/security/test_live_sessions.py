"""Who is revoked or banned does not stay: at every door, idle or busy, without a restart.

The pace at which sessions ask again is made quick here; the sum of the real paces is checked too.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdm_metadata.server import MetadataServer
from mdm_metadata.settings import MetadataSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.ftp_session import Session, Timeouts, Turl
from srm_dicom.clock import SystemClock
from srm_dicom.daemon import catalogues, outer
from srm_dicom.demo.site import DemoSite
from srm_dicom.identity import gate as gate_module
from srm_dicom.identity import watch
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.web.hosting import Service
from srm_dicom.web.server import WebServer

GREETING = b"srm-dicom metadata server\nProtocol 2\nssl\n"
WITHIN_S = 10.0


def test_the_paces_add_up_to_less_than_a_minute() -> None:
    look_at_directory_s = 1.0
    assert watch.LOOK_EVERY_S + look_at_directory_s + gate_module._CRLS_AGAIN_S < 60


@dataclass
class Site:
    """Three doors over one gate."""

    pki: TestPki
    gate: Gate
    bans: Path
    web: WebServer
    gridftp: GridFtpDoor
    metadata: MetadataServer

    def revoke(self, user: Credential) -> None:
        self.pki.revoke(user)

    def ban(self, user: Credential) -> None:
        self.bans.write_text(f'"{self.pki.dn(user)}"\n')


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return endless() if environ["PATH_INFO"] == "/endless" else [b"x"]


def endless() -> Iterator[bytes]:
    while True:
        time.sleep(0.02)
        yield b"x" * 1000


BACK_ENDS = ["ssl", pytest.param("m2crypto", marks=pytest.mark.interop("python:M2Crypto"))]


@pytest.fixture(params=BACK_ENDS)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Site]:
    for name in (
        "srm_dicom.identity.watch",
        "srm_dicom.web.session",
        "srm_dicom.transfer.control",
        "mdm_metadata.connection",
    ):
        monkeypatch.setattr(f"{name}.LOOK_EVERY_S", 0.3)
    clock, pki, bans = SystemClock(), TestPki(tmp_path / "pki", fast=True), tmp_path / "bans"
    bans.write_text("")
    gate = Gate(TrustSettings(pki.trust_dir, ban_file=bans, tls=request.param), pki.host(), clock)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(bytes(64 * 1024 * 1024))
    audit = AuditLog(tmp_path / "audit", "metadata", "here", clock)
    web = WebServer(application, gate, host="localhost", port=0, name="test")
    door = GridFtpDoor(
        DirectoryFiles(tmp_path / "root"), gate, GridFtpSettings(port=0, data_ports=(0, 0)), clock
    )
    settings = MetadataSettings(database=f"sqlite:///{tmp_path}/m.db", port=0, host="localhost")
    metadata = MetadataServer(settings, gate, audit, clock)
    for server in (web, door, metadata):
        server.start()
    yield Site(pki, gate, bans, web, door, metadata)
    web.stop(0.5)
    door.stop(0.5)
    metadata.stop()
    audit.close()


def tls_to(port: int, credential: Credential, greeting: bytes = b"", opening: bytes = b"") -> ssl.SSLSocket:
    sock = socket.create_connection(("localhost", port), timeout=WITHIN_S)
    if greeting:
        heard = b""
        while len(heard) < len(greeting):
            heard += sock.recv(len(greeting) - len(heard))
        sock.sendall(opening)
        assert sock.recv(3) == b"OK\n"
    return credential.client_context().wrap_socket(sock, server_hostname="localhost")


def idle_https(site: Site, credential: Credential) -> Callable[[], object]:
    return asked(site, credential, "/")


def busy_https(site: Site, credential: Credential) -> Callable[[], object]:
    return asked(site, credential, "/endless")


def asked(site: Site, credential: Credential, path: str) -> Callable[[], object]:
    tls = tls_to(site.web.port, credential)
    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert tls.recv(12) == b"HTTP/1.1 200"
    return lambda: read_to_end(tls)


def idle_metadata(site: Site, credential: Credential) -> Callable[[], object]:
    tls = tls_to(site.metadata.port, credential, GREETING, b"ssl\n\n")
    tls.sendall(b"0 x\n5 x\n\npwd\n")
    assert tls.recv(1) == b"0"
    return lambda: read_to_end(tls)


def read_to_end(tls: ssl.SSLSocket) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while tls.recv(65536):
            pass


def control(site: Site, credential: Credential) -> Session:
    return Session(Turl("localhost", site.gridftp.port, "/"), credential, Timeouts(5, 5, WITHIN_S))


def idle_gridftp(site: Site, credential: Credential) -> Callable[[], object]:
    session = control(site, credential)

    def ends() -> None:
        with contextlib.suppress(Exception):
            assert session.next_reply().code == 421
        assert_gone(site)

    return ends


def busy_gridftp(site: Site, credential: Credential) -> Callable[[], object]:
    """Begin a transfer and take a byte now and then, so that it never ends by itself."""
    session = control(site, credential)
    session.send("EPSV")
    port = int(session.next_reply().text.split("|||")[1].split("|")[0])
    session.send("RETR /file")
    data = socket.create_connection(("localhost", port), timeout=5)
    stop = threading.Event()

    def sip() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.05) and data.recv(1000):
                pass

    threading.Thread(target=sip, daemon=True).start()

    def ends() -> None:
        assert_gone(site)
        stop.set()
        data.close()

    return ends


def assert_gone(site: Site) -> None:
    until_s = time.monotonic() + WITHIN_S
    while site.gridftp.sessions:
        assert time.monotonic() < until_s, "the session goes on"
        time.sleep(0.05)


SESSIONS = [idle_https, busy_https, idle_metadata, idle_gridftp, busy_gridftp]


@pytest.mark.parametrize("begin", SESSIONS)
@pytest.mark.parametrize("how", ["revoke", "ban"])
def test_a_session_ends(site: Site, begin: Callable[..., Callable[[], object]], how: str) -> None:
    alice = site.pki.user("Alice")
    ends = begin(site, site.pki.proxy(alice))
    time.sleep(0.5)  # it has been asked about already, and was good
    getattr(site, how)(alice)
    begun_s = time.monotonic()
    ends()
    assert time.monotonic() - begun_s < WITHIN_S


def test_others_stay(site: Site) -> None:
    bob, alice = site.pki.user("Bob"), site.pki.user("Alice")
    tls = tls_to(site.web.port, bob)
    site.revoke(alice)
    site.ban(alice)
    time.sleep(2.0)
    tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert tls.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("door", ["web", "metadata"])
def test_an_old_tls_session_is_refused_after_a_revocation(
    site: Site, door: str, maximum: ssl.TLSVersion
) -> None:
    """Offer the session of a good login again: it is never resumed, and the certificate is refused."""
    alice = site.pki.user("Alice")
    context = alice.client_context(maximum=maximum)

    def connect(session: ssl.SSLSession | None) -> ssl.SSLSocket:
        sock = socket.create_connection(("localhost", getattr(site, door).port), timeout=WITHIN_S)
        if door == "metadata":
            sock.recv(len(GREETING))
            sock.sendall(b"ssl\n\n")
            sock.recv(3)
        return context.wrap_socket(sock, server_hostname="localhost", session=session)

    def works(tls: ssl.SSLSocket) -> bool:
        tls.sendall(b"0 x\n5 x\n\npwd\n" if door == "metadata" else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        heard = tls.recv(1)
        return heard == (b"0" if door == "metadata" else b"H")

    first = connect(None)
    assert works(first)
    old = first.session
    site.revoke(alice)
    time.sleep(1.2)
    try:
        again = connect(old)
        assert not again.session_reused
        assert not works(again)
    except (ssl.SSLError, ConnectionError):
        pass


def gridftp_login(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLObject]:
    """Log in by ADAT, offering an old session; tell whether that worked."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out, server_hostname="localhost", session=session)
    with socket.create_connection(("localhost", port), timeout=WITHIN_S) as sock:
        wire = sock.makefile("rwb")

        def say(line: bytes) -> bytes:
            wire.write(line + b"\r\n")
            wire.flush()
            return reply()

        def reply() -> bytes:
            while (line := wire.readline()) and line[3:4] != b" ":
                pass
            return line

        assert reply().startswith(b"220")
        assert say(b"AUTH GSSAPI").startswith(b"334")
        heard, flagged = b"335", False
        while heard.startswith(b"335"):
            try:
                tls.do_handshake()
                if not out.pending and not flagged:
                    tls.write(b"0")
                    flagged = True
            except ssl.SSLWantReadError:
                pass
            heard = say(b"ADAT " + base64.b64encode(out.read()))
            into.write(base64.b64decode(heard.partition(b"ADAT=")[2]))
        return heard.startswith(b"235"), tls


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_gridftp_refuses_an_old_tls_session_too(site: Site, maximum: ssl.TLSVersion) -> None:
    alice = site.pki.user("Alice")
    context = alice.client_context(maximum=maximum)
    worked, tls = gridftp_login(site.gridftp.port, context, None)
    assert worked
    site.revoke(alice)
    time.sleep(1.2)
    worked, again = gridftp_login(site.gridftp.port, context, tls.session)
    assert not worked
    assert not again.session_reused


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    """Every port of a site, each server made from a configuration file as its process makes it."""
    directory = tmp_path_factory.mktemp("whole")
    site = DemoSite(directory)
    site.pki = TestPki(directory / "pki", fast=True)
    site.write()
    etc = site.directory / "etc" / "catalog.d"
    services: list[Service] = [*outer.front(site.config), *outer.transfer(site.config)]
    for name in ("keys-1", "files", "metadata"):
        services += catalogues.catalogue(etc / f"{name}.toml")
    for service in services:
        service.start()
    yield site
    for service in reversed(services):
        service.stop()


Answer = tuple[bool, ssl.SSLSocket | ssl.SSLObject]
Offer = Callable[[int, ssl.SSLContext, ssl.SSLSession | None], Answer]


def offer(greeting: bytes = b"", opening: bytes = b"", *, call: bytes, reply: bytes) -> Offer:
    """Return what offers an old session (or none) to a door of TLS, and tells whether a call is answered."""

    def to(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> Answer:
        sock = socket.create_connection(("localhost", port), timeout=WITHIN_S)
        if greeting:
            sock.recv(len(greeting))
            sock.sendall(opening)
            sock.recv(3)
        tls = context.wrap_socket(
            sock, server_hostname="localhost", session=session, do_handshake_on_connect=False
        )
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            tls.do_handshake()
            tls.sendall(call)
            return tls.recv(len(reply)) == reply, tls
        return False, tls

    return to


HTTP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DOORS: dict[str, tuple[str, Offer]] = {
    "SRM, httpg": ("srm", offer(call=b"0" + HTTP, reply=b"HTTP")),
    "SRM, https": ("srm", offer(call=HTTP, reply=b"HTTP")),
    "GridFTP": ("gridftp", gridftp_login),
    "WebDAV": ("webdav", offer(call=HTTP, reply=b"HTTP")),
    "intake": ("intake", offer(call=HTTP, reply=b"HTTP")),
    "keys": ("keys-1", offer(call=HTTP, reply=b"HTTP")),
    "files": ("files", offer(call=HTTP, reply=b"HTTP")),
    "metadata": ("metadata", offer(GREETING, b"ssl\n\n", call=b"0 x\n5 x\n\npwd\n", reply=b"0")),
}


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_an_old_tls_session(whole: DemoSite, door: str, maximum: ssl.TLSVersion) -> None:
    """A session is never resumed; so after a revocation the one of an earlier login is worth nothing."""
    name, offering = DOORS[door]
    caller = whole.pki.user(f"{door} {maximum.name}")
    context = caller.client_context(maximum=maximum)
    worked, first = offering(whole.ports[name], context, None)
    assert worked
    again_worked, again = offering(whole.ports[name], context, first.session)
    assert again_worked
    assert not again.session_reused
    whole.pki.revoke(caller)
    until_s = time.monotonic() + WITHIN_S
    while worked:
        assert time.monotonic() < until_s, "it is still let in"
        time.sleep(0.2)
        worked, again = offering(whole.ports[name], context, first.session)
        assert not again.session_reused
