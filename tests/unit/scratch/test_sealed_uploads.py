"""Uploads that identify patients, in scratch: what is written is what is read, and the disk has noise."""

import errno
import os
import random
import threading
import zlib

import pytest

from srm_dicom.errors import Aborted, Busy, IntegrityError, NoSpace, Overloaded
from srm_dicom.scratch import sealeduploads
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.sealeduploads import BLOCK_BYTES, OPEN_BLOCKS, SealedBounds, SealedUploads
from srm_dicom.scratch.uploads import PlainFile, UploadSlot

NAME, OTHER = "a" * 32, "b" * 32
CANARY = b"DOE^JANE^CANARY;"


@pytest.fixture
def area(tmp_path):
    return ScratchArea(tmp_path / "scratch")


@pytest.fixture
def uploads(area):
    return SealedUploads(area)


@pytest.fixture
def on_disk(tmp_path):
    def everything():
        return b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    return everything


def slot(uploads, keep_bytes=None, max_bytes=10**9, name=NAME):
    return UploadSlot(uploads.open(name), keep_bytes, max_bytes)


def content_of(uploads, name=NAME):
    content = b""
    while piece := uploads.read(name, len(content), 100_000):
        content += piece
    return content


def test_what_is_written_in_order_is_read_and_summed(uploads, on_disk):
    content = (CANARY * 40_000)[: 4 * BLOCK_BYTES + 17]
    file = slot(uploads)
    for start in range(0, len(content), 16_000):
        file.write(start, content[start : start + 16_000])
    assert file.complete() == (len(content), f"{zlib.adler32(content):08x}")
    file.close()
    assert content_of(uploads) == content
    assert uploads.total_bytes == len(content)
    assert CANARY not in on_disk()
    assert len(on_disk()) == 5 * (BLOCK_BYTES + 16)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_a_plain_file_would_be_in_any_order(uploads, tmp_path, seed):
    """Writes at any offset, over each other, with holes; cut, closed and gone on with; read meanwhile."""
    chance = random.Random(seed)
    end = 40 * BLOCK_BYTES
    plain = UploadSlot(PlainFile.take(tmp_path / "plain"), 0, end)
    sealed = slot(uploads, 0, end)
    for step in range(120):
        offset = chance.randrange(end)
        size = min(end - offset, chance.choice([1, 1000, BLOCK_BYTES, 3 * BLOCK_BYTES + 5]))
        if chance.random() < 0.3:
            offset = offset // BLOCK_BYTES * BLOCK_BYTES
        piece = chance.randbytes(size)
        for one in (plain, sealed):
            one.write(offset, piece)
        if step % 40 == 39:
            keep = chance.randrange(plain.size_bytes)
            plain.close()
            sealed.close()
            plain = UploadSlot(PlainFile.take(tmp_path / "plain"), keep, end)
            sealed = slot(uploads, keep, end)
        at = chance.randrange(end)
        assert uploads.read(NAME, at, 200_000) == (tmp_path / "plain").read_bytes()[at : at + 200_000]
    assert sealed.complete() == plain.complete()
    assert uploads.total_bytes == plain.size_bytes


def test_streams_write_at_once(uploads):
    content = os.urandom(64 * 40_000)
    file = slot(uploads)

    def write(number):
        for piece in range(number, 64, 8):
            file.write(piece * 40_000, content[piece * 40_000 : (piece + 1) * 40_000])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.complete() == (len(content), f"{zlib.adler32(content):08x}")
    assert content_of(uploads) == content


def test_no_nonce_serves_twice(uploads, monkeypatch):
    spent, true_cipher = [], sealeduploads.AESGCM

    class Cipher:
        def __init__(self, key):
            self._cipher = true_cipher(key)
            self.decrypt = self._cipher.decrypt

        def encrypt(self, nonce, data, extra):
            spent.append(nonce)
            return self._cipher.encrypt(nonce, data, extra)

    monkeypatch.setattr(sealeduploads, "AESGCM", Cipher)
    file = slot(uploads)
    for _ in range(3):
        for block in range(2 * OPEN_BLOCKS):
            file.write(block * BLOCK_BYTES + 10, CANARY)
        file.write(0, bytes(2 * BLOCK_BYTES))
    file.complete()
    assert len(spent) > 6 * OPEN_BLOCKS, "blocks were written again"
    assert len(set(spent)) == len(spent)


