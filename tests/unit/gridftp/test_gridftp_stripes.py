"""Transfer nodes and the links between them, by hand: shares, rights, strangers, nodes that die."""

import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from srm_dicom import errors
from srm_dicom.audit.doors import DoorLog
from srm_dicom.client.ftp_session import Session, Timeouts, Turl
from srm_dicom.clock import SystemClock
from srm_dicom.daemon import outer
from srm_dicom.demo.site import DemoSite
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.delegation import DelegatedCredential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.certificates import read_credential
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.arriving import CannotConnect
from srm_dicom.transfer.dataends import DataSettings
from srm_dicom.transfer.gridftp import GridFtpDoor
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.transfer.stripelink import StripeLink, StripeNodes
from srm_dicom.transfer.stripenode import NodeServices, StripeNode
from srm_dicom.turns import Turns
from srm_dicom.wire.gridftp import stripes
from srm_dicom.wire.gridftp.addresses import Address, parse_port
from srm_dicom.wire.gridftp.blocks import BlockReader, Flag

DOOR_DN = "/DC=test/DC=mdm/CN=localhost"
CLEAR = stripes.Way("N", "", "C")


# --- dividing a transfer

RANGES = st.lists(st.integers(0, 10_000), max_size=12).map(
    lambda numbers: list(zip(sorted(numbers)[::2], sorted(numbers)[1::2], strict=False))
)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 20), RANGES)
def test_shares_are_the_whole_and_every_address_hears_how_many_connect(nodes, addresses, streams, ranges):
    targets = [Address("192.0.2.1", 5000 + number) for number in range(addresses)]
    found = stripes.shares(nodes, targets, streams, ranges)
    wanted = [byte for start, end in ranges for byte in range(start, end)]
    assert [byte for share in found for start, end in share.ranges for byte in range(start, end)] == wanted
    sizes = [sum(end - start for start, end in share.ranges) for share in found]
    assert max(sizes) - min(sizes) <= 1
    assert all(share.targets for share in found)
    connections = [pair for share in found for pair in zip(share.targets, share.ends, strict=True)]
    for target in targets:
        ends = [end for to, end in connections if to == target]
        assert [end.offset for end in ends if Flag.EOF in end.flags] == [len(ends)]
    assert len(connections) <= max(16, nodes, addresses)


# --- messages


@given(st.binary(max_size=200))
def test_what_is_no_message_is_refused(body):
    for decode in (stripes.decode_asked, stripes.decode_answered):
        with pytest.raises(errors.InvalidRequest):
            decode(body)


def test_a_message_has_a_bound():
    with pytest.raises(errors.TooLarge):
        stripes.length_of(b"\xff\xff\xff\xff")
    with pytest.raises(errors.TooLarge):
        stripes.encode(stripes.Progress(0, tuple((n, n + 1) for n in range(0, 400_000, 2))))


@given(st.builds(stripes.Listening, st.text(max_size=20), st.integers(0, 65535)))
@settings(max_examples=20)
def test_messages_are_read_as_they_were_written(message):
    assert stripes.decode_answered(stripes.encode(message)[stripes.LENGTH_BYTES :]) == message


# --- a node


class Doors(DirectoryFiles):
    """The same directory, by the rights that one node knows."""


@pytest.fixture
def node_files(files):
    return Doors(files.root, hidden=set(), unreadable=set())


@pytest.fixture
def node(pki, gate, node_files):
    clock = SystemClock()
    services = NodeServices(
        node_files, node_files, gate, clock,
        DataSettings((0, 0), None, 5.0, 5.0), PeerPolicy(), frozenset({DOOR_DN}),
        DoorLog(None, "stripes", clock), handshake_s=5.0,
    )  # fmt: skip
    node = StripeNode(services, "127.0.0.2", 0)
    node.start()
    yield node
    node.stop()


def host_credential(pki, name="localhost"):
    host = pki.host(name)
    return Credential(host.certificate, host.key, pki.trust_dir)


def nodes_of(pki, port, **options):
    defaults = {"connect_s": 5.0, "silence_s": 5.0}
    return StripeNodes([Address("127.0.0.2", port)], host_credential(pki), **(defaults | options))


