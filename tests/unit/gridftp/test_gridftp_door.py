"""The door over sockets, with our own client and with clients that misbehave."""

import io
import socket
import threading
import time
from datetime import timedelta

import pytest

from srm_dicom import errors
from srm_dicom.client.ftp_session import Refused, Session, Timeouts, Turl
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.ports import free_pair
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.wire.gridftp.addresses import parse_passive_port


def url(door, path):
    return f"gsiftp://localhost:{door.port}{path}"


@pytest.fixture
def client(alice):
    with GridFtpClient(alice, timeouts=Timeouts(5, 5, 5)) as client:
        yield client


@pytest.fixture
def session(door, alice):
    return new_session(door, alice)


def new_session(door, credential):
    return Session(Turl("localhost", door.port, "/"), credential, Timeouts(5, 5, 5))


def code_of(session, line):
    session.send(line)
    return session.next_reply().code


def said(session, line):
    session.send(line)
    reply = session.next_reply()
    return reply.code, reply.text


def eventually(condition, within_s=5.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


# --- what it is for


def test_a_file_arrives_whole(door, client, files):
    sink = io.BytesIO()
    seen = []
    fetched = client.fetch(url(door, "/file"), sink, progress=seen.append)
    assert sink.getvalue() == (files.root / "file").read_bytes()
    assert fetched.size_bytes == 1 << 20
    assert seen[-1] == 1 << 20


def test_a_fetch_goes_on_where_it_stopped(door, client, files):
    whole = (files.root / "file").read_bytes()
    rest, part = io.BytesIO(), io.BytesIO()
    client.fetch(url(door, "/file"), rest, offset=1000)
    assert rest.getvalue() == whole[1000:]
    assert client.fetch(url(door, "/file"), part, offset=1000, size_bytes=500).size_bytes == 500
    assert part.getvalue() == whole[1000:1500]


def test_an_empty_file_arrives(door, client):
    assert client.read(url(door, "/empty")) == b""


def test_a_session_is_used_again_and_replaced_when_it_has_gone(door, client):
    assert client.read(url(door, "/dir/a")) == b"a"
    assert client.read(url(door, "/dir/a")) == b"a"
    assert door.sessions == 1
    next(iter(door._live)).cut()
    eventually(lambda: door.sessions == 0)
    assert client.read(url(door, "/dir/a")) == b"a"


def test_facts(door, client):
    assert client.stat(url(door, "/file")).size_bytes == 1 << 20
    assert client.stat(url(door, "/dir")).is_directory


def test_a_small_file_is_bounded(door, client):
    with pytest.raises(errors.TooLarge):
        client.read(url(door, "/file"), limit_bytes=1000)
    assert client.read(url(door, "/dir/a")) == b"a"


# --- what may not be known


@pytest.mark.parametrize(
    "command", ["RETR", "MLST", "SIZE", "MDTM", "CWD", "CKSM ADLER32 0 -1", "ERET P 0 1", "MLSD", "NLST"]
)
def test_absent_and_hidden_get_the_same_bytes(session, command):
    replies = []
    for path in ("/dir/absent", "/dir/b"):
        session.command("EPSV")
        with pytest.raises(Refused) as refused:
            session.command(f"{command} {path}")
        replies.append(refused.value.meaning.message)
    assert replies[0] == replies[1]
    assert "No such file or directory" in replies[0]


def test_hidden_names_are_not_listed(session):
    port = parse_passive_port(session.command("EPSV"))
    with socket.create_connection(("127.0.0.1", port)) as data:
        session.send("MLSD /dir")
        assert session.next_reply().code == 150
        listing = data.makefile("rb").read().decode()
    assert session.next_reply().code == 226
    names = [line.rpartition(" ")[2] for line in listing.splitlines()]
    assert names == [".", "a", "c", "d"]


@pytest.mark.parametrize(
    ("path", "leaf"),
    [
        ("/nothing", errors.NotFound),
        ("/dir/b", errors.NotFound),
        ("/dir/c", errors.NotAuthorised),
        ("/dir/d", errors.RequestExpired),
        ("/dir", errors.IsADirectory),
    ],
)
def test_refusals_reach_the_user_as_what_they_are(door, client, path, leaf):
    with pytest.raises(leaf):
        client.read(url(door, path))
    assert client.read(url(door, "/dir/a")) == b"a"


@pytest.mark.parametrize("command", ["SIZE /file", "MLSD /dir", "RETR /file"])
def test_what_fails_unforeseen_is_answered_and_the_session_goes_on(session, files, monkeypatch, command):
    def locked(*_):
        raise RuntimeError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(type(files), "stat", locked)
        patched.setattr(type(files), "open", locked)
        session.command("EPSV")
        assert code_of(session, command) == 451
    assert code_of(session, "SIZE /file") == 213


def test_writing_is_refused(session):
    for command in ("STOR /x", "DELE /file", "MKD /x", "RMD /dir", "APPE /file", "ESTO A 0 /x"):
        with pytest.raises(Refused) as refused:
            session.command(command)
        assert "read-only" in refused.value.meaning.message
    assert code_of(session, "RNFR /file") == 350
    assert code_of(session, "RNTO /other") == 502


# --- who may come in


def test_a_revoked_user_is_refused(open_door, pki):
    revoked = pki.proxy(pki.user("Revoked"))
    pki.revoke(revoked)
    with (
        open_door() as door,
        GridFtpClient(revoked) as other,
        pytest.raises(NotAuthenticated, match="revoked"),
    ):
        other.read(url(door, "/file"))


def test_an_expired_proxy_is_refused(door, pki):
    expired = pki.proxy(pki.user("Alice"), lifetime_s=-60)
    with GridFtpClient(expired) as client, pytest.raises(NotAuthenticated, match="expired"):
        client.read(url(door, "/file"))


class MovingClock(SystemClock):
    """The machine's clock, which a test may put forward."""

    ahead = timedelta(0)

    def now(self):
        return super().now() + self.ahead


def test_a_session_ends_with_its_credential(open_door, pki):
    clock = MovingClock()
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), clock)
    with open_door(clock=clock, gate=gate) as door:
        session = new_session(door, pki.proxy(pki.user("Alice"), lifetime_s=3600))
        assert code_of(session, "NOOP") == 200
        clock.ahead = timedelta(hours=2)
        assert code_of(session, "NOOP") == 421
        eventually(lambda: door.sessions == 0)


