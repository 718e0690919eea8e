"""An object waits for its second pass, and no clear byte of it touches a disk."""

import errno
import os
import random
import subprocess
from dataclasses import replace
from itertools import pairwise

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import InternalError, NoSpace, ObjectRefused, TooLarge
from srm_dicom.scratch import spool as module
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.slot import FileSlot, SlotSettings
from srm_dicom.scratch.spool import SealedSpool

MARK = b"DOE^JANE 1970-01-01 "
PUBLIC = X25519PrivateKey.from_private_bytes(b"p" * 32).public_key().public_bytes_raw()


@pytest.fixture
def written(monkeypatch):
    """Everything that the spool hands to the operating system."""
    pieces = []
    true_write = os.write

    def write(descriptor, data):
        pieces.append(bytes(data))
        return true_write(descriptor, data)

    monkeypatch.setattr(module.os, "write", write)
    return pieces


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 700_000), max_size=8),
    memory_bytes=st.integers(0, 1_500_000),
    places=st.lists(st.integers(0, 5_600_000), min_size=2, max_size=8),
)
def test_what_was_written_is_replayed_and_read(tmp_path_factory, sizes, memory_bytes, places):
    directory = tmp_path_factory.getbasetemp()
    spool = SealedSpool(directory, memory_bytes=memory_bytes, max_bytes=10**8)
    pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    for piece in pieces:
        spool.write(piece)
    assert b"".join(map(bytes, spool.replay())) == b"".join(pieces)
    assert spool.size_bytes == sum(sizes)
    for start, stop in pairwise(place % (sum(sizes) + 1) for place in places):
        assert spool.read(start, stop) == b"".join(pieces)[start:stop]
    spool.close()


def test_a_large_object_reaches_the_disk_sealed_and_without_a_name(tmp_path, written):
    content = MARK * 200_000
    spool = SealedSpool(tmp_path, memory_bytes=1_000_000, max_bytes=10**8)
    for start in range(0, len(content), 50_000):
        spool.write(content[start : start + 50_000])
    on_disk = b"".join(written)
    assert len(on_disk) > 3_000_000
    assert MARK not in on_disk
    assert MARK[:8] not in on_disk
    assert list(tmp_path.iterdir()) == []
    assert b"".join(map(bytes, spool.replay())) == content
    spool.close()


def test_a_small_object_stays_in_memory(tmp_path, written):
    spool = SealedSpool(tmp_path / "absent", memory_bytes=1_000_000, max_bytes=10**8)
    spool.write(MARK * 1000)
    assert b"".join(map(bytes, spool.replay())) == MARK * 1000
    assert written == []


def test_two_spools_of_the_same_object_have_nothing_in_common(tmp_path, written):
    for _ in range(2):
        spool = SealedSpool(tmp_path, memory_bytes=0, max_bytes=10**8)
        spool.write(bytes(module.CHUNK_BYTES))
        spool.close()
    first, second = written
    assert first != second
    assert first[:16] != second[:16]


def test_a_spool_that_was_touched_is_refused(tmp_path):
    spool = SealedSpool(tmp_path, memory_bytes=0, max_bytes=10**8)
    spool.write(bytes(2 * module.CHUNK_BYTES))
    descriptor = spool._file._descriptor
    (byte,) = os.pread(descriptor, 1, module.CHUNK_BYTES + 100)
    os.pwrite(descriptor, bytes([byte ^ 1]), module.CHUNK_BYTES + 100)
    with pytest.raises(InvalidTag):
        list(spool.replay())
    spool.close()


def test_an_object_has_a_bound(tmp_path):
    spool = SealedSpool(tmp_path, memory_bytes=0, max_bytes=1000)
    spool.write(bytes(1000))
    with pytest.raises(TooLarge):
        spool.write(b"x")


class Ended:
    """A slot with what it told its owner."""

    def __init__(self, tmp_path, area, name, **bounds):
        self.outcomes = []
        settings = SlotSettings(tmp_path, **bounds)
        self.slot = FileSlot(
            name().guid, None, area.begin, settings, lambda _, outcome: self.outcomes.append(outcome)
        )


def test_a_slot_ends_once(tmp_path, outer, name):
    case = Ended(tmp_path, outer.area, name)
    case.slot.write(b"x")
    case.slot.commit()
    for call in (case.slot.commit, lambda: case.slot.write(b"y")):
        with pytest.raises(InternalError):
            call()
    case.slot.refuse("too late")
    assert [outcome.size_bytes for outcome in case.outcomes] == [1]


class Broken:
    """A file in scratch of which one call fails in a way that nobody expects."""

    def __init__(self, incoming, call, error):
        self._incoming, self._call, self._error = incoming, call, error

    def __getattr__(self, name):
        if name == self._call:
            raise self._error
        return getattr(self._incoming, name)