def begin_of(pki, user, peer="127.0.0.1"):
    chain, _ = read_credential(user)
    der = chain[-1].public_bytes(Encoding.DER)
    expires = datetime.now(UTC) + timedelta(hours=1)
    return stripes.Begin(pki.dn(user), (), False, False, expires, peer, der)


def quiet():
    """Guard nothing."""


@pytest.fixture
def link(pki, alice, node):
    nodes = nodes_of(pki, node.port)
    with closing(nodes.open(nodes.nodes[0], begin_of(pki, alice), SystemClock(), again=True)) as link:
        yield link


@pytest.fixture
def receiver():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def send_of(receiver, path="/file", **changes):
    host, port = receiver.getsockname()
    fields = {
        "path": path, "way": CLEAR, "targets": ((host, port),), "ends": ((int(Flag.EOF | Flag.EOD), 1),),
        "ranges": ((100, 200),), "base": 0, "fresh": True,
    }  # fmt: skip
    return stripes.Send(**(fields | changes))


def test_a_node_sends_its_share(link, receiver, files):
    done = link.ask(send_of(receiver), quiet)
    assert done == stripes.Done(100)
    sock, _ = receiver.accept()
    with sock:
        data = sock.recv(17 + 100 + 17, socket.MSG_WAITALL)
    assert data[17:117] == (files.root / "file").read_bytes()[100:200]
    assert struct.unpack(">BQQ", data[:17]) == (0, 100, 100)
    assert struct.unpack(">BQQ", data[117:]) == (0x48, 0, 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("hidden", errors.NotFound),
        ("unreadable", errors.NotAuthorised),
        ("nearline", errors.RequestExpired),
        ("members", errors.NotFound),
    ],
)
def test_a_node_decides_by_itself_who_reads(link, receiver, node_files, change, error):
    """The door's word says who it is, never what they may."""
    setattr(node_files, change, {"/file"} if change != "members" else {"/DC=test/DC=mdm/CN=Bob"})
    with pytest.raises(error):
        link.ask(send_of(receiver), quiet)
    receiver.settimeout(0.2)
    with pytest.raises(TimeoutError):
        receiver.accept()


def test_a_node_decides_by_itself_who_writes(link, node_files, files):
    link.listen(quiet)
    with pytest.raises((errors.NotFound, OSError)):
        link.ask(stripes.Receive("/never-begun", CLEAR, 0), quiet)
    assert not (files.root / "never-begun").exists()


@pytest.mark.parametrize("ranges", [((0, 2**40),), ((-5, 5),), ((10, 5),)])
def test_a_share_lies_within_its_file(link, receiver, ranges):
    with pytest.raises(errors.InvalidRequest):
        link.ask(send_of(receiver, ranges=ranges), quiet)


def test_a_node_connects_to_nobody_that_the_site_does_not_allow(link, receiver):
    for host in ("127.0.0.3", "10.0.0.1", "169.254.1.1"):
        with pytest.raises(errors.NotSupported):
            link.ask(send_of(receiver, targets=((host, 5000),)), quiet)


def test_a_path_outside_the_tree_does_not_exist(link, receiver):
    with pytest.raises(errors.NotFound):
        link.ask(send_of(receiver, path="/../etc/passwd"), quiet)


def test_without_a_delegated_credential_nothing_is_authenticated(link, receiver):
    with pytest.raises(CannotConnect, match="delegate"):
        link.ask(send_of(receiver, way=stripes.Way("A", "", "C")), quiet)


# --- who may ask a node


@pytest.mark.parametrize("who", ["another host", "a user", "a proxy of the door", "nobody"])
def test_only_the_doors_of_the_site_are_let_in(pki, node, alice, who):
    if who == "another host":
        shown = host_credential(pki, "elsewhere")
    elif who == "a proxy of the door":
        shown = pki.proxy(host_credential(pki), limited=True)
    else:
        shown = pki.user("Alice")
    context = shown.client_context()
    if who == "nobody":
        context = ssl.create_default_context(capath=str(pki.trust_dir))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with pytest.raises(OSError):  # noqa: PT011 the handshake's, or an end instead of an answer
        greet(node, context, begin_of(pki, alice))


