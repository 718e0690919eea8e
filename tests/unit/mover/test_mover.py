"""Transfers between this server and another one: a WSGI application or a GridFTP door that plays it."""

import ipaddress
import os
import socket
import ssl
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from srm_dicom.clock import SystemClock
from srm_dicom.errors import (
    Aborted,
    IntegrityError,
    InvalidRequest,
    MdmError,
    NotAuthorised,
    NotDelivered,
    NotFound,
    NotSupported,
)
from srm_dicom.identity.credential import Nobody
from srm_dicom.identity.delegation import Delegate, DelegationAcceptor
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.testing.certificates import proxy_certificate, read_credential
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.hosts import CopyHosts
from srm_dicom.transfer.mover import Mover, MoverSettings, Remote
from srm_dicom.transfer.opened import OpenFile
from srm_dicom.transfer.progress import Progress
from srm_dicom.transfer.storing import Storing
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer
from srm_dicom.wire.gridftp.replies import Reply

ALICE = Principal("/CN=Alice", (), False, datetime(2040, 1, 1, tzinfo=UTC))
LOOPBACK = tuple(ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1/128"))
CONTENT = os.urandom(700_001)
HEADERS = (("Cookie", "secret"), ("Y", "kept"), ("OS-Auth-Token", "another"))
SUM = f"{zlib.adler32(CONTENT):08x}"


class Landing:
    def __init__(self):
        self.content = bytearray()

    def write(self, offset, data):
        assert offset == len(self.content)
        self.content += data


class Other:
    """Another server: `answers` by method and path, or a function of the environment."""

    def __init__(self, pki):
        self.answers = {}
        self.seen = []
        self.received = b""
        gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
        limits = Limits(body_bytes=2**40)
        self.server = WebServer(self.app, gate, host="localhost", port=0, name="other", limits=limits)

    def app(self, environ, start_response):
        key = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        told = (environ.get(header, "") for header in ("HTTP_Y", "HTTP_COOKIE", "HTTP_OS_AUTH_TOKEN"))
        self.seen.append((*key, environ["srm_dicom.principal"].dn, *told))
        status, headers, body = self.answers.get(key, ("404 Not Found", [], b""))
        if key[0] == "PUT" and status.startswith("2"):
            self.received = environ["wsgi.input"].read()
        start_response(status, headers)
        return [body]

    def url(self, path, scheme="https"):
        return f"{scheme}://localhost:{self.server.port}{path}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture(scope="module")
def proxy(pki):
    return pki.proxy(pki.user("Alice"))


def started(pki):
    other = Other(pki)
    other.server.start()
    yield other
    other.server.stop(0.5)


@pytest.fixture
def other(pki):
    yield from started(pki)


@pytest.fixture
def second(pki):
    yield from started(pki)


@pytest.fixture
def mover():
    hosts = CopyHosts({"*": ("localhost",)}, networks=LOOPBACK)
    return Mover(hosts, MoverSettings(silence_s=10.0, invitation_s=2.0, redirects=2))


@pytest.fixture
def remote(other, proxy):
    return lambda path, **options: Remote(ALICE, other.url(path, **options), proxy)


def opened():
    return OpenFile.in_memory(CONTENT)


# --- pull


def test_pull(mover, other, remote, pki, proxy):
    other.answers["GET", "/f"] = ("200 OK", [("Digest", f"adler32={SUM.lstrip('0')}")], CONTENT)
    landing, progress = Landing(), Progress()
    moved = mover.pull(remote("/f", scheme="davs"), landing, progress)
    assert (moved.size_bytes, moved.adler32, moved.verified) == (len(CONTENT), SUM, True)
    assert landing.content == CONTENT
    assert progress.moved_bytes == len(CONTENT)
    assert other.seen[0][2] == pki.dn(proxy)


def test_pull_without_a_checksum(mover, other, remote):
    other.answers["GET", "/f"] = ("200 OK", [], CONTENT)
    assert not mover.pull(remote("/f"), Landing()).verified


def test_pull_of_other_bytes(mover, other, remote):
    other.answers["GET", "/f"] = ("200 OK", [("Digest", "md5=x, adler32=00000001")], CONTENT)
    with pytest.raises(IntegrityError):
        mover.pull(remote("/f"), Landing())


def test_what_the_other_side_refuses(mover, other, remote):
    with pytest.raises(NotFound, match="the other server"):
        mover.pull(remote("/absent"), Landing())
    other.answers["GET", "/tape"] = ("202 Accepted", [], b"soon")
    landing = Landing()
    with pytest.raises(NotDelivered, match="tape"):
        mover.pull(remote("/tape"), landing)


@pytest.mark.parametrize(
    "status", ["204 No Content", "206 Partial Content", "203 Non-Authoritative Information"]
)
def test_what_is_not_the_whole_file_is_not_taken_for_it(mover, other, remote, status):
    other.answers["GET", "/f"] = (status, [], b"" if status.startswith("204") else CONTENT[:7])
    with pytest.raises(NotDelivered, match=status[:3]):
        mover.pull(remote("/f"), Landing())


@pytest.fixture
def closing(pki, proxy):
    """A server whose answers end where its connections do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.host().certificate, pki.host().key)
    with socket.create_server(("localhost", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def answer(head):
            sock, _ = listening.accept()
            with context.wrap_socket(sock, server_side=True) as tls:
                tls.recv(65536)
                tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n" + CONTENT)

        def answering(head=b""):
            pool.submit(answer, head)
            return Remote(ALICE, f"https://localhost:{listening.getsockname()[1]}/f", proxy)

        yield answering


def test_the_end_of_a_connection_alone_is_no_end_of_a_file(mover, closing):
    with pytest.raises(NotDelivered, match="where the file ends"):
        mover.pull(closing(), Landing())
    assert mover.pull(closing(f"Digest: adler32={SUM}\r\n".encode()), Landing()).verified


def test_redirects_are_followed_and_secrets_stay(mover, other, second, proxy):
    other.answers["GET", "/f"] = ("307 Temporary Redirect", [("Location", "/again")], b"gone")
    there = second.url("/there?x=1")
    other.answers["GET", "/again"] = ("302 Found", [("Location", there)], b"gone")
    second.answers["GET", "/there"] = ("200 OK", [], CONTENT)
    landing = Landing()
    mover.pull(Remote(ALICE, other.url("/f"), proxy, HEADERS), landing)
    assert landing.content == CONTENT
    assert [one[3:] for one in other.seen] == [("kept", "secret", "another")] * 2
    assert [one[3:] for one in second.seen] == [("kept", "", "")]


@pytest.mark.parametrize("place", ["https://127.0.0.1:1/x", "http://localhost/x", "file:///etc/passwd", ""])
def test_redirects_are_checked_again(mover, other, remote, place):
    other.answers["GET", "/f"] = ("302 Found", [("Location", place)], b"")
    with pytest.raises((NotAuthorised, NotDelivered, NotSupported)):
        mover.pull(remote("/f"), Landing())


def test_redirects_end(mover, other, remote):
    other.answers["GET", "/f"] = ("302 Found", [("Location", "/f")], b"")
    with pytest.raises(NotDelivered, match="again and again"):
        mover.pull(remote("/f"), Landing())
    assert len(other.seen) == 3


# --- push


def test_push(mover, other, remote):
    other.answers["PUT", "/f"] = ("201 Created", [], b"")
    other.answers["HEAD", "/f"] = ("200 OK", [("Digest", f"adler32={SUM}")], b"")
    progress = Progress()
    with opened() as file:
        moved = mover.push(file, remote("/f"), progress)
    assert (moved.adler32, moved.verified, progress.moved_bytes) == (SUM, True, len(CONTENT))
    assert other.received == CONTENT


def test_push_to_where_it_is_pointed_to(mover, other, remote):
    other.answers["PUT", "/f"] = ("307 Temporary Redirect", [("Location", "/pool")], b"")
    other.answers["PUT", "/pool"] = ("201 Created", [], b"")
    other.answers["HEAD", "/f"] = ("200 OK", [], b"")
    with opened() as file:
        assert not mover.push(file, remote("/f")).verified
    assert other.received == CONTENT


def test_push_that_is_refused_sends_nothing(mover, other, remote):
    other.answers["PUT", "/f"] = ("403 Forbidden", [], b"")
    progress = Progress()
    with opened() as file, pytest.raises(NotAuthorised, match="the other server"):
        mover.push(file, remote("/f"), progress)
    assert progress.moved_bytes == 0


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_push_by_who_may_write_and_not_look(mover, other, remote, status):
    other.answers["PUT", "/f"] = ("201 Created", [], b"")
    other.answers["HEAD", "/f"] = (status, [], b"")
    with opened() as file:
        moved = mover.push(file, remote("/f"))
    assert (moved.adler32, moved.verified, other.received == CONTENT) == (SUM, False, True)


def test_push_of_what_is_gone_at_once(mover, other, remote):
    other.answers["PUT", "/f"] = ("201 Created", [], b"")
    with opened() as file, pytest.raises(NotFound):
        mover.push(file, remote("/f"))


def test_push_that_arrives_changed(mover, other, remote):
    other.answers["PUT", "/f"] = ("201 Created", [], b"")
    other.answers["HEAD", "/f"] = ("200 OK", [("Digest", "adler32=1")], b"")
    with opened() as file, pytest.raises(IntegrityError):
        mover.push(file, remote("/f"))


# --- bounds


@pytest.mark.parametrize("url", ["https://elsewhere.example/f", "https://127.0.0.1/f"])
def test_hosts_that_are_not_listed(mover, proxy, url):
    remote = Remote(ALICE, url, proxy)
    with pytest.raises(NotAuthorised):
        mover.pull(remote, Landing())
    with opened() as file, pytest.raises(NotAuthorised):
        mover.push(file, remote)


@pytest.mark.parametrize(
    "url", ["http://localhost/f", "file:///f", "https:///f", "https://a@localhost/f", ""]
)
def test_what_is_no_place(mover, proxy, url):
    with pytest.raises((NotSupported, InvalidRequest)):
        mover.pull(Remote(ALICE, url, proxy), Landing())


def test_a_copy_can_be_cancelled(mover, other, remote):
    other.answers["GET", "/f"] = ("200 OK", [], CONTENT)
    progress = Progress()
    progress.cancel()
    with pytest.raises(Aborted):
        mover.pull(remote("/f"), Landing(), progress)


def test_nobody_is_believed_who_has_no_good_certificate(mover, other, tmp_path):
    stranger = Nobody(tmp_path)
    with pytest.raises(MdmError, match="not who it should be"):
        mover.pull(Remote(ALICE, other.url("/f"), stranger), Landing())


# --- as somebody


def test_a_delegated_credential_is_shown(mover, other, pki, proxy):
    chain, key = read_credential(proxy)
    acceptor = DelegationAcceptor(
        [one.public_bytes(Encoding.DER) for one in (*chain, pki.authority.certificate)]
    )
    public_key = x509.load_der_x509_csr(acceptor.request()).public_key()
    made = proxy_certificate(chain[0], key, public_key).public_bytes(Encoding.DER)
    delegated = acceptor.accept(made, SystemClock().now())
    other.answers["GET", "/f"] = ("200 OK", [], CONTENT)
    mover.pull(Remote(ALICE, other.url("/f"), Delegate(delegated, pki.trust_dir)), Landing())
    assert other.seen[0][2] == pki.dn(proxy)


# --- gsiftp


@pytest.fixture
def gsiftp(pki, tmp_path):
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    files = DirectoryFiles(tmp_path)
    settings = GridFtpSettings(port=0, data_ports=(0, 0))
    door = GridFtpDoor(files, gate, settings, SystemClock(), writing=files)
    door.start()
    yield f"gsiftp://localhost:{door.port}"
    door.stop()


def test_pull_from_gsiftp(mover, gsiftp, proxy, tmp_path):
    (tmp_path / "f").write_bytes(CONTENT)
    landing, progress = Landing(), Progress()
    moved = mover.pull(Remote(ALICE, f"{gsiftp}/f", proxy), landing, progress)
    assert (landing.content, moved.adler32, moved.verified) == (CONTENT, SUM, True)
    progress.cancel()
    with pytest.raises(Aborted):
        mover.pull(Remote(ALICE, f"{gsiftp}/f", proxy), Landing(), progress)


def test_push_to_gsiftp(mover, gsiftp, proxy, tmp_path):
    with opened() as file:
        moved = mover.push(file, Remote(ALICE, f"{gsiftp}/new", proxy))
    assert (moved.size_bytes, moved.adler32, moved.verified) == (len(CONTENT), SUM, True)
    assert (tmp_path / "new").read_bytes() == CONTENT


def test_whether_a_name_is_taken(mover, gsiftp, other, remote, proxy, tmp_path):
    (tmp_path / "f").write_bytes(b"f")
    other.answers["HEAD", "/f"] = ("200 OK", [], b"")
    other.answers["HEAD", "/forbidden"] = ("403 Forbidden", [], b"")
    assert mover.exists(Remote(ALICE, f"{gsiftp}/f", proxy))
    assert not mover.exists(Remote(ALICE, f"{gsiftp}/absent", proxy))
    assert mover.exists(remote("/f"))
    assert not mover.exists(remote("/absent"))
    with pytest.raises(NotAuthorised):
        mover.exists(remote("/forbidden"))


def test_a_gsiftp_server_that_has_other_bytes(mover, gsiftp, proxy, tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(CONTENT)
    monkeypatch.setattr(DirectoryFiles, "_adler32", lambda *_: "00000001")
    with pytest.raises(IntegrityError):
        mover.pull(Remote(ALICE, f"{gsiftp}/f", proxy), Landing())


def test_a_push_to_gsiftp_that_is_cancelled_leaves_no_file(mover, gsiftp, proxy, tmp_path):
    progress = Progress()
    progress.cancel()
    with opened() as file, pytest.raises(Aborted):
        mover.push(file, Remote(ALICE, f"{gsiftp}/new", proxy), progress)
    assert not (tmp_path / "new").exists()


def test_a_server_that_only_says_that_it_is_at_it_can_be_left(mover, gsiftp, proxy, monkeypatch):
    """Its markers are no silence, so that only who cancels ends it."""
    real, over, marked, progress = Storing._receive, threading.Event(), threading.Event(), Progress()

    def receive(self, *arguments):
        real(self, *arguments)
        while not over.wait(0.05):
            self._line.tell(Reply.of(112, "Perf Marker", "End."))
            marked.set()

    monkeypatch.setattr(Storing, "_receive", receive)
    with opened() as file, ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(mover.push, file, Remote(ALICE, f"{gsiftp}/new", proxy), progress)
        try:
            assert marked.wait(10)
            progress.cancel()
            assert isinstance(pushed.exception(5), MdmError)
        finally:
            over.set()