def test_a_transfer_ends_with_its_credential(open_door, files, pki):
    _grow(files)
    clock = MovingClock()
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), clock)
    with open_door(clock=clock, gate=gate) as door:
        session = new_session(door, pki.proxy(pki.user("Alice"), lifetime_s=3600))
        with _stalled_transfer(session):
            clock.ahead = timedelta(hours=2)
            assert session.next_reply().code == 421


# --- data connections


def _grow(files):
    files.checksums = False  # of 1 GiB
    with (files.root / "large").open("wb") as file:
        file.truncate(1 << 30)
    files.checksums = False


class _stalled_transfer:
    """A transfer whose client reads nothing."""

    def __init__(self, session):
        self.session = session

    def __enter__(self):
        self.data = socket.socket()
        self.data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.data.connect(("127.0.0.1", parse_passive_port(self.session.command("EPSV"))))
        assert code_of(self.session, "RETR /large") == 150
        return self.data

    def __exit__(self, *_):
        self.data.close()


def test_abor_ends_a_transfer(open_door, files, alice):
    _grow(files)
    with open_door() as door:
        session = new_session(door, alice)
        with _stalled_transfer(session):
            begun = time.monotonic()
            session.send("ABOR")
            assert session.next_reply().code == 426
            assert session.next_reply().code == 226
            assert time.monotonic() - begun < 10
        assert code_of(session, "NOOP") == 200