def greet(node, context, begin):
    with (
        socket.create_connection(("127.0.0.2", node.port), 5) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.2") as tls,
    ):
        link = StripeLink(tls, 5.0, SystemClock())
        link.send(begin, quiet)
        return link.receive(quiet)


def test_a_door_of_the_site_is_let_in(pki, node, alice):
    answer = greet(node, host_credential(pki).client_context(), begin_of(pki, alice))
    assert stripes.decode_answered(answer) == stripes.Done()


def test_a_banned_caller_is_refused_by_the_node(pki, alice, tmp_path, node_files):
    clock, bans = SystemClock(), tmp_path / "bans"
    bans.write_text(f'"{pki.dn(alice)}"\n')
    gate = Gate(TrustSettings(pki.trust_dir, ban_file=bans), pki.host(), clock)
    services = NodeServices(
        node_files, node_files, gate, clock, DataSettings((0, 0)), PeerPolicy(),
        frozenset({DOOR_DN}), DoorLog(None, "stripes", clock),
    )  # fmt: skip
    node = StripeNode(services, "127.0.0.2", 0)
    node.start()
    try:
        nodes = nodes_of(pki, node.port)
        with pytest.raises(CannotConnect, match="banned"):
            nodes.open(nodes.nodes[0], begin_of(pki, alice), clock, again=True)
    finally:
        node.stop()


def test_one_caller_leaves_sessions_of_a_node_to_others(pki, alice, node, gate, node_files):
    services = NodeServices(
        node_files, node_files, gate, SystemClock(), DataSettings((0, 0)), PeerPolicy(),
        frozenset({DOOR_DN}), DoorLog(None, "stripes", SystemClock()), identities=Turns(2, 1),
    )  # fmt: skip
    node = StripeNode(services, "127.0.0.2", 0)
    node.start()
    nodes = nodes_of(pki, node.port)

    def opened(user):
        return nodes.open(nodes.nodes[0], begin_of(pki, user), SystemClock(), again=False)

    try:
        with closing(opened(alice)):
            with pytest.raises(CannotConnect, match="too many sessions"):
                opened(alice)
            opened(pki.user("Other")).close()
        deadline_s = time.monotonic() + 5
        while node.sessions:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        opened(alice).close()
    finally:
        node.stop()


def test_what_is_no_message_ends_the_link(pki, node):
    context = host_credential(pki).client_context()
    with (
        socket.create_connection(("127.0.0.2", node.port), 5) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.2") as tls,
    ):
        tls.sendall(b"\x00\x00\x00\x02{}")
        assert tls.recv(1) == b""


# --- a door and its nodes


@pytest.fixture
def door(pki, open_door, files, node):
    with open_door(writing=files, nodes=nodes_of(pki, node.port)) as door:
        yield door


def new_session(door, user):
    return Session(Turl("localhost", door.port, "/"), user, Timeouts(15, 15, 15))


def stripes_of(session):
    return [parse_port(line.strip()) for line in session.command("SPAS").lines[1:-1]]


def block(flags, data=b"", offset=0):
    return struct.pack(">BQQ", flags, len(data), offset) + data


def last_reply(session):
    while (reply := session.next_reply()).preliminary:
        pass
    return reply


def read_blocks(sock, into):
    """Read one connection to its end; return how many there are if it says so."""
    reader = BlockReader()
    while reader.wants:
        data = sock.recv(min(reader.wants, 65536))
        assert data
        place = reader.feed(memoryview(data))
        if place is not None:
            into[place : place + len(data)] = data
    return reader.connections


