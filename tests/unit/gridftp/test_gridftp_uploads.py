"""Uploads and changes of names through the door, by hand: every mode, every way to break off."""

import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from srm_dicom.client.ftp_session import Refused, Session, Timeouts, Turl
from srm_dicom.wire.gridftp.addresses import parse_passive_port

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def door(open_door, files):
    with open_door(writing=files) as door:
        yield door


@pytest.fixture
def session(door, alice):
    return Session(Turl("localhost", door.port, "/"), alice, Timeouts(10, 10, 10))


def replies(session):
    """Read the replies of a transfer up to its last one."""
    seen = []
    while not seen or seen[-1].preliminary:
        seen.append(session.next_reply())
    return seen


def connect(session, passive="EPSV"):
    return socket.create_connection(("127.0.0.1", parse_passive_port(session.command(passive))), 10)


def store(session, command, data):
    with connect(session) as sock:
        session.send(command)
        sock.sendall(data)
    return replies(session)


def block(flags, data=b"", offset=0):
    return struct.pack(">BQQ", flags, len(data), offset) + data


def end(streams=None):
    return block(0x08) if streams is None else block(0x48, offset=streams)


# --- stream mode


def test_a_file_arrives_whole_and_only_then_has_its_name(session, files):
    with connect(session) as sock:
        session.send("STOR /new")
        assert session.next_reply().code == 150
        sock.sendall(CONTENT)
        time.sleep(0.2)
        assert not (files.root / "new").exists()
    assert replies(session)[-1].code == 226
    assert (files.root / "new").read_bytes() == CONTENT


def test_markers_come_from_the_side_that_receives(session):
    """In stream mode none says from where to go on: Globus's client cannot read it there."""
    first, *middle, marker, last = store(session, "STOR /new", CONTENT)
    assert first.code == 150
    assert all(reply.code == 112 for reply in middle)
    assert marker.code == 112
    assert f" Stripe Bytes Transferred: {len(CONTENT)}" in marker.lines
    assert last.code == 226


def test_an_empty_file(session, files):
    assert store(session, "STOR /new", b"")[-1].code == 226
    assert (files.root / "new").read_bytes() == b""


def test_a_restart_goes_on_where_the_marker_said(session, files):
    session.command("ALLO 1000")
    assert store(session, "STOR /new", CONTENT[:600])[-1].code == 451  # announced and not sent
    assert not (files.root / "new").exists()
    session.command("REST 600")
    assert store(session, "STOR /new", CONTENT[600:1000])[-1].code == 226
    assert (files.root / "new").read_bytes() == CONTENT[:1000]


def test_a_restart_behind_the_end_would_leave_a_hole(session, files):
    session.command("REST 600")
    session.command("EPSV")
    with pytest.raises(Refused, match="fewer bytes"):
        session.command("STOR /new")
    assert not (files.root / "new").exists()


def test_append_and_parts(session, files):
    session.command("ALLO 1000")
    store(session, "STOR /new", CONTENT[:100])
    assert store(session, "APPE /new", CONTENT[100:200])[-1].code == 226
    assert (files.root / "new").read_bytes() == CONTENT[:200]
    assert store(session, "ESTO A 50 /part", b"x" * 10)[-1].code == 226
    assert (files.root / "part").read_bytes() == bytes(50) + b"x" * 10


@pytest.mark.parametrize("data_first", [False, True])
def test_a_client_that_leaves_publishes_nothing(session, files, door, data_first):
    """Its kernel closes its connections in an order of its own."""
    sock = connect(session)
    session.send("STOR /new")
    assert session.next_reply().code == 150
    sock.sendall(CONTENT)
    first, last = (sock, session._sock) if data_first else (session._sock, sock)
    first.close()
    time.sleep(0.02 * data_first)
    last.close()
    deadline_s = time.monotonic() + 10
    while door.sessions:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    assert not (files.root / "new").exists()


def test_a_client_that_leaves_with_much_unread_publishes_nothing(session, files, door):
    """What waits behind the transfer is not read without end, and hides no client's end."""
    session._sock.settimeout(0.5)
    with connect(session) as sock:
        session.send("STOR /new")
        assert session.next_reply().code == 150
        sock.sendall(CONTENT)
        with suppress(TimeoutError):
            for _ in range(20_000):
                session.send("NOOP")
        session._sock.close()
        time.sleep(0.1)
    deadline_s = time.monotonic() + 10
    while door.sessions:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    assert not (files.root / "new").exists()