def test_a_client_that_leaves_ends_its_transfer(open_door, files, alice):
    _grow(files)
    with open_door() as door:
        session = new_session(door, alice)
        with _stalled_transfer(session):
            session._sock.close()
            eventually(lambda: door.sessions == 0)


def test_a_reader_that_stalls_is_dropped_and_the_session_lives(open_door, files, alice):
    _grow(files)
    with open_door(data_stall_s=0.5) as door:
        session = new_session(door, alice)
        with _stalled_transfer(session):
            assert session.next_reply().code == 426
        assert code_of(session, "NOOP") == 200


def test_a_connection_that_never_comes_is_told_and_its_port_is_closed(open_door, alice):
    with open_door(data_connect_s=0.3) as door:
        session = new_session(door, alice)
        port = parse_passive_port(session.command("EPSV"))
        assert code_of(session, "RETR /file") == 150
        reply = session.next_reply()
        assert reply.code == 425
        assert f"port {port}" in reply.text
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_listening_port_that_nobody_uses_is_given_back(open_door, alice):
    with open_door(data_connect_s=0.2) as door:
        session = new_session(door, alice)
        port = parse_passive_port(session.command("EPSV"))
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert code_of(session, "RETR /dir/a") == 425
        assert code_of(session, "NOOP") == 200


def test_ipv6(open_door, alice):
    with open_door(host="::1") as door, GridFtpClient(alice) as client:
        assert client.read(f"gsiftp://[::1]:{door.port}/dir/a") == b"a"
        session = Session(Turl("::1", door.port, "/"), alice, Timeouts(5, 5, 5))
        assert code_of(session, "PASV") == 501
        assert said(session, "EPSV 1") == (522, "Network protocol not supported, use (2)")
        assert code_of(session, "EPSV 2") == 229


def test_epsv_tells_the_family_that_it_has(session):
    """RFC 2428, 3: 522 with the protocols that are supported."""
    for family in ("2", "3", "x"):
        assert said(session, f"EPSV {family}") == (522, "Network protocol not supported, use (1)")
    assert code_of(session, "RETR /file") == 425
    assert code_of(session, "EPSV 1") == 229


def test_an_ipv6_door_takes_ipv4_too(open_door, client):
    with open_door(host="::") as door:
        assert client.read(f"gsiftp://127.0.0.1:{door.port}/dir/a") == b"a"


def test_a_listening_port_takes_one_connection(session):
    port = parse_passive_port(session.command("EPSV"))
    with socket.create_connection(("127.0.0.1", port)) as data:
        assert code_of(session, "RETR /dir/a") == 150
        assert data.recv(10) == b"a"
        assert session.next_reply().code == 226
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert code_of(session, "RETR /dir/a") == 425


def test_the_range_of_ports_is_a_bound(open_door, alice, pki):
    ports = free_pair()
    with open_door(data_ports=ports) as door:
        sessions = [new_session(door, who) for who in (alice, pki.user("Other"), pki.user("Third"))]
        taken = {parse_passive_port(session.command("EPSV")) for session in sessions[:2]}
        assert taken == set(ports)
        with pytest.raises(Refused) as refused:
            sessions[2].command("EPSV")
        assert "no data port" in refused.value.meaning.message
        sessions[0].leave()
        eventually(lambda: door.sessions == 2)
        assert parse_passive_port(sessions[2].command("PASV")) in ports


