"""The container: header, segments, ranges, and what it does and does not notice."""

import secrets
from itertools import accumulate

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.crypto import crypt4gh, keyfile, siv
from srm_dicom.crypto.crypt4gh import HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES, Header, Layout
from srm_dicom.errors import IntegrityError, InvalidRequest, NotSupported
from srm_dicom.ids import Guid

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PRIVATE = KEY.private_bytes_raw()
PUBLIC = KEY.public_key().public_bytes_raw()
GUID = Guid("6f9619ff-8b86-4d01-b42d-00c04fc964ff")
SESSION = b"s" * 32
SIZES = [0, 1, 100, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 200_000]


def sealed(clear: bytes) -> bytes:
    sealer = siv.Sealer(b"k" * 32, GUID, PUBLIC)
    sealer.absorb(clear)
    return b"".join(sealer.seal().file([clear]))


def opened(file: bytes) -> bytes:
    header = Header.parse(file)
    layout = Layout(len(file), header.size_bytes)
    reader = siv.verified_reader(header.open(PRIVATE), layout)
    clear = reader.update(file[header.size_bytes :])
    reader.finish()
    return bytes(clear)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens(size):
    clear = secrets.token_bytes(size)
    file = sealed(clear)
    assert len(file) == crypt4gh.sealed_size(size)
    assert Layout(len(file)).clear_bytes == size
    assert opened(file) == clear


@given(st.lists(st.integers(0, 90_000), max_size=6), st.lists(st.integers(1, 90_000), min_size=1, max_size=6))
def test_chunks_of_any_size_give_the_same_bytes(writes, reads):
    clear = bytes(sum(writes))
    whole = sealed(clear)
    sealer = siv.Sealer(b"k" * 32, GUID, PUBLIC)
    at = 0
    for size in writes:
        sealer.absorb(clear[at : at + size])
        at += size
    ends = list(accumulate(writes))
    pieces = [memoryview(clear)[end - size : end] for size, end in zip(writes, ends, strict=True)]
    file = b"".join(sealer.seal().file(pieces))
    assert file == whole

    reader = siv.verified_reader(Header.parse(file).open(PRIVATE), Layout(len(file)))
    got, at = b"", HEADER_BYTES
    while at < len(file):
        size = reads[at % len(reads)]
        got += reader.update(file[at : at + size])
        at += size
    reader.finish()
    assert got == clear


@given(st.integers(0, 200_001), st.integers(0, 200_001), st.sampled_from(SIZES))
def test_any_range_reads_only_its_segments(start, length, size):
    clear = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    file = sealed(clear)
    layout = Layout(len(file))
    window = layout.window(start, length)
    reader = siv.verified_reader(Header.parse(file).open(PRIVATE), layout)
    assert (
        reader.read(window, file[window.offset : window.offset + window.size_bytes])
        == clear[start : start + length]
    )
    assert window.size_bytes <= (length // SEGMENT_BYTES + 2) * SEALED_SEGMENT_BYTES


def test_header_can_be_handed_on_without_touching_the_data():
    other = X25519PrivateKey.generate()
    file = sealed(b"pixels" * 30_000)
    header = Header.parse(file)
    new = header.reencrypt(PRIVATE, other.public_key().public_bytes_raw(), secrets.token_bytes(32), b"n" * 12)
    assert Header.parse(new).open(other.private_bytes_raw()) == header.open(PRIVATE)
    with pytest.raises(InvalidRequest):
        Header.parse(new).open(PRIVATE)


def test_a_header_for_several_recipients_opens_for_each():
    other = X25519PrivateKey.generate()
    one = crypt4gh.write_header(SESSION, PUBLIC, b"e" * 32, b"n" * 12)
    two = crypt4gh.write_header(SESSION, other.public_key().public_bytes_raw(), b"f" * 32, b"n" * 12)
    both = one[:12] + (2).to_bytes(4, "little") + two[16:] + one[16:]
    assert Header.parse(both + b"segments follow").open(PRIVATE) == SESSION
    assert Header.parse(both).open(other.private_bytes_raw()) == SESSION
    twice = one[:12] + (2).to_bytes(4, "little") + one[16:] + one[16:]
    with pytest.raises(NotSupported):
        Header.parse(twice).open(PRIVATE)


def test_moved_cut_and_repeated_segments_are_noticed():
    file = sealed(bytes(3 * SEGMENT_BYTES))
    header, body = file[:HEADER_BYTES], file[HEADER_BYTES:]
    parts = [body[at : at + SEALED_SEGMENT_BYTES] for at in range(0, len(body), SEALED_SEGMENT_BYTES)]
    for wrong in ([1, 0, 2], [0, 1], [0, 1, 1], [1, 2], [0, 1, 2, 2]):
        with pytest.raises(IntegrityError):
            opened(header + b"".join(parts[i] for i in wrong))


def test_the_format_alone_does_not_notice_a_cut():
    """Why `siv` and the manifest exist."""
    file = sealed(bytes(3 * SEGMENT_BYTES))[:-SEALED_SEGMENT_BYTES]
    reader = crypt4gh.SegmentReader(Header.parse(file).open(PRIVATE), Layout(len(file)))
    assert reader.update(file[HEADER_BYTES:]) == bytes(2 * SEGMENT_BYTES)


@pytest.mark.parametrize("at", [HEADER_BYTES + 3, HEADER_BYTES + 500, -1])
def test_a_changed_byte_is_noticed(at):
    file = bytearray(sealed(b"pixels" * 100))
    file[at] ^= 1
    with pytest.raises(IntegrityError):
        opened(bytes(file))


def test_bytes_after_the_end_and_a_cut_segment_are_noticed():
    file = sealed(b"pixels" * 100)
    session_key = Header.parse(file).open(PRIVATE)
    with pytest.raises(IntegrityError):
        siv.verified_reader(session_key, Layout(len(file))).update(file[HEADER_BYTES:] + b"x")
    reader = siv.verified_reader(session_key, Layout(len(file)))
    reader.update(file[HEADER_BYTES:-1])
    with pytest.raises(IntegrityError):
        reader.finish()
    window = Layout(len(file)).window(0, 10)
    with pytest.raises(IntegrityError):
        reader.read(window, b"")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(data):
    for text in (data, crypt4gh.MAGIC + b"\1\0\0\0" + data):
        try:
            header = Header.parse(text)
            header.open(PRIVATE)
        except (InvalidRequest, NotSupported):
            pass


@given(st.integers(-5, 400_000))
def test_impossible_sizes_are_refused(size):
    try:
        layout = Layout(size)
    except InvalidRequest:
        return
    assert crypt4gh.sealed_size(layout.clear_bytes) == size


def test_a_key_of_small_order_is_refused():
    with pytest.raises(InvalidRequest):
        crypt4gh.write_header(SESSION, bytes(32), b"e" * 32, b"n" * 12)


def test_key_files_come_back():
    assert keyfile.read_secret_key(keyfile.write_secret_key(PRIVATE, "series")) == PRIVATE
    assert keyfile.read_public_key(keyfile.write_public_key(PUBLIC)) == PUBLIC
    with pytest.raises(InvalidRequest):
        keyfile.read_secret_key(keyfile.write_public_key(PUBLIC))


@given(st.text(max_size=80))
def test_any_text_is_a_key_file_or_refused(text):
    for body in (text, f"-----BEGIN CRYPT4GH PRIVATE KEY-----\n{text}\n-----END CRYPT4GH PRIVATE KEY-----\n"):
        with pytest.raises((InvalidRequest, NotSupported)):
            keyfile.read_secret_key(body)
