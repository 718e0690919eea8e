import base64
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest, TooLarge
from srm_dicom.ids import SitePath
from srm_dicom.transfer.files import FileInfo
from srm_dicom.wire.gridftp import addresses, facts
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.gridftp.blocks import BlockQueue, Flag, Header, end_of_stream, ends_of_streams
from srm_dicom.wire.gridftp.lines import LineReader
from srm_dicom.wire.gridftp.ranges import Restart, Section
from srm_dicom.wire.gridftp.replies import Reply, ReplyReader
from srm_dicom.wire.gridftp.session import parse_command

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=60)


def lines_of(reader):
    return list(iter(reader.next_line, None))


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)), st.integers(1, 20))
def test_lines_are_the_same_however_the_bytes_are_cut(lines, size):
    data = b"".join(line + b"\r\n" for line in lines)
    reader = LineReader()
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    assert lines_of(reader) == lines


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_line_has_a_bound(ending):
    reader = LineReader(max_line_bytes=100)
    reader.feed(b"x" * 100 + b"\r\n")
    assert lines_of(reader) == [b"x" * 100]
    with pytest.raises(TooLarge):
        reader.feed(b"x" * 102 + ending)


def test_a_reader_says_when_enough_is_pipelined():
    reader = LineReader(max_waiting_bytes=10)
    reader.feed(b"NOOP\r\nNOOP\r\n")
    assert not reader.full
    reader.feed(b"NOOP\r\n")
    assert reader.full
    lines_of(reader)
    assert not reader.full


@given(st.binary(max_size=200))
def test_any_line_is_a_command_or_none(line):
    command = parse_command(line)
    assert command.verb == command.verb.upper()
    assert command.verb == "" or command.verb.isalpha()


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"retr /a b", "RETR", "/a b"),
        (b"PASV", "PASV", ""),
        (b"PASV ", "PASV", ""),
        (b"QUIT\0", "QUIT", ""),
        (b"R2D2 x", "", ""),
        (b"", "", ""),
        (b" RETR x", "", ""),
    ],
)
def test_commands(line, verb, argument):
    command = parse_command(line)
    assert (command.verb, command.argument) == (verb, argument)


@given(st.integers(100, 639), st.lists(TEXT, min_size=1, max_size=5))
def test_replies_are_read_as_they_were_written(code, lines):
    reply = Reply.of(code, *lines)
    reader = ReplyReader()
    *inner, last = [reader.feed_line(line.removesuffix(b"\r\n")) for line in reply.encode()]
    assert inner == [None] * (len(lines) - 1)
    assert last.code == code
    assert [line.strip() for line in last.lines] == [line.strip() for line in lines]


def test_no_line_can_be_forged_inside_a_reply():
    assert Reply.of(550, "a\r\n226 done").encode() == [b"550 a 226 done\r\n"]


@given(st.binary(max_size=60))
def test_any_line_is_a_reply_a_part_of_one_or_refused(line):
    try:
        reply = ReplyReader().feed_line(line)
    except InvalidRequest:
        return
    assert reply is None or 100 <= reply.code < 700


HOSTS = st.ip_addresses().map(lambda address: addresses.plain(str(address)))
PORTS = st.integers(1, 65535)


@given(st.ip_addresses(v=4).map(str), PORTS)
def test_port_and_pasv(host, port):
    address = Address(host, port)
    assert addresses.parse_port(addresses.six_numbers(address)) == address
    assert addresses.parse_passive_port(addresses.pasv_reply(address)) == port


@given(HOSTS, PORTS)
def test_eprt_and_epsv(host, port):
    family = 2 if ":" in host else 1
    assert addresses.parse_eprt(f"|{family}|{host}|{port}|") == Address(host, port)
    assert addresses.parse_passive_port(addresses.epsv_reply(Address(host, port))) == port


def test_a_mapped_address_is_the_ipv4_address():
    assert addresses.parse_eprt("|2|::ffff:127.0.0.1|2000|") == Address("127.0.0.1", 2000)


@given(st.text(max_size=40))
def test_what_is_no_address_is_refused(text):
    for parse in (addresses.parse_port, addresses.parse_eprt, addresses.parse_spor):
        try:
            parse(text)
        except InvalidRequest:
            continue


@pytest.mark.parametrize(
    "text", ["1,2,3,4,5", "1,2,3,4,5,256", "1,2,3,4,0,0", "", "a,b,c,d,e,f", "1,2,3,4,5,6,7"]
)
def test_bad_port_arguments(text):
    with pytest.raises(InvalidRequest):
        addresses.parse_port(text)


def test_spor_takes_several():
    assert len(addresses.parse_spor("127,0,0,1,9,9 127,0,0,1,9,10")) == 2
    with pytest.raises(InvalidRequest):
        addresses.parse_spor(" ".join(["127,0,0,1,9,9"] * 17))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from(list(Flag)))
def test_block_headers(count, offset, flag):
    header = Header(flag, count, offset)
    assert Header.decode(header.encode()) == header


