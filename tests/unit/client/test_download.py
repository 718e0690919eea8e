"""A file on its way: continued, replaced, broken off, tried again."""

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.client import delivery
from srm_dicom.client.delivery import Couriers, Order
from srm_dicom.client.download import Holding, Part, download, fetch_part
from srm_dicom.client.targets import named, target_of
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import IntegrityError, InvalidRequest, NotDelivered
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_dicom.wire.names import FileRecord

GUID = Guid("6f1f7f0e-5e0b-5f0e-9a35-0f0d3f3c1b52")
CONTENT = random.Random(1).randbytes(100_000)
RECORD = FileRecord("/grid/heart/a.dcm.c4gh", guid=GUID, surls=("srm://localhost/a",))


def manifest(content=CONTENT):
    digest = Digest()
    digest.update(content)
    release = Release("heart", "basic", "1")
    return Manifest(GUID, 1, len(content), digest.adler32, digest.blake3, release, b"")


class Served:
    """A door that counts, and that breaks off as often as it is told to."""

    def __init__(self, content=CONTENT, breaks=0):
        self.content = content
        self.breaks = breaks
        self.offsets = []

    def fetch(self, turl, sink, *, offset=0, progress=None):
        self.offsets.append(offset)
        end = len(self.content)
        if self.breaks:
            self.breaks -= 1
            end = offset + (end - offset) // 2
        sink.write(memoryview(self.content)[offset:end])
        if progress:
            progress(end - offset)
        if end < len(self.content):
            raise NotDelivered("the transfer broke off")

    def interrupt(self):
        pass

    def close(self):
        pass


def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path):
    door, told = Served(breaks=1), []
    with pytest.raises(NotDelivered):
        download(door, "", manifest(), tmp_path / "x", told.append)
    assert (tmp_path / "x.part").read_bytes() == CONTENT[:50_000]
    download(door, "", manifest(), tmp_path / "x", told.append)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert (door.offsets, told) == ([0, 50_000], [50_000, 100_000])
    assert not (tmp_path / "x.part").exists()


def test_a_part_that_is_whole_is_not_fetched_again(tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT)
    door = Served()
    download(door, "", manifest(), tmp_path / "x")
    assert door.offsets == []