def test_one_identity_leaves_data_ports_to_others(open_door, alice, pki):
    ports = free_pair()
    with open_door(data_ports=ports) as door:
        one, two, other = (new_session(door, who) for who in (alice, alice, pki.user("Other")))
        port = parse_passive_port(one.command("EPSV"))
        assert parse_passive_port(one.command("EPSV"))
        with pytest.raises(Refused) as refused:
            two.command("EPSV")
        assert "too many data ports" in refused.value.meaning.message
        assert parse_passive_port(other.command("EPSV")) in ports
        for mode, verb in (("S", "MLSD /dir"), ("E", "MLSD /dir")):
            one.command("DCAU N")
            one.command(f"MODE {mode}")
            port = parse_passive_port(one.command("EPSV"))
            with socket.create_connection(("127.0.0.1", port)):
                one.send(verb)
                assert [one.next_reply().code for _ in range(2)] == [150, 226]
            assert parse_passive_port(two.command("EPSV"))
            two.command("ABOR")
            two.leave()
            two = new_session(door, alice)


def test_one_identity_leaves_data_connections_to_others(open_door, alice, pki):
    def listed(session, mode="S"):
        session.command("DCAU N")
        session.command(f"MODE {mode}")
        port = parse_passive_port(session.command("EPSV"))
        sock = socket.create_connection(("127.0.0.1", port))
        session.send("MLSD /dir")
        code = session.next_reply().code
        return sock, session.next_reply().code if code == 150 else code

    with open_door(max_data_connections=2) as door:
        one, two, other = (new_session(door, who) for who in (alice, alice, pki.user("Other")))
        assert [listed(one)[1] for _ in range(3)] == [226] * 3
        kept = listed(one, "E")
        assert kept[1] == 226
        assert listed(two)[1] == 425
        assert listed(other)[1] == 226
        one.leave()
        eventually(lambda: door.sessions == 2)
        assert [listed(two)[1] for _ in range(3)] == [226] * 3


def test_a_small_range_serves_many_files_in_a_row(open_door, alice):
    ports = free_pair()
    with open_door(data_ports=ports) as door, GridFtpClient(alice) as client:
        for _ in range(10):
            assert client.read(f"gsiftp://localhost:{door.port}/dir/a") == b"a"


def test_active_mode_can_be_off_and_the_reply_says_what_to_do(open_door, alice):
    with open_door(active=False) as door:
        session = new_session(door, alice)
        session.send("PORT 127,0,0,1,80,80")
        reply = session.next_reply()
        assert reply.code == 425
        assert "passive mode" in reply.text


def test_a_foreign_target_is_refused(session):
    for command in ("PORT 10,0,0,1,80,80", "EPRT |2|::1|5000|", "SPOR 127,0,0,1,80,80 192,168,1,1,80,80"):
        assert code_of(session, command) == 504
    assert code_of(session, "RETR /file") == 425


def test_authenticated_data_need_a_delegated_credential(session):
    session.command("DCAU A")
    session.command("EPSV")
    with pytest.raises(Refused) as refused:
        session.command("RETR /file")
    assert "delegate" in refused.value.meaning.message


def test_mode_e_over_several_connections(session, files):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    for line in ("MODE E", "OPTS RETR Parallelism=3,3,3;", f"PORT 127,0,0,1,{port >> 8},{port & 255}"):
        session.command(line)
    ends = []
    for _ in range(2):  # the second transfer uses the connections of the first
        session.send("RETR /file")
        reply = session.next_reply()
        if not ends:
            assert reply.code == 150
            ends = [listener.accept()[0] for _ in range(3)]
        else:
            assert reply.code == 125
        assert _read_blocks(ends) == (files.root / "file").read_bytes()
        assert session.next_reply().code == 226
    session.command("MODE S")
    assert code_of(session, "RETR /file") == 150
    for end in ends:
        assert end.recv(1) == b""
        end.close()
    listener.close()


