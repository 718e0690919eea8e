"""The session on the wire: how a caller gets in, how it is turned away, and what ends it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdm_metadata.server import MetadataServer, MetadataSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.amga import AmgaChannel
from srm_dicom.clock import SystemClock
from srm_dicom.errors import (
    CatalogueUnavailable,
    MdmError,
    NotAuthenticated,
    NotFound,
    NotSupported,
    TooLarge,
)
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.databases import database_url

GREETING = b"srm-dicom metadata server\nProtocol 2\nssl\n"


@pytest.fixture
def strict(tmp_path: Path, metadata_pki: Any) -> Iterator[MetadataServer]:
    """A server with two sessions, little patience, and a ban list."""
    clock = SystemClock()
    (tmp_path / "bans").write_text('"/DC=test/DC=mdm/CN=banned"\n')
    trust = TrustSettings(metadata_pki.trust_dir, ban_file=tmp_path / "bans")
    audit = AuditLog(tmp_path / "audit", "metadata", "here", clock)
    settings = MetadataSettings(
        database=database_url(tmp_path, "m"),
        port=0,
        host="localhost",
        sessions=2,
        sessions_per_address=2,
        sessions_per_identity=1,
        handshake_s=1.0,
        idle_s=1.0,
    )
    server = MetadataServer(settings, Gate(trust, metadata_pki.host(), clock), audit, clock)
    server.start()
    yield server
    server.stop()
    audit.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("localhost", port), timeout=5)


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def rest(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    return data


def secured(site: Any, who: str) -> ssl.SSLSocket:
    sock = connect(site.server.port)
    assert read(sock, len(GREETING)) == GREETING
    sock.sendall(b"ssl\n\n")
    assert read(sock, 3) == b"OK\n"
    return site.users[who].client_context().wrap_socket(sock, server_hostname="localhost")


def test_the_dialogue_to_the_letter(site: Any) -> None:
    """What the AMGA clients of 2008 send and expect, byte by byte."""
    guid = b"00000000-0000-4000-8000-00000000000"
    find = b"find  * 'Modality = \"MR\" and Rows = 512 limit 1'\n"
    dialogue = [
        (b"0 somebody\n5 secret\n\npwd\n", b"0\n/\n\x04\x04"),
        (b"cd /mdm/here/heart-v1/image\n", b"0\n\x04\x04"),
        (find, b"0\n" + guid + b"1\n\x04\x04"),
        (b"selectattr  .:FILE .:Modality './:FILE like \"%2\"'\n", b"0\n" + guid + b"2\nCT\n\x04\x04"),
        (b"getattr *3 Modality\n", b"0\n" + guid + b"3\nMR\n\x04\x04"),
        (b"nonsense 'of mine'\n", b"3 no such command\n\x04\x04"),
        (b"getattr *3 Colour\n", b"10 no such attribute\n\x04\x04"),
        (b"\x18", b"\x180\n\x04\x04"),
    ]
    with secured(site, "physician") as tls:
        for said, answered in dialogue:
            tls.sendall(said)
            assert read(tls, len(answered)) == answered


@pytest.mark.parametrize("said", [b"plain\n\n", b"resume5\n\n", b"resumeSSL5\n\n", b"\n\n", b"0 x\n\n"])
def test_there_is_no_way_in_but_tls(site: Any, said: bytes) -> None:
    with connect(site.server.port) as sock:
        sock.sendall(said + b"0 x\n\npwd\n")
        answer = rest(sock)
    assert answer.startswith(GREETING)
    assert b"OK" not in answer


def test_nothing_said_before_the_handshake_counts_after_it(site: Any) -> None:
    with connect(site.server.port) as sock:
        sock.sendall(b"ssl\n\n0 x\n\npwd\n")
        assert b"OK" not in rest(sock)


def test_who_says_nothing_is_hung_up_on(strict: MetadataServer) -> None:
    for said in (b"", b"ssl", b"ssl\n\n"):
        with connect(strict.port) as sock:
            sock.sendall(said)
            began_s = time.monotonic()
            rest(sock)
        assert 0.5 < time.monotonic() - began_s < 10


def test_an_endless_line_is_the_end(site: Any) -> None:
    with connect(site.server.port) as sock:
        sock.sendall(b"s" * 5000)
        assert b"at most" in rest(sock)
    with secured(site, "physician") as tls:
        tls.sendall(b"0 x\n\nfind " + b"x" * 300_000)
        assert rest(tls).startswith(b"101 ")


def all_given_back(server: MetadataServer) -> None:
    """Wait until a server has no session."""
    until_s = time.monotonic() + 10
    while server._open:
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_sessions_are_bounded_and_given_back(strict: MetadataServer, metadata_pki: Any) -> None:
    held = [
        AmgaChannel(f"localhost:{strict.port}", metadata_pki.user(name), timeout_s=5)
        for name in ("physician", "researcher")
    ]
    for channel in held:
        assert channel.call("pwd") == ("/",)
    with connect(strict.port) as third:
        assert rest(third) == b""
    for channel in held:
        channel.close()
    all_given_back(strict)
    silent = []
    for _ in range(3):
        silent.append(connect(strict.port))
        assert read(silent[-1], len(GREETING)) == GREETING
    assert rest(silent[0]) == b"", "the oldest that nobody knows makes room"
    channel = AmgaChannel(f"localhost:{strict.port}", metadata_pki.user("physician"), timeout_s=5)
    assert channel.call("whoami") == ("/DC=test/DC=mdm/CN=physician",)
    time.sleep(1.3)  # longer than the server's patience: the channel connects again
    assert channel.call("pwd") == ("/",)
    channel.close()


def test_a_server_without_threads_turns_one_away_and_lives(
    strict: MetadataServer, metadata_pki: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = threading.Thread.start, []

    def starting(thread: threading.Thread) -> None:
        if thread.name == "metadata" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    with connect(strict.port) as sock:
        assert rest(sock) == b""
    channel = AmgaChannel(f"localhost:{strict.port}", metadata_pki.user("physician"), timeout_s=5)
    assert channel.call("pwd") == ("/",)
    channel.close()


def test_one_caller_and_one_address_leave_sessions_to_others(
    strict: MetadataServer, metadata_pki: Any
) -> None:
    channels = [
        AmgaChannel(f"localhost:{strict.port}", metadata_pki.user(name), timeout_s=5)
        for name in ("physician", "physician", "researcher")
    ]
    assert channels[0].call("pwd") == ("/",)
    with pytest.raises(CatalogueUnavailable, match="too many sessions"):
        channels[1].call("pwd")
    assert channels[2].call("pwd") == ("/",)
    strict._places._each = 1
    with connect(strict.port) as third:
        assert rest(third) == b""
    for channel in channels:
        channel.close()
    all_given_back(strict)
    assert channels[1].call("pwd") == ("/",)
    channels[1].close()


def test_a_banned_caller_is_told_so(strict: MetadataServer, metadata_pki: Any) -> None:
    channel = AmgaChannel(f"localhost:{strict.port}", metadata_pki.user("banned"), timeout_s=5)
    with pytest.raises(MdmError, match="ban"):
        channel.call("whoami")


def test_a_revoked_or_unknown_caller_is_refused_in_the_handshake(
    strict: MetadataServer, metadata_pki: Any, tmp_path: Path
) -> None:
    revoked = metadata_pki.user("revoked")
    metadata_pki.revoke(revoked)
    channel = AmgaChannel(f"localhost:{strict.port}", metadata_pki.proxy(revoked), timeout_s=5)
    with pytest.raises((NotAuthenticated, CatalogueUnavailable)):
        channel.call("whoami")
    foreign = type(metadata_pki)(tmp_path / "foreign", fast=True).user("physician")
    stranger = type(foreign)(foreign.certificate, foreign.key, metadata_pki.trust_dir)
    with pytest.raises((NotAuthenticated, CatalogueUnavailable)):
        AmgaChannel(f"localhost:{strict.port}", stranger, timeout_s=5).call("whoami")


def test_a_session_ends_with_its_credential(site: Any) -> None:
    channel = AmgaChannel(site.endpoint, site.pki.proxy(site.users["physician"], lifetime_s=3), timeout_s=5)
    channel.call("whoami")
    time.sleep(3.5)
    with pytest.raises((NotAuthenticated, CatalogueUnavailable)):
        channel.call("whoami")


def test_plain_is_nobody_where_it_is_allowed(tmp_path: Path, metadata_pki: Any) -> None:
    clock = SystemClock()
    audit = AuditLog(tmp_path / "audit", "metadata", "here", clock)
    settings = MetadataSettings(
        database=database_url(tmp_path, "m"), port=0, host="localhost", allow_plain=True
    )
    gate = Gate(TrustSettings(metadata_pki.trust_dir), metadata_pki.host(), clock)
    server = MetadataServer(settings, gate, audit, clock)
    server.start()
    for path, acl in (("/open", "other::rn"), ("/owned", "user::rn,group::rn")):
        end = clock.now().replace(year=clock.now().year + 1)
        made = server.collections.create(path, Acl.parse(acl), end)  # type: ignore[arg-type]
        server.collections.entries.add(made, [("a", {})])
    with connect(server.port) as sock:
        sock.sendall(b"plain\n\n")
        greeting = GREETING.replace(b"ssl", b"ssl plain")
        assert read(sock, len(greeting) + 3) == greeting + b"OK\n"
        sock.sendall(b"0 root\n5 root\n\nwhoami\nfind /open\nfind /owned\naddentry /open/b\n")
        assert read(sock, 14) == b"0\nanonymous\n\x04\x04"
        assert read(sock, 6) == b"0\na\n\x04\x04"
        assert read(sock, 22) == b"1 no such collection\n\x04"
        assert b"4 permission" in read(sock, 20)
    server.stop()
    audit.close()


def test_what_a_command_gets_wrong(site: Any) -> None:
    channel = site.channel("physician")
    for words in (["find"], ["pwd", "x"], ["addattr", "/x", "y"], ["help", "x"], ["commit"]):
        with pytest.raises(MdmError):
            channel.call(*words)
    for upload in (["upload"], ["upload", "/nowhere", "a"]):
        with pytest.raises((NotSupported, NotFound)):
            channel.batch([upload, ["put", "x", "1"], ["put"], ["commit"]])
        assert channel.call("pwd") == ("/",)
    with pytest.raises(NotSupported, match="no such command"):
        channel.call("sequence_create", "x", "/y")
    with pytest.raises(TooLarge):
        channel.call("find", "/mdm", "x = 1 and " * 300 + "x = 1")
    assert "findall" in channel.call("help")
    assert channel.call("help", "find") == ("find <pattern> [<condition>]",)
