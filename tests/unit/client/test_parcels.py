"""A directory that comes as one tar: packed, unpacked on the way, proven, continued, given up."""

import random
import tarfile
from collections import deque
from io import BytesIO

import pytest

from srm_dicom.client import delivery
from srm_dicom.client.delivery import Couriers
from srm_dicom.client.orders import FEWEST, Got, Order, Parcel, packed, take
from srm_dicom.client.srm_views import FileInfo, Status
from srm_dicom.client.unpacking import Member, shares
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import NotDelivered, NotFound
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_dicom.wire.names import FileRecord

DIRECTORY = "srm://localhost/vo/study/series"
SIZES = (700, 1, 512, 50_000, 3, 9000, 20_000, 11, 4096, 77)
DRAW = random.Random(1)
FILES = {f"{number:02d}.dcm": DRAW.randbytes(size) for number, size in enumerate(SIZES)}


def guid_of(name):
    return Guid(f"00000000-0000-4000-8000-0000000000{name[:2]}")


def manifest_of(name):
    digest = Digest()
    digest.update(FILES[name])
    release = Release("heart", "basic", "1")
    return Manifest(guid_of(name), 1, len(FILES[name]), digest.adler32, digest.blake3, release, b"")


def tar():
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, data in FILES.items():
            info = tarfile.TarInfo(f"series/{name}")
            info.size = len(data)
            made.addfile(info, BytesIO(data))
    return out.getvalue()


def order(name, directory):
    record = FileRecord(f"/grid/series/{name}", guid=guid_of(name), surls=(f"{DIRECTORY}/{name}",))
    return Order(record, directory / name)


def parcel(directory, names=tuple(FILES)):
    return Parcel(DIRECTORY, tuple(FILES), {guid_of(name): order(name, directory) for name in names})


class Served:
    """A door that has the tar, sends it in small pieces, and breaks off where it is told to."""

    def __init__(self, content, breaks_at=()):
        self.content = content
        self.breaks_at = list(breaks_at)
        self.offsets = []

    def fetch(self, turl, sink, *, offset=0, size_bytes=None, progress=None):
        assert turl == "gsiftp://localhost/series.tar"
        self.offsets.append(offset)
        breaks = bool(self.breaks_at)
        whole = len(self.content) if size_bytes is None else offset + size_bytes
        end = self.breaks_at.pop(0) if breaks else whole
        for start in range(offset, end, 777):
            sink.write(memoryview(self.content)[start : min(start + 777, end)])
        if breaks:
            raise NotDelivered("the transfer broke off")

    def interrupt(self):
        pass

    def close(self):
        pass


@pytest.fixture
def deliver(monkeypatch):
    made = []

    def run(door, wanted, manifests=None):
        told = manifests or [manifest_of(name) for name in FILES]
        monkeypatch.setattr(delivery, "GridFtpClient", lambda _credential: door)
        monkeypatch.setattr(delivery, "read_manifests", lambda *_: told)
        made.append(Couriers(None, {}, 2, pauses_s=(0.0, 0.0)))
        made[-1].send(wanted, "gsiftp://localhost/series.tar")
        return list(made[-1].arrived(everything=True))

    yield run
    for one in made:
        one.stop()


def whole(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()} == FILES


def test_every_file_comes_out(deliver, tmp_path):
    results = deliver(Served(tar()), parcel(tmp_path))
    assert {got.path.name: got.size_bytes for got in results} == {n: len(d) for n, d in FILES.items()}
    assert whole(tmp_path)


def test_a_large_tar_comes_in_shares(deliver, tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "SHARE_BYTES", 10_000)
    monkeypatch.setattr(delivery, "SHARES", 3)
    door = Served(tar())
    results = deliver(door, parcel(tmp_path))
    assert [got.error for got in results] == [None] * len(FILES)
    assert len(door.offsets) > 1
    assert whole(tmp_path)


def test_a_share_that_breaks_off_is_continued_alone(deliver, tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "SHARE_BYTES", 10_000)
    door = Served(tar(), breaks_at=[20_000])
    assert [got.error for got in deliver(door, parcel(tmp_path))] == [None] * len(FILES)
    assert len(door.offsets) == 3
    assert whole(tmp_path)


@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_shares_are_runs_of_about_one_size(tmp_path, most):
    members = [Member(order(name, tmp_path), manifest_of(name), 0) for name in FILES]
    runs = shares(members, most, 1)
    assert [one for run in runs for one in run] == members
    assert 0 < len(runs) <= most
    largest = max(sum(one.manifest.size_bytes for one in run) for run in runs)
    assert largest < sum(SIZES) / most + max(SIZES)


@pytest.mark.parametrize("at", [100, 1500, 30_000, 70_000])
def test_a_break_is_continued_where_it_was(deliver, tmp_path, at):
    door = Served(tar(), breaks_at=[at])
    results = deliver(door, parcel(tmp_path))
    assert all(got.error is None for got in results)
    assert whole(tmp_path)
    assert door.offsets[0] == 512, "the first header says nothing that is not known"
    assert at - 1024 <= door.offsets[1] <= max(at, 512) + 1024


