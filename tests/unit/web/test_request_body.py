"""The body of a request as an application reads it."""

import io
import tracemalloc

import pytest

from srm_dicom.web.body import BodyReader

BOUND_BYTES = 32 * 1024 * 1024


@pytest.mark.parametrize("declared", [3, 1000])
def test_a_bound_is_no_room_that_is_made(declared):
    sent = bytes(declared)
    reader = BodyReader(io.BytesIO(sent), declared)
    tracemalloc.start()
    try:
        assert reader.read(BOUND_BYTES + 1) == sent
        assert tracemalloc.get_traced_memory()[1] < BOUND_BYTES / 100
    finally:
        tracemalloc.stop()
    assert reader.read(BOUND_BYTES + 1) == b""


def test_a_body_of_which_the_length_is_not_known_is_read_to_its_end():
    assert BodyReader(io.BytesIO(b"chunks"), None).read(BOUND_BYTES + 1) == b"chunks"


def test_a_body_is_read_in_pieces_and_whole():
    reader = BodyReader(io.BytesIO(b"abcdef"), 6)
    assert (reader.read(2), reader.read(0), reader.read(2), reader.read()) == (b"ab", b"", b"cd", b"ef")