def test_a_sender_that_stalls_is_dropped_and_the_session_lives(open_door, files, alice):
    with open_door(writing=files, data_stall_s=0.5) as door:
        session = Session(Turl("localhost", door.port, "/"), alice, Timeouts(10, 10, 10))
        with connect(session) as sock:
            session.send("STOR /new")
            sock.sendall(b"x")
            assert replies(session)[-1].code == 426
        assert session.command("NOOP").code == 200
        assert not (files.root / "new").exists()


# --- MODE E


def test_blocks_of_several_connections_in_any_order(session, files):
    session.command("MODE E")
    port = parse_passive_port(session.command("SPAS"))
    session.send("STOR /new")
    socks = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(3)]
    socks[2].sendall(block(0, CONTENT[2000:], 2000) + end())
    socks[0].sendall(block(0, CONTENT[1000:2000], 1000))
    socks[1].sendall(end(3))
    time.sleep(0.1)
    for byte in block(0, CONTENT[:1000], 0) + end():  # a slow one
        socks[0].sendall(bytes([byte]))
    assert replies(session)[-1].code == 226
    assert (files.root / "new").read_bytes() == CONTENT
    # the connections are there still: the next transfer uses two of them
    session.send("STOR /second")
    socks[1].sendall(block(0, b"second", 0) + end(2))
    socks[0].sendall(end())
    assert replies(session)[0].code == 125
    assert (files.root / "second").read_bytes() == b"second"


def test_a_restart_in_blocks_sends_what_is_missing(session, files):
    session.command("MODE E")
    session.command("ALLO 300")
    with connect(session) as sock:
        session.send("STOR /new")
        sock.sendall(block(0, b"c" * 100, 200) + block(0, b"a" * 100, 0) + block(0x0C) + end(1))
        seen = replies(session)
    assert seen[-2].lines == ("Range Marker 0-100,200-300",)
    session.command("REST 0-100,200-300")
    with connect(session) as sock:
        session.send("STOR /new")
        sock.sendall(block(0, b"b" * 100, 100) + end(1))
        assert replies(session)[-1].code == 226
    assert (files.root / "new").read_bytes() == b"a" * 100 + b"b" * 100 + b"c" * 100


@pytest.mark.parametrize("missing", [(0, 50), (100, 200)])
def test_what_has_holes_is_not_finished(session, files, missing):
    session.command("MODE E")
    for ranges in ([(0, missing[0]), (missing[1], 300)], [missing]):
        with connect(session) as sock:
            session.send("STOR /new")
            pieces = [block(0, CONTENT[start:last], start) for start, last in ranges if last > start]
            sock.sendall(b"".join(pieces) + end(1))
            seen = replies(session)
        if ranges != [missing]:
            assert seen[-1].code == 451
            assert f"{missing[0]}-{missing[1]}" in seen[-1].text
            assert not (files.root / "new").exists()
            session.command("REST " + ",".join(f"{start}-{last}" for start, last in ranges if last > start))
    assert seen[-1].code == 226
    assert (files.root / "new").read_bytes() == CONTENT[:300]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff" * 17, 501),
        (block(0, b"x" * 100, 0)[:50], 426),
        (block(0, b"x", 2**63), 501),
        (block(0x48, b"x", 1), 501),
        (end(), 425),
    ],
    ids=["no block", "cut", "offset", "data at the end", "too few"],
)
def test_what_is_no_mode_e_is_refused_and_the_session_lives(open_door, files, alice, data, code):
    with open_door(writing=files, data_connect_s=0.5) as door:
        session = Session(Turl("localhost", door.port, "/"), alice, Timeouts(10, 10, 10))
        session.command("MODE E")
        with connect(session) as sock:
            session.send("STOR /new")
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert replies(session)[-1].code == code
        assert session.command("NOOP").code == 200
        assert not (files.root / "new").exists()


def test_connections_of_a_transfer_are_bounded(open_door, files, alice):
    with open_door(writing=files, max_streams=2) as door:
        session = Session(Turl("localhost", door.port, "/"), alice, Timeouts(10, 10, 10))
        session.command("MODE E")
        port = parse_passive_port(session.command("EPSV"))
        session.send("STOR /new")
        socks = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(3)]
        assert replies(session)[-1].code == 501
        for sock in socks:
            sock.close()