def test_a_break_after_everything_is_none(deliver, tmp_path):
    door = Served(tar(), breaks_at=[len(tar())])
    results = deliver(door, parcel(tmp_path))
    assert (len(results), len(door.offsets)) == (len(FILES), 1)
    assert all(got.error is None for got in results)
    assert whole(tmp_path)


def test_what_an_earlier_run_left_is_continued(deliver, tmp_path):
    names = list(FILES)
    for name in names[:3]:
        (tmp_path / name).write_bytes(FILES[name])
    (tmp_path / f"{names[3]}.part").write_bytes(FILES[names[3]][:20_000])
    door = Served(tar())
    assert all(got.error is None for got in deliver(door, parcel(tmp_path, names[3:])))
    assert door.offsets == [tar().index(FILES[names[3]]) + 20_000]
    assert whole(tmp_path)


def test_a_file_of_other_bytes_is_asked_for_alone(deliver, tmp_path):
    damaged = bytearray(tar())
    damaged[tar().index(FILES["03.dcm"]) + 10] ^= 1
    results = deliver(Served(bytes(damaged)), parcel(tmp_path))
    (alone,) = [one for one in results if isinstance(one, Order)]
    assert alone.target.name == "03.dcm"
    assert len([one for one in results if isinstance(one, Got)]) == len(FILES) - 1
    assert not list(tmp_path.glob("03.dcm*"))


def test_a_directory_that_has_changed_comes_file_by_file(deliver, tmp_path):
    other = [manifest_of(name) for name in FILES]
    other[4] = Manifest(guid_of("99"), 1, 3, "00000001", "0" * 64, Release("heart", "basic", "1"), b"")
    door = Served(tar())
    results = deliver(door, parcel(tmp_path), other)
    assert [one.target.name for one in results] == list(FILES)
    assert door.offsets == []


def test_a_door_that_is_gone_is_not_asked_for_each_file(deliver, tmp_path):
    door = Served(tar(), breaks_at=[5000, 5000, 5000])
    results = deliver(door, parcel(tmp_path))
    failed = [one for one in results if isinstance(one, Got) and one.error]
    assert len(results) == len(FILES)
    assert 0 < len(failed) < len(FILES)
    assert all(isinstance(one.error, NotDelivered) for one in failed)
    assert len(door.offsets) == 3


def test_a_tar_that_ends_early_is_not_whole(deliver, tmp_path):
    short = tar()[:60_000]
    results = deliver(Served(short), parcel(tmp_path))
    assert any(isinstance(one, Got) and isinstance(one.error, NotDelivered) for one in results)
    assert not whole(tmp_path)


# --- packing


def entries(names):
    def listed(directory):
        assert directory == DIRECTORY
        done = Status("SRM_SUCCESS")
        return [FileInfo(f"/vo/study/series/{name}", done, False, 1, None, None, True, ()) for name in names]

    return listed


def test_a_directory_that_was_named_whole_is_a_parcel(tmp_path):
    orders = [order(name, tmp_path) for name in FILES]
    records = [one.record for one in orders]
    (made,) = packed(orders, records, entries(reversed(FILES)))
    assert isinstance(made, Parcel)
    assert (made.surl, made.names) == (f"{DIRECTORY}.tar", tuple(FILES))
    (rest,) = packed(orders[2:], records, entries(FILES))
    assert set(rest.orders) == {guid_of(name) for name in list(FILES)[2:]}


def test_a_part_of_a_directory_is_not(tmp_path):
    orders = [order(name, tmp_path) for name in FILES]
    records = [one.record for one in orders]
    more = [*FILES, "more.dcm"]
    assert packed(orders, records, entries(more)) == orders
    assert packed(orders[: FEWEST - 1], records, entries(FILES)) == orders[: FEWEST - 1]


def test_requests_have_a_bound(tmp_path):
    files = [order(name, tmp_path) for name in FILES]
    left = deque([files[0], parcel(tmp_path), files[1], parcel(tmp_path)])
    taken = [[one.count for one in take(left, len(FILES) + 1)] for _ in range(2)]
    assert (taken, len(left)) == ([[1, 10], [1, 10]], 0)
    assert [one.count for one in take(deque([parcel(tmp_path)]), 5)] == [10], "one that is larger goes alone"


def test_a_directory_that_cannot_be_listed_is_not(tmp_path):
    def refused(_directory):
        raise NotFound("no such name")

    orders = [order(name, tmp_path) for name in FILES]
    assert packed(orders, [one.record for one in orders], refused) == orders


def test_a_manifest_of_another_key_is_not_believed(deliver, tmp_path):
    foreign = [manifest_of(name) for name in FILES]
    sealed = Manifest(
        foreign[0].guid, 1, 700, foreign[0].adler32, foreign[0].blake3, foreign[0].release, b"k" * 32
    )
    door = Served(tar())
    results = deliver(door, parcel(tmp_path), [sealed, *foreign[1:]])
    assert all(isinstance(one, Order) for one in results)
    assert door.offsets == []
