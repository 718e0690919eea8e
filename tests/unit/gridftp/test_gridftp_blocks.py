"""MODE E as it arrives, and what has arrived: against the simplest model, and against junk."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.gridftp.blocks import BlockReader, Flag, Header, end_of_stream
from srm_dicom.wire.gridftp.ranges import MAX_RANGES, Received

BLOCKS = st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=60)), max_size=8)
CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=10)


def read(reader, data, cuts):
    """Feed data in pieces of changing sizes; return the pieces that came out and what is left."""
    view, pieces, turn = memoryview(data), [], 0
    while view and reader.wants:
        count = min(len(view), reader.wants, cuts[turn % len(cuts)])
        place = reader.feed(view[:count])
        if place is not None:
            pieces.append((place, bytes(view[:count])))
        view, turn = view[count:], turn + 1
    return pieces, bytes(view)


@given(BLOCKS, CUTS, st.integers(1, 16))
def test_what_is_sent_arrives_however_it_is_cut(blocks, cuts, streams):
    sent = b"".join(Header(Flag(0), len(data), offset).encode() + data for offset, data in blocks)
    reader = BlockReader()
    pieces, left = read(reader, sent + end_of_stream(0, streams).encode() + b"next", cuts)
    assert left == b"next"
    assert (reader.ended, reader.connections, reader.closing) == (True, streams, False)
    expected, arrived = bytearray(3000), bytearray(3000)
    for offset, data in blocks:
        expected[offset : offset + len(data)] = data
    for offset, data in pieces:
        arrived[offset : offset + len(data)] = data
    assert arrived == expected


@settings(max_examples=300)
@given(st.binary(max_size=200), CUTS)
def test_any_bytes_are_blocks_or_refused(data, cuts):
    reader = BlockReader(max_end=10_000)
    try:
        pieces, _ = read(reader, data, cuts)
    except InvalidRequest:
        return
    assert all(place >= 0 and place + len(piece) <= 10_000 for place, piece in pieces)
    assert 0 <= reader.wants <= 10_000


@pytest.mark.parametrize(
    "header",
    [
        Header(Flag(0), 1, 2**63 - 1),
        Header(Flag(0), 2**64 - 1, 2**64 - 1),
        Header(Flag.EOF, 5, 1),
    ],
)
def test_what_no_file_can_hold_is_refused(header):
    with pytest.raises(InvalidRequest):
        BlockReader().feed(memoryview(header.encode()))


def test_close_and_an_end_of_data_with_data():
    reader = BlockReader()
    read(reader, Header(Flag.CLOSE | Flag.EOD, 3, 7).encode() + b"abc", [5])
    assert (reader.ended, reader.closing, reader.connections) == (True, True, None)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20))
def test_received_ranges_are_those_of_a_set(additions):
    received, model = Received(), set()
    for start, length in additions:
        received.add(start, start + length)
        model |= set(range(start, start + length))
    assert {byte for start, end in received.ranges for byte in range(start, end)} == model
    assert received.ranges == sorted(received.ranges)
    assert all(one[1] < other[0] for one, other in zip(received.ranges, received.ranges[1:], strict=False))
    assert received.end == max(model, default=-1) + 1
    assert str(received) == ",".join(f"{start}-{end}" for start, end in received.ranges)


def test_pieces_are_bounded():
    received = Received((2 * number, 2 * number + 1) for number in range(MAX_RANGES))
    with pytest.raises(InvalidRequest):
        received.add(2 * MAX_RANGES, 2 * MAX_RANGES + 1)