def test_in_mode_e_the_sender_connects(session):
    session.command("MODE E")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    session.command(f"PORT 127,0,0,1,{port >> 8},{port & 255}")
    session.send("STOR /new")
    assert replies(session)[-1].code == 425
    listener.close()


def test_abor_ends_an_upload(session, files):
    session.command("MODE E")
    with connect(session) as sock:
        session.send("STOR /new")
        assert session.next_reply().code == 150
        sock.sendall(block(0, b"x", 0))
        session.send("ABOR")
        assert [replies(session)[-1].code, session.next_reply().code] == [426, 226]
    assert not (files.root / "new").exists()


# --- rights and names


def test_where_the_right_is_missing_nothing_is_written(session, files):
    session.command("EPSV")
    with pytest.raises(Refused, match="Permission denied"):
        session.command("STOR /dir/c")
    assert (files.root / "dir" / "c").read_text() == "c"


def test_what_is_sealed_does_not_cross_the_network_in_clear(session, files):
    files.sealed = {"/new"}
    session.send("STOR /new")
    assert session.next_reply().code == 534


def test_names_are_made_renamed_and_removed(session, files):
    assert session.command("MKD /fresh").code == 257
    with pytest.raises(Refused, match="File exists"):
        session.command("MKD /fresh")
    store(session, "STOR /fresh/a", b"a")
    with pytest.raises(Refused, match="Directory not empty"):
        session.command("RMD /fresh")
    assert session.command("RNFR /fresh/a").code == 350
    assert session.command("RNTO /fresh/b").code == 250
    assert session.command("DELE /fresh/b").code == 250
    assert session.command("RMD /fresh").code == 250
    assert not (files.root / "fresh").exists()
    session.send("RNTO /x")
    assert session.next_reply().code == 503
    with pytest.raises(Refused, match="No such file"):
        session.command("RNFR /absent")


def test_a_deep_listing(session):
    with connect(session) as sock:
        session.send("MLSR /")
        listing = sock.makefile("rb").read().decode()
    assert replies(session)[-1].code == 226
    names = [line.rpartition(" ")[2] for line in listing.splitlines()]
    assert names == [".", "dir", "dir/a", "dir/c", "dir/d", "empty", "file"]


def test_many_uploads_at_once_are_kept_apart(door, files, alice):
    def upload(number):
        session = Session(Turl("localhost", door.port, "/"), alice, Timeouts(20, 20, 20))
        assert store(session, f"STOR /n{number}", bytes([number]) * 100_000)[-1].code == 226

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(8):
        assert (files.root / f"n{number}").read_bytes() == bytes([number]) * 100_000


@pytest.mark.parametrize("name", ["a+b", "/dir/no thing", "x" * 256])
def test_who_makes_a_name_that_cannot_be_is_told_the_rule(session, name):
    session.command("RNFR /file")
    for command in ("RNTO {}", "MKD {}", "STOR {}", "APPE {}", "ESTO A 0 {}"):
        session.send(command.format(name))
        reply = session.next_reply()
        assert (reply.code, "[A-Za-z0-9._-]" in reply.text) == (553, True)
    for command in ("SIZE {}", "DELE {}", "RNFR {}", "RETR {}", "CWD {}"):
        session.send(command.format(name))
        reply = session.next_reply()
        assert (reply.code, "No such file" in reply.text) == (550, True)


@pytest.mark.parametrize(("first", "whole"), [((0, 50), 50), ((10, 50), 0)])
def test_nobody_goes_on_behind_what_has_not_come(session, files, first, whole):
    """A transfer in MODE E broke off with holes: what was never sent is not there as zeros."""
    session.command("MODE E")
    pieces = b"".join(block(0, CONTENT[start:last], start) for start, last in (first, (100, 200)))
    assert store(session, "STOR /new", pieces)[-1].code == 426
    session.command("MODE S")
    assert store(session, "APPE /new", CONTENT[200:300])[-1].code == 501
    for offset in (whole + 1, 200):
        session.command(f"REST {offset}")
        assert store(session, "STOR /new", CONTENT[offset:300])[-1].code == 501
    session.command(f"REST {whole}")
    assert store(session, "STOR /new", CONTENT[whole:300])[-1].code == 226
    assert (files.root / "new").read_bytes() == CONTENT[:300]