@pytest.mark.parametrize("old", [b"another generation", bytes(len(CONTENT)), bytes(len(CONTENT) + 1)])
def test_a_part_of_something_else_is_fetched_anew(tmp_path, old):
    (tmp_path / "x.part").write_bytes(old)
    door = Served()
    download(door, "", manifest(), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert door.offsets[-1] == 0


def test_what_the_site_did_not_sign_leaves_nothing(tmp_path):
    with pytest.raises(IntegrityError):
        download(Served(bytes(len(CONTENT))), "", manifest(), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def couriers(monkeypatch):
    made = []

    def make(door):
        monkeypatch.setattr(delivery, "GridFtpClient", lambda _credential: door)
        monkeypatch.setattr(delivery, "read_manifest", lambda *_: manifest())
        made.append(Couriers(None, {}, 2, pauses_s=(0.0, 0.0)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_a_courier_tries_again_a_few_times(couriers, tmp_path):
    door = Served(breaks=2)
    sent = couriers(door)
    sent.send(Order(RECORD, tmp_path / "deep" / "x"), "gsiftp://localhost/x")
    (got,) = sent.arrived(everything=True)
    assert (got.error, got.path, got.size_bytes) == (None, tmp_path / "deep" / "x", len(CONTENT))
    assert door.offsets == [0, 50_000, 75_000]


def test_a_courier_gives_up_and_keeps_what_it_has(couriers, tmp_path):
    sent = couriers(Served(breaks=9))
    sent.send(Order(RECORD, tmp_path / "x"), "gsiftp://localhost/x")
    (got,) = sent.arrived(everything=True)
    assert isinstance(got.error, NotDelivered)
    assert (tmp_path / "x.part").stat().st_size == 87_500


KEY = X25519PrivateKey.from_private_bytes(b"x" * 32)


def sealed(content=CONTENT):
    """A file as the site seals it, and its manifest."""
    public = KEY.public_key().public_bytes_raw()
    sealer = Sealer(b"s" * 32, GUID, public)
    sealer.absorb(content)
    file = b"".join(sealer.seal().file([content]))
    digest = Digest()
    digest.update(file)
    release = Release("heart", "basic", "1")
    return file, Manifest(GUID, 1, len(file), digest.adler32, digest.blake3, release, public)


def test_a_small_file_is_opened_without_its_ciphertext_on_the_disk(tmp_path):
    """What may be in memory is given back, and one for which there is no room takes the way of the large."""
    file, signed = sealed()
    holding = Holding(len(file))
    for _ in range(2):
        held, large = (Part(tmp_path / f"{name}.c4gh.part", signed, holding) for name in ("held", "large"))
        for part in (held, large):
            with part:
                part.write(memoryview(file)[:70_000])
                part.write(file[70_000:])
            part.prove()
        assert [path.name for path in tmp_path.iterdir()] == ["large.c4gh.part"]
        for part, name in ((held, "held"), (large, "large")):
            part.open(tmp_path / name, KEY.private_bytes_raw())
            assert (tmp_path / name).read_bytes() == CONTENT
        assert sorted(path.name for path in tmp_path.iterdir()) == ["held", "large"]
        for path in tmp_path.iterdir():
            path.unlink()


def test_what_has_come_of_a_file_in_memory_stays_when_it_breaks_off(tmp_path):
    file, signed = sealed()
    holding = Holding(len(file))
    door, path = Served(file, breaks=1), tmp_path / "x.c4gh.part"
    with pytest.raises(NotDelivered):
        fetch_part(door, "", Part(path, signed, holding))
    assert path.read_bytes() == file[: len(file) // 2]
    part = fetch_part(door, "", Part(path, signed, holding))
    assert door.offsets == [0, len(file) // 2]
    part.open(tmp_path / "x", KEY.private_bytes_raw())
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"x": CONTENT}
    assert holding.take(len(file)), "nothing is held any more"


@pytest.mark.parametrize("wrong", ["bytes", "key"])
def test_a_file_in_memory_that_is_not_right_leaves_nothing(tmp_path, wrong):
    file, signed = sealed()
    holding = Holding(len(file))
    if wrong == "bytes":
        with pytest.raises(IntegrityError):
            fetch_part(Served(bytes(len(file))), "", Part(tmp_path / "x.part", signed, holding))
    else:
        part = fetch_part(Served(file), "", Part(tmp_path / "x.part", signed, holding))
        with pytest.raises(InvalidRequest):
            part.open(tmp_path / "x", bytes(range(32)))
    assert list(tmp_path.iterdir()) == []
    assert holding.take(len(file)), "nothing is held any more"


def test_names_below_a_directory_are_kept():
    (below,) = named("lfn:/grid", [RECORD])
    assert target_of(below, Path("out"), sealed=False) == Path("out/heart/a.dcm")
    (alone,) = named(RECORD.lfn, [RECORD])
    assert target_of(alone, Path("out"), sealed=False) == Path("out/a.dcm")
    assert target_of(alone, Path("out"), sealed=True) == Path("out/a.dcm"), "it is not sealed"
    sealed = FileRecord("/grid/b.bin", guid=GUID, public_key="ab" * 32, key_id="k")
    (file,) = named(f"guid:{GUID}", [sealed])
    assert target_of(file, Path("out"), sealed=True) == Path("out/b.bin.c4gh")
    assert target_of(file, Path("out"), sealed=False) == Path("out/b.bin")


def test_names_below_a_directory_of_the_storage_server_are_kept():
    top = "srm://se.example.org:8446/biomed"
    records = [
        FileRecord(
            f"/grid/{letter}.dcm", GUID, (f"srm://mirror.example.org/x/{letter}", f"{top}/heart/{name}")
        )
        for letter, name in (("a", "1/a.dcm"), ("b", "2/a.dcm"), ("c", "..%2F../../c"))
    ]
    names = [one.below for one in named(f"{top}/heart/", records)]
    assert names == ["1/a.dcm", "2/a.dcm", "c.dcm"], "what leads out of it is not below it"
    assert [one.below for one in named(f"{top}/heart/1/a.dcm", records[:1])] == ["a.dcm"]


def test_a_link_to_a_file_is_filled_and_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x").symlink_to("elsewhere/x")
    download(Served(), "", manifest(), tmp_path / "x")
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "elsewhere/x").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["x"]