def test_not_even_a_failed_write_gives_its_nonce_back(uploads, monkeypatch):
    file = slot(uploads)
    file.write(0, bytes(BLOCK_BYTES))
    whole = os.pwrite

    def full(descriptor, data, offset):
        whole(descriptor, data[:100], offset)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace):
        file.write(BLOCK_BYTES, CANARY * (BLOCK_BYTES // 16))
    assert file.size_bytes == BLOCK_BYTES == uploads.total_bytes
    monkeypatch.setattr(os, "pwrite", whole)
    file.write(BLOCK_BYTES, bytes(BLOCK_BYTES))
    assert list(uploads._files[NAME]._numbers) == [1, 3]
    assert content_of(uploads) == bytes(2 * BLOCK_BYTES)


def test_an_upload_goes_on_where_there_was_no_room(uploads, monkeypatch):
    """In pieces of another size than those that found none, within a block that was never written."""
    file = slot(uploads)
    file.write(0, bytes(BLOCK_BYTES))
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(NoSpace):
        file.write(BLOCK_BYTES, CANARY * (BLOCK_BYTES // 16))
    monkeypatch.setattr(os, "pwrite", whole)
    file.write(BLOCK_BYTES, CANARY)
    assert file.complete() == (BLOCK_BYTES + 16, f"{zlib.adler32(bytes(BLOCK_BYTES) + CANARY):08x}")
    file.close()
    assert content_of(uploads) == bytes(BLOCK_BYTES) + CANARY


def test_the_last_bytes_may_find_no_room(uploads, monkeypatch):
    file = slot(uploads)
    file.write(0, CANARY)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(NoSpace):
        file.complete()
    file.close()
    monkeypatch.setattr(os, "pwrite", whole)
    again = slot(uploads)
    assert again.complete() == (len(CANARY), f"{zlib.adler32(CANARY):08x}")


def test_other_bytes_on_the_disk_are_found_out(uploads, area):
    """Changed ones, those of another block, and an older state of the same block."""
    file = slot(uploads)
    path = area.incoming(NAME)
    file.write(0, b"1" * BLOCK_BYTES)
    older = path.read_bytes()
    file.write(0, b"2" * BLOCK_BYTES)
    file.write(BLOCK_BYTES, b"3" * BLOCK_BYTES)
    now = path.read_bytes()
    stride = BLOCK_BYTES + 16
    for forged in (older, now[stride:], bytes([now[0] ^ 1]) + now[1:], b""):
        path.write_bytes(forged + now[len(forged) :] if forged else b"")
        with pytest.raises(IntegrityError):
            uploads.read(NAME, 0, 10)
    path.write_bytes(now)
    assert uploads.read(NAME, 0, 1) == b"2"


def test_each_upload_has_a_key_of_its_own(uploads, area):
    for name in (NAME, OTHER):
        slot(uploads, name=name).write(0, b"x" * BLOCK_BYTES)
    one, other = (area.incoming(name).read_bytes() for name in (NAME, OTHER))
    assert one != other
    area.incoming(NAME).write_bytes(other)
    with pytest.raises(IntegrityError):
        uploads.read(NAME, 0, 10)


def test_one_door_at_a_time_and_the_next_goes_on(uploads):
    first = slot(uploads)
    first.write(0, b"abc")
    with pytest.raises(Busy):
        slot(uploads)
    first.close()
    second = slot(uploads, keep_bytes=2)
    assert second.size_bytes == 2
    second.write(2, b"X")
    assert second.complete()[0] == 3
    second.close()
    assert content_of(uploads) == b"abX"


def test_what_has_ended_leaves_nothing(uploads, area, on_disk):
    file = slot(uploads)
    file.write(0, b"x" * 3 * BLOCK_BYTES)
    uploads.end([NAME, OTHER])
    assert uploads.names() == set()
    assert uploads.total_bytes == 0
    assert not area.incoming(NAME).exists()
    with pytest.raises(Aborted):
        file.write(0, b"more")
    with pytest.raises(Aborted):
        file._body.cut(1)
    with pytest.raises(Overloaded):
        uploads.read(NAME, 0, 10)
    file.close()
    assert on_disk() == b""


def test_a_process_that_did_not_write_it_has_noise(uploads, area, on_disk):
    file = slot(uploads)
    file.write(0, CANARY * 10_000)
    file.complete()
    next_process = SealedUploads(area)
    assert CANARY not in next_process.read(NAME, 0, 1_000_000)
    again = slot(next_process)
    assert again.size_bytes == 0, "and begins anew"
    again.write(0, b"new")
    again.close()
    assert content_of(next_process) == b"new"


def test_bounds(area):
    uploads = SealedUploads(area, SealedBounds(uploads=2, total_bytes=100_000))
    first, second = slot(uploads), slot(uploads, name=OTHER)
    with pytest.raises(Overloaded):
        uploads.open("c" * 32)
    first.write(0, bytes(60_000))
    with pytest.raises(NoSpace):
        second.write(0, bytes(60_000))
    with pytest.raises(NoSpace):
        second.write(10**8, b"far away")
    first.write(0, bytes(60_000))
    uploads.end([NAME])
    second.write(0, bytes(60_000))
    assert uploads.open("c" * 32).size_bytes == 0


def test_other_uploads_are_read_as_they_are(uploads, area):
    area.incoming(OTHER).write_bytes(b"plain")
    assert uploads.read(OTHER, 1, 100) == b"lain"