ERRORS = [OSError(errno.EIO, "DOE^JANE"), MemoryError(), ValueError("DOE^JANE")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("step", ["begin", "write", "finish", "take", "seal", "spool", "replay", "close"])
@pytest.mark.parametrize("way", ["written", "filled"])
def test_a_slot_has_an_outcome_whatever_happens(tmp_path, outer, name, monkeypatch, capsys, way, step, error):
    def fails(*_):
        raise error

    def begin():
        return fails() if step == "begin" else Broken(outer.area.begin(), step, error)

    for broken, target in (("spool", "_flush"), ("replay", "replay"), ("close", "close")):
        if step == broken:
            monkeypatch.setattr(SealedSpool, target, fails)
    if step == "seal":
        monkeypatch.setattr(Sealer, "seal", fails)
    outcomes, take = [], fails if step == "take" else lambda _size_bytes: None
    settings = SlotSettings(tmp_path, spool_above_bytes=5)
    sealer = Sealer(b"k" * 32, name().guid, PUBLIC)
    slot = FileSlot(name().guid, sealer, begin, settings, lambda _, one: outcomes.append(one), take)
    raised = None
    try:
        if way == "written":
            slot.write(MARK)
            slot.commit()
        else:
            slot.fill([MARK])
    except InternalError as caught:
        raised = caught
    slot.fail(NoSpace("later"))
    (outcome,) = outcomes
    if (way == "filled" and step in ("spool", "replay")) or step == "close":
        assert outcome.size_bytes
    else:
        assert isinstance(outcome, InternalError)
        assert raised is outcome
        assert outer.incoming() == []
    assert "DOE" not in "".join(capsys.readouterr()) + str(outcome)


@pytest.mark.parametrize("size", [0, 5, 70_000, 3 * 1024 * 1024])
@pytest.mark.parametrize("sealed", [False, True])
def test_what_is_filled_at_once_is_what_is_written(tmp_path, outer, name, size, sealed):
    """With and without a seal; in one buffer, in several, and with nothing in it."""
    content, guid = random.Random(size).randbytes(size), name().guid
    parts = [memoryview(content)[:3], content[3:60_000], memoryview(content)[60_000:]]
    outcomes = []
    for whole in (False, True):
        sealer = Sealer(b"k" * 32, guid, PUBLIC) if sealed else None
        settings = SlotSettings(tmp_path, spool_above_bytes=1024 * 1024)
        slot = FileSlot(guid, sealer, outer.area.begin, settings, lambda _, one: outcomes.append(one))
        if whole:
            slot.fill(parts, "report")
        else:
            for part in parts:
                slot.write(part)
            slot.commit("report")
    written, filled = outcomes
    assert replace(filled, incoming=written.incoming) == written
    assert filled.report == "report"
    bytes_of = [outer.area.incoming(one.incoming.id).read_bytes() for one in outcomes]
    assert bytes_of[0] == bytes_of[1]
    assert sealed or bytes_of[0] == content


def test_what_is_filled_has_the_bounds_of_what_is_written(tmp_path, outer, name):
    case = Ended(tmp_path, outer.area, name, max_bytes=100)
    with pytest.raises(TooLarge):
        case.slot.fill([bytes(60), bytes(60)])
    assert [type(outcome) for outcome in case.outcomes] == [TooLarge]
    assert outer.incoming() == []
    case = Ended(tmp_path, outer.area, name)
    case.slot.fill([b"x"])
    for call in (case.slot.commit, lambda: case.slot.fill([b"y"])):
        with pytest.raises(InternalError):
            call()


def test_a_refused_slot_never_reaches_scratch(tmp_path, outer, name):
    case = Ended(tmp_path, outer.area, name)
    case.slot.write(b"x")
    case.slot.refuse("burned in text")
    assert [type(outcome) for outcome in case.outcomes] == [ObjectRefused]
    assert outer.incoming() == []


def test_a_slot_in_a_full_area_fails_and_leaves_nothing(tmp_path, outer, name, full_disk):
    case = Ended(tmp_path, outer.area, name)
    case.slot.write(b"x" * 1_000_000)
    with pytest.raises(NoSpace):
        case.slot.commit()
    assert [type(outcome) for outcome in case.outcomes] == [NoSpace]


@pytest.fixture
def small_directory(tmp_path):
    """A file system of its own of two mebibytes."""
    directory = tmp_path / "small"
    directory.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory)]
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system may be mounted here ({type(error).__name__})")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True, timeout=20)


def test_a_full_spool_is_told_and_given_back_at_once(small_directory, outer, name):
    case = Ended(small_directory, outer.area, name, spool_above_bytes=1)
    case.slot.write(bytes(1024 * 1024))
    with pytest.raises(NoSpace, match="the spool is full"):
        case.slot.write(bytes(4 * 1024 * 1024))
    assert [type(outcome) for outcome in case.outcomes] == [NoSpace]
    stat = os.statvfs(small_directory)
    assert stat.f_bavail == stat.f_blocks, "what was spooled takes no room any more"
    assert outer.incoming() == []


def test_nothing_is_begun_in_a_closed_area(tmp_path):
    """The area makes its directories unreadable for others."""
    ScratchArea(tmp_path / "area")
    for path in ("ready", "incoming"):
        assert (tmp_path / "area" / path).stat().st_mode & 0o007 == 0