def test_every_node_has_an_address_and_takes_its_part(door, alice, files):
    session = new_session(door, alice)
    session.command("MODE E")
    own, other = stripes_of(session)
    assert [own.host, other.host] == ["127.0.0.1", "127.0.0.2"]
    session.send("STOR /new")
    assert session.next_reply().code == 150
    with (
        socket.create_connection((own.host, own.port), 5) as one,
        socket.create_connection((other.host, other.port), 5) as two,
    ):
        two.sendall(block(0, b"world", 5) + block(0x48, offset=1))
        one.sendall(block(0, b"hello", 0) + block(0x48, offset=1))
        seen = []
        while not seen or seen[-1].preliminary:
            seen.append(session.next_reply())
    assert seen[-1].code == 226
    assert (files.root / "new").read_bytes() == b"helloworld"
    markers = [line for reply in seen for line in reply.lines]
    assert " Stripe Index: 1" in markers
    assert " Total Stripe Count: 2" in markers
    assert "Range Marker 0-10" in markers


def test_a_file_comes_from_every_node(door, alice, files, receiver):
    session = new_session(door, alice)
    host, port = receiver.getsockname()
    for command in ("MODE E", f"SPOR {host.replace('.', ',')},{port >> 8},{port & 255}"):
        session.command(command)
    session.send("RETR /file")
    content = bytearray(1 << 20)
    socks = [receiver.accept()[0] for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda sock: read_blocks(sock, content), socks))
    assert last_reply(session).code == 226
    assert content == (files.root / "file").read_bytes()
    assert sorted(found, key=str) == [2, None]
    for sock in socks:
        sock.close()


def test_a_node_that_leaves_in_the_middle_ends_the_transfer(door, alice, node, files):
    session = new_session(door, alice)
    session.command("MODE E")
    own, _ = stripes_of(session)
    session.send("STOR /new")
    assert session.next_reply().code == 150
    with socket.create_connection((own.host, own.port), 5) as one:
        one.sendall(block(0, b"hello", 0) + block(0x48, offset=1))
        time.sleep(0.2)
        node.stop()
        reply = last_reply(session)
    assert reply.code == 426
    assert "transfer node" in reply.text
    assert not (files.root / "new").exists()
    session.command("NOOP")


def test_a_client_that_leaves_frees_the_node(door, alice, node):
    session = new_session(door, alice)
    session.command("MODE E")
    stripes_of(session)
    session.send("STOR /new")
    assert session.next_reply().code == 150
    assert node.sessions == 1
    session._sock.close()
    until_s = time.monotonic() + 10
    while node.sessions:
        assert time.monotonic() < until_s
        time.sleep(0.02)


@pytest.mark.parametrize("layout", ["Partitioned;", "Blocked;BlockSize=1048576;"])
def test_a_layout_is_the_senders_affair(door, alice, layout):
    """GFD.020, 5.3.1."""
    session = new_session(door, alice)
    assert session.command(f"OPTS RETR StripeLayout={layout}").code == 200
    session.send("OPTS RETR StripeLayout=Unknown;")
    assert session.next_reply().code == 501


def test_nodes_are_only_asked_when_there_is_something_to_do(door, alice, node):
    session = new_session(door, alice)
    session.command("EPSV")
    session.command("MLST /file")
    assert node.sessions == 0


@contextmanager
def silent_node():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("how", ["silent", "closed"])
def test_a_node_that_does_not_answer_is_named(pki, open_door, files, alice, how):
    with silent_node() as listening:
        port = listening if how == "silent" else 1
        with open_door(writing=files, nodes=nodes_of(pki, port, connect_s=0.5)) as door:
            session = new_session(door, alice)
            session.command("MODE E")
            session.send("SPAS")
            reply = session.next_reply()
    assert reply.code == 425
    assert f"127.0.0.2:{port}" in reply.text


def test_a_node_that_falls_silent_is_lost(pki, alice):
    """The handshake is answered, and nothing after it."""
    server = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock()).server_context()
    with socket.create_server(("127.0.0.2", 0)) as listener:
        kept = []

        def answer():
            sock, _ = listener.accept()
            kept.append(server.wrap_socket(sock, server_side=True))

        threading.Thread(target=answer, daemon=True).start()
        nodes = nodes_of(pki, listener.getsockname()[1], silence_s=0.3)
        with pytest.raises(CannotConnect, match="stopped moving data"):
            nodes.open(nodes.nodes[0], begin_of(pki, alice), SystemClock(), again=True)
        with pytest.raises(CannotConnect, match="just now"):
            nodes.open(nodes.nodes[0], begin_of(pki, alice), SystemClock(), again=False)