@given(st.binary(max_size=20))
def test_any_bytes_are_a_header_or_refused(data):
    try:
        header = Header.decode(data)
    except InvalidRequest:
        return
    assert header.encode() == data


def test_the_first_stream_tells_how_many_there_are():
    assert end_of_stream(0, 4).encode() == bytes([0x48]) + bytes(8) + (4).to_bytes(8, "big")
    assert end_of_stream(3, 4).encode() == bytes([0x08]) + bytes(16)


def test_each_node_of_a_striped_receiver_hears_of_its_own_connections():
    eof, end = Flag.EOF | Flag.EOD, Flag.EOD
    ends = ends_of_streams(["a", "b", "a", "a"])
    assert [(head.flags, head.offset) for head in ends] == [(eof, 3), (eof, 1), (end, 0), (end, 0)]


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted).map(tuple), max_size=8)


@given(st.integers(0, 200), st.integers(0, 200), st.none() | st.integers(0, 300), SPANS)
def test_what_is_sent_and_what_was_received_are_the_section(size, offset, length, received):
    section = Section(offset, length)
    restart = Restart.parse(",".join(f"{a}-{b}" for a, b in received)) if received else Restart()
    if offset > size:
        with pytest.raises(InvalidRequest):
            section.to_send(size, restart)
        return
    sent = [byte for a, b in section.to_send(size, restart) for byte in range(a, b)]
    end = size if length is None else min(size, offset + length)
    had = {offset + byte for a, b in received for byte in range(a, b)}
    assert sent == [byte for byte in range(offset, end) if byte not in had]
    cut = BlockQueue(section.to_send(size, restart), block_bytes=7)
    blocks = list(iter(cut.take, None))
    assert [byte for a, n in blocks for byte in range(a, a + n)] == sent
    assert all(0 < count <= 7 for _, count in blocks)


@given(st.text(max_size=40))
def test_rest_takes_offsets_and_ranges_only(text):
    try:
        restart = Restart.parse(text)
    except InvalidRequest:
        return
    assert restart.offset >= 0


@pytest.mark.parametrize("text", ["", "-1", "5-3", "1-2,", "99999999999999999999", "0-9223372036854775808"])
def test_bad_rest_arguments(text):
    with pytest.raises(InvalidRequest):
        Restart.parse(text)


def info(path="/vo/f.dcm.c4gh", *, directory=False, size=5):
    shown = datetime(2026, 2, 1, tzinfo=UTC)
    return FileInfo(SitePath(path), directory, size, "00000001", shown, online=True)


def test_facts_are_read_as_they_were_written():
    line = facts.fact_line(info(), facts.ALL_FACTS, "f.dcm.c4gh")
    read, name = facts.parse_facts(line)
    assert name == "f.dcm.c4gh"
    assert read["type"] == "file"
    assert read["size"] == "5"
    assert read["modify"] == "20260201000000"


@pytest.mark.parametrize(
    ("directory", "writable", "removable", "perm", "mode"),
    [
        (False, False, False, "r", "0444"),
        (False, True, True, "dfrw", "0644"),
        (False, False, True, "dfr", "0444"),
        (True, False, False, "el", "0555"),
        (True, True, False, "celmp", "0755"),
        (True, True, True, "cdeflmp", "0755"),
    ],
)
def test_perm_and_mode_are_the_callers(directory, writable, removable, perm, mode):
    file = replace(info(directory=directory), writable=writable, removable=removable)
    read, _ = facts.parse_facts(facts.fact_line(file, facts.ALL_FACTS, "x"))
    assert (read["perm"], read["unix.mode"]) == (perm, mode)
    kind = "d" if directory else "-"
    assert facts.list_line(file).startswith(f"{kind}r{'w' if writable else '-'}")


def test_a_size_that_nobody_knows_is_not_told():
    assert "Size" not in facts.fact_line(info(size=None), facts.ALL_FACTS, "x")
    assert facts.size_reply(info(size=None)).refused


def test_mlst_is_what_clients_parse():
    first, line, last = facts.mlst_reply(info(), ("Type", "Size")).encode()
    assert first == b"250-status of /vo/f.dcm.c4gh\r\n"
    assert line == b" Type=file;Size=5; /vo/f.dcm.c4gh\r\n"
    assert last == b"250 End.\r\n"


def test_the_client_chooses_facts():
    assert facts.choose("size;type;inode;") == ("Type", "Size")
    assert facts.feature(("Type",)).startswith("MLST Type*;Modify;Size;")


@given(st.text(max_size=60))
def test_any_listing_line_is_facts_or_refused(text):
    try:
        read, _ = facts.parse_facts(text)
    except InvalidRequest:
        return
    assert all(key == key.lower() for key in read)


def test_the_longest_login_fits_into_a_line():
    reader = LineReader()
    reader.feed(b"ADAT " + base64.b64encode(bytes(100_000)) + b"\r\n")
    assert len(lines_of(reader)) == 1
