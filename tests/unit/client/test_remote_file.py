"""A remote sealed file reads like the clear one, and fetches no more than it must."""

import io
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from srm_dicom.client.remote import MAX_WINDOW, SealedFile, buffered
from srm_dicom.crypto.crypt4gh import HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import IntegrityError, InvalidRequest
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_dicom.testing.images import SeriesSpec, make_series

GUID = Guid("6f1f7f0e-5e0b-5f0e-9a35-0f0d3f3c1b52")
PRIVATE = bytes(range(32))


def public_of(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def sealed(clear, seal_key=bytes(32)):
    sealer = Sealer(seal_key, GUID, public_of(PRIVATE))
    sealer.absorb(clear)
    return b"".join(sealer.seal().file([clear]))


def manifest(data, header_bytes=HEADER_BYTES):
    whole, header = Digest(), Digest()
    whole.update(data)
    header.update(data[:header_bytes])
    release = Release("heart", "basic", "1")
    key = public_of(PRIVATE)
    return Manifest(GUID, 1, len(data), whole.adler32, whole.blake3, release, key, header.blake3)


class Stored:
    """Sealed bytes that count how often and how much of them is read."""

    def __init__(self, data):
        self.data = data
        self.reads = []

    def __call__(self, start, length):
        self.reads.append((start, length))
        return self.data[start : start + length]

    @property
    def bytes_read(self):
        return sum(length for _, length in self.reads)

    def open(self, **more):
        return buffered(SealedFile(self, manifest(self.data), PRIVATE, **more))


CLEAR = os.urandom(5 * SEGMENT_BYTES + 1234)
SEALED = sealed(CLEAR)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]),
            st.integers(-len(CLEAR), len(CLEAR) + 10),
            st.one_of(st.integers(0, 3 * SEGMENT_BYTES), st.none()),
        ),
        max_size=12,
    )
)
def test_it_reads_as_a_local_file_does(steps):
    remote, local = Stored(SEALED).open(), io.BytesIO(CLEAR)
    for whence, offset, count in steps:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: local.tell(), io.SEEK_END: len(CLEAR)}[whence]
        if base + offset >= 0:
            assert remote.seek(offset, whence) == local.seek(base + offset)
        assert remote.read(count) == local.read(count)
        assert remote.tell() == local.tell()


@pytest.mark.parametrize("size", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1])
def test_sizes_at_the_edges(size):
    stored = Stored(sealed(CLEAR[:size]))
    assert stored.open().read() == CLEAR[:size]


def test_a_byte_costs_the_header_and_its_segment():
    stored = Stored(SEALED)
    file = stored.open()
    file.seek(3 * SEGMENT_BYTES + 7)
    assert file.read(1) == CLEAR[3 * SEGMENT_BYTES + 7 :][:1]
    assert stored.reads == [
        (0, HEADER_BYTES + SEALED_SEGMENT_BYTES),
        (HEADER_BYTES + 3 * SEALED_SEGMENT_BYTES, SEALED_SEGMENT_BYTES),
    ]


def test_reading_on_fetches_ahead_and_nothing_twice():
    clear = os.urandom(40 * SEGMENT_BYTES)
    stored = Stored(sealed(clear))
    file = stored.open()
    assert b"".join(iter(lambda: file.read(10_000), b"")) == clear
    assert stored.bytes_read == len(stored.data)
    assert len(stored.reads) == 6, "windows of 1, 2, 4, 8, 16 and the rest"
    assert max(length for _, length in stored.reads) == MAX_WINDOW * SEALED_SEGMENT_BYTES


def test_the_header_of_an_image_costs_one_segment():
    image = make_series(SeriesSpec("CT", 1, rows=512, columns=512))[0]
    clear = io.BytesIO()
    image.save_as(clear, enforce_file_format=True)
    stored = Stored(sealed(clear.getvalue()))
    assert dcmread(stored.open(), stop_before_pixels=True).Rows == 512
    assert stored.bytes_read == HEADER_BYTES + SEALED_SEGMENT_BYTES


def test_a_segment_that_was_moved_is_refused():
    first, second = (HEADER_BYTES + n * SEALED_SEGMENT_BYTES for n in (1, 2))
    swapped = (
        SEALED[:first]
        + SEALED[second : second + SEALED_SEGMENT_BYTES]
        + SEALED[first:second]
        + SEALED[second + SEALED_SEGMENT_BYTES :]
    )
    file = Stored(swapped).open()
    assert file.read(SEGMENT_BYTES) == CLEAR[:SEGMENT_BYTES]
    with pytest.raises(IntegrityError):
        file.read(1)


def test_a_cut_file_is_refused_where_it_was_cut():
    cut = SEALED[: HEADER_BYTES + 2 * SEALED_SEGMENT_BYTES]
    file = Stored(cut).open()
    with pytest.raises(IntegrityError):
        file.read()


def test_another_key_is_refused():
    with pytest.raises(InvalidRequest):
        SealedFile(Stored(SEALED), manifest(SEALED), bytes(reversed(PRIVATE)))


def test_a_file_that_somebody_else_sealed_to_the_same_key_is_refused():
    forged = sealed(CLEAR, seal_key=bytes([1] * 32))
    with pytest.raises(IntegrityError, match="header"):
        SealedFile(Stored(forged), manifest(SEALED), PRIVATE)


def test_closing_tells_once_and_ends_reading():
    told = []
    file = Stored(SEALED).open(on_close=lambda: told.append("closed"))
    with file:
        file.read(1)
    file.close()
    assert told == ["closed"]
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