def test_a_node_with_the_certificate_of_another_host_is_not_asked(pki, alice):
    with socket.create_server(("127.0.0.3", 0)) as listener:
        threading.Thread(target=_forward_handshake, args=(listener, pki), daemon=True).start()
        nodes = StripeNodes([Address("127.0.0.3", listener.getsockname()[1])], host_credential(pki))
        with pytest.raises(CannotConnect):
            nodes.open(nodes.nodes[0], begin_of(pki, alice), SystemClock(), again=True)


def _forward_handshake(listener, pki):
    sock, _ = listener.accept()
    context = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock()).server_context()
    with pytest.raises(OSError):  # noqa: PT011 the client's alert
        context.wrap_socket(sock, server_side=True).recv(1)


@pytest.mark.parametrize("private", [True, False], ids=["private", "clear"])
@pytest.mark.parametrize("who", ["Alice", "Mallory"])
def test_data_connections_of_a_node_are_with_the_user_alone(pki, node, gate, receiver, files, who, private):
    """DCAU A holds on every node: the other end shows a proxy of the user who logged in at the door."""
    owner = pki.user("Alice")
    chain, key = read_credential(pki.proxy(owner))
    expires = datetime.now(UTC) + timedelta(hours=1)
    pem = DelegatedCredential(tuple(chain), key, limited=False, expires=expires).pem()
    begin = msgspec.structs.replace(begin_of(pki, owner), credential=pem)
    nodes = nodes_of(pki, node.port)
    peer = pki.user(who)
    peer_chain, peer_key = read_credential(pki.proxy(peer))
    shown = DelegatedCredential(tuple(peer_chain), peer_key, limited=False, expires=expires)
    security = DataSecurity(shown, peer_chain[-1].public_bytes(Encoding.DER), gate, SystemClock())
    clock = SystemClock()
    order = send_of(receiver, way=stripes.Way("A", "", "P" if private else "C"))
    with closing(nodes.open(nodes.nodes[0], begin, clock, again=True)) as link, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(link.ask, order, quiet)
        sock, _ = receiver.accept()
        sock.settimeout(5)
        if who == "Mallory":
            assert nothing_from(security, sock, private=private)
            with pytest.raises(CannotConnect):
                asked.result(10)
            return
        content = bytearray(200)
        with security.secure(sock, accepted=True, private=private) as data:
            read_blocks(data, content)
        assert asked.result(10) == stripes.Done(100)
    assert content[100:] == (files.root / "file").read_bytes()[100:200]


def nothing_from(security, sock, *, private):
    """Tell whether a connection ends without a byte, in its handshake or after it."""
    try:
        with security.secure(sock, accepted=True, private=private) as data:
            return not data.recv(1)
    except (errors.NotAuthenticated, OSError):
        return True
    finally:
        sock.close()


def test_both_sides_are_made_from_the_configuration(tmp_path):
    site = DemoSite(tmp_path)
    site.pki = TestPki(tmp_path / "pki", fast=True)
    site.write()
    with site.config.open("a") as file:
        file.write(f'\n[stripes]\ndoors = ["{DOOR_DN}"]\nnodes = ["127.0.0.2:2812"]\n')
        file.write('[stripes.listen]\nhost = "127.0.0.2"\nport = 0\n')
    services = outer.stripe(site.config)
    *_, node = services
    for service in services:
        service.start()
    try:
        begin = begin_of(site.pki, site.pki.user("Alice"))
        shown = host_credential(site.pki).client_context()
        assert stripes.decode_answered(greet(node, shown, begin)) == stripes.Done()
    finally:
        for service in reversed(services):
            service.stop()
    assert any(isinstance(service, GridFtpDoor) for service in outer.transfer(site.config))


@pytest.mark.parametrize("text", ["", "node", "node:", ":2812", "node:0", "node:99999", "node:x"])
def test_a_node_is_a_host_and_a_port(text):
    with pytest.raises(errors.ConfigError):
        outer.address_of(text)


def test_a_node_may_be_an_ipv6_address():
    assert outer.address_of("[::1]:2812") == Address("::1", 2812)