def _read_blocks(ends):
    whole = bytearray(1 << 20)
    streams = []

    def read(sock):
        with sock.makefile("rb", buffering=0) as file:
            while True:
                head = _exactly(file, 17)
                flags, count, offset = (
                    head[0],
                    int.from_bytes(head[1:9], "big"),
                    int.from_bytes(head[9:], "big"),
                )
                if flags & 0x40:
                    streams.append(offset)
                whole[offset : offset + count] = _exactly(file, count) if count else b""
                if flags & 0x08:
                    return

    threads = [threading.Thread(target=read, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert streams == [len(ends)]
    return bytes(whole)


def _exactly(file, count):
    data = b""
    while len(data) < count:
        part = file.read(count - len(data))
        assert part
        data += part
    return data


# --- clients that misbehave


def test_200_idle_connections_delay_nobody(door, client):
    idle = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(200)]
    for sock in idle[::2]:
        sock.sendall(b"AUTH GSSAPI\r\nADAT AAAA")
    eventually(lambda: door.sessions == 200)
    begun = time.monotonic()
    assert client.read(url(door, "/dir/a")) == b"a"
    assert time.monotonic() - begun < 10
    for sock in idle:
        sock.close()
    eventually(lambda: door.sessions == 1)


@pytest.mark.parametrize(
    "junk",
    [
        b"A" * 200_000,
        b"\xff" * 1000 + b"\n",
        b"\x16\x03\x01\x02\x00" + bytes(600),
        b"GET / HTTP/1.1\r\n\r\n",
        b"AUTH GSSAPI\r\nADAT " + b"A" * 100_000 + b"\r\n",
        b"AUTH GSSAPI\r\nADAT !!!\r\n",
    ],
    ids=["oversized", "bytes", "tls", "http", "garbage token", "no base64"],
)
def test_junk_harms_nobody(open_door, client, junk):
    with open_door(login_s=0.5) as door:
        with socket.create_connection(("127.0.0.1", door.port)) as sock:
            sock.settimeout(5)
            try:
                sock.sendall(junk)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass
        assert client.read(url(door, "/dir/a")) == b"a"


def test_a_login_has_a_deadline_however_slowly_it_drips(open_door):
    with (
        open_door(login_s=0.5) as door,
        socket.create_connection(("127.0.0.1", door.port)) as sock,
    ):
        sock.settimeout(0.05)
        assert sock.recv(100).startswith(b"220 ")
        begun = time.monotonic()
        while not _farewell(sock):
            sock.sendall(b"N")
            assert time.monotonic() - begun < 10


def _farewell(sock):
    try:
        return sock.recv(100).startswith(b"421 ")
    except TimeoutError:
        return False


def test_an_idle_session_ends(open_door, alice):
    with open_door(idle_s=0.3) as door:
        session = new_session(door, alice)
        assert session.next_reply().code == 421
        eventually(lambda: door.sessions == 0)


def test_sessions_are_bounded(open_door, alice, client):
    with open_door(max_sessions_per_address=2) as door:
        sessions = [new_session(door, alice) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", door.port)) as third:
            assert third.recv(100).startswith(b"421 ")
        assert [code_of(session, "NOOP") for session in sessions] == [200, 200]
        sessions[0].leave()
        eventually(lambda: door.sessions == 1)
        assert client.read(url(door, "/dir/a")) == b"a"


@pytest.mark.parametrize("bounds", [{"max_sessions": 3}, {"max_sessions_per_address": 3}], ids=str)
def test_who_says_nothing_makes_room(open_door, alice, client, bounds):
    with open_door(**bounds) as door:
        session = new_session(door, alice)
        silent = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(2)]
        assert [sock.recv(100)[:4] for sock in silent] == [b"220 "] * 2
        assert client.read(url(door, "/dir/a")) == b"a"
        assert silent[0].recv(100) == b""
        assert code_of(session, "NOOP") == 200
        eventually(lambda: door.sessions == 3)
        for sock in silent:
            sock.close()


def test_a_door_without_threads_turns_one_away_and_lives(door, client, monkeypatch):
    start, refused = threading.Thread.start, []

    def starting(thread):
        if thread.name == "gsiftp" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    with socket.create_connection(("127.0.0.1", door.port)) as sock:
        assert sock.recv(1000).startswith(b"421 ")
        assert sock.recv(1000) == b""
    assert client.read(url(door, "/dir/a")) == b"a"
    assert door.sessions == 1


def test_sessions_of_one_identity_are_bounded(open_door, pki, alice):
    bob = pki.proxy(pki.user("Bob"))
    with open_door(max_sessions_per_identity=1) as door:
        session = new_session(door, alice)
        with pytest.raises(errors.Overloaded, match="too many sessions"):
            new_session(door, alice)
        eventually(lambda: door.sessions == 1)
        new_session(door, bob).leave()
        session.leave()
        eventually(lambda: door.sessions == 0)
        new_session(door, alice).leave()


@pytest.mark.parametrize(("mode", "command"), [("S", "MLSD /dir"), ("E", "NLST /dir"), ("S", "MLSR /dir")])
def test_a_listing_is_sent_while_it_is_read(open_door, files, alice, monkeypatch, mode, command):
    """Of a huge directory no more than a piece is held; who goes away in the middle ends it."""
    (entry,) = [one for one in files.listdir(None, "/dir") if one.path == "/dir/a"]

    def endless(*_):
        while True:
            yield entry

    monkeypatch.setattr(files, "listdir", endless)
    with open_door() as door:
        session = new_session(door, alice)
        session.command("DCAU N")
        session.command(f"MODE {mode}")
        port = parse_passive_port(session.command("EPSV"))
        with socket.create_connection(("127.0.0.1", port)) as sock:
            session.send(command)
            assert session.next_reply().code == 150
            assert len(sock.recv(1000, socket.MSG_WAITALL)) == 1000
        assert session.next_reply().code == 426


class Slow:
    """Files that are read when a test says so."""

    def __init__(self, files):
        self._files = files
        self.readers = []
        self.go_on = threading.Event()

    def __getattr__(self, name):
        return getattr(self._files, name)

    def open(self, principal, path):
        file = self._files.open(principal, path)
        return SlowFile(file, lambda: self._wait(principal.dn))

    def _wait(self, reader):
        self.readers.append(reader)
        assert self.go_on.wait(10)


class SlowFile:
    """One of them."""

    def __init__(self, file, wait):
        self._file = file
        self._wait = wait

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.__exit__(*error)

    def extents(self, start, end):
        self._wait()
        return self._file.extents(start, end)


def test_checksums_take_turns_and_one_identity_has_half_of_them(files, gate, pki, alice):
    slow = Slow(files)
    door = GridFtpDoor(slow, gate, GridFtpSettings(port=0, data_ports=(0, 0), max_sums=2), SystemClock())
    door.start()
    try:
        hers, other = [new_session(door, alice) for _ in range(3)], new_session(door, pki.user("Other"))
        for session in (*hers, other):
            session.send("CKSM MD5 0 -1 /file")
            eventually(lambda: slow.readers)
        eventually(lambda: len(slow.readers) == 2)
        assert slow.readers == [pki.dn(alice), pki.dn(pki.user("Other"))]
        assert code_of(new_session(door, alice), "CKSM ADLER32 0 -1 /file") == 213
        hers[1].send("ABOR")
        assert hers[1].next_reply().code == 426
        slow.go_on.set()
        assert [session.next_reply().code for session in (hers[0], hers[2], other)] == [213] * 3
    finally:
        door.stop()


def test_the_default_bounds_bear_a_site_behind_one_address_and_one_identity():
    settings = GridFtpSettings()
    assert 620 < settings.max_sessions_per_address < settings.max_sessions
    assert 620 < settings.max_sessions_per_identity < settings.max_sessions


def test_a_door_that_is_closed_cuts_its_sessions(open_door, alice):
    with open_door() as door:
        session = new_session(door, alice)
        door.stop()
        with pytest.raises(OSError, match="closed"):
            session.command("NOOP")
        assert door.sessions == 0
