"""The disk plugin keeps the contract, and never reads outside its root."""

import os
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import (
    ConfigError,
    IntegrityError,
    MdmError,
    NotDelivered,
    SourceRefused,
    SourceUnavailable,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Discovered, FileRef, PluginContext, Upload
from srm_dicom.plugin.host import PluginHost
from srm_dicom.testing.contract import RELEASE, PluginContract, PluginSite
from srm_dicom.testing.sink import MemorySink
from srm_plugin_disk.plugin import DiskPlugin


def make_plugin(root: Path) -> DiskPlugin:
    return DiskPlugin(PluginContext("disk", {"root": str(root)}, root.parent, SystemClock(), seals=False))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for directory in ("a", "b/c"):
        (root / directory).mkdir(parents=True)
        for number in range(3):
            (root / directory / f"{number}.dat").write_bytes(f"{directory} {number}".encode() * 1000)
    return root


class TestDiskPlugin(PluginContract):
    @pytest.fixture
    def site(self, root: Path) -> Iterator[PluginSite]:
        def lose(item: Discovered) -> None:
            root.joinpath(*item.path).unlink()

        plugin = make_plugin(root)
        yield PluginSite(
            plugin=plugin,
            restart=lambda: make_plugin(root),
            selector="**/*",
            identities=(str(root).encode(),),
            lose=lose,
            halt=lambda: root.rename(root.with_name("gone")) and None,
        )
        plugin.close()


def test_the_bytes_are_those_of_the_disk(root: Path) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    found = list(host.discover("a/*.dat", RELEASE))
    sink = MemorySink()
    for batch in host.plan([FileRef(item.guid, item.plugin_ref, RELEASE) for item in found]):
        host.stage(batch, sink, 5)
    assert sink.files == {item.guid: root.joinpath(*item.path).read_bytes() for item in found}
    assert [item.path for item in found] == [("a", f"{number}.dat") for number in range(3)]


@pytest.mark.parametrize("where", ["secret.dat", "a/secret.dat"])
def test_a_link_is_not_followed(root: Path, where: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.dat").write_bytes(b"secret")
    (root / where).symlink_to(outside / "secret.dat")
    (root / "door").symlink_to(outside)
    host = PluginHost(make_plugin(root), name="disk")
    assert not [
        item
        for pattern in ("**/*", "door/*")
        for item in host.discover(pattern, RELEASE)
        if "secret.dat" in item.path
    ]


def test_a_link_that_came_later_is_not_followed(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "0.dat").write_bytes(b"secret")
    host = PluginHost(make_plugin(root), name="disk")
    item = next(iter(host.discover("a/0.dat", RELEASE)))
    for old in (root / "a").iterdir():
        old.unlink()
    (root / "a").rmdir()
    (root / "a").symlink_to(outside)
    sink = MemorySink()
    ref = FileRef(item.guid, item.plugin_ref, RELEASE)
    outcomes = host.stage(host.plan([ref])[0], sink, 5)
    assert isinstance(outcomes[item.guid], NotDelivered)
    assert not sink.slots


@pytest.mark.parametrize("settings", [{}, {"root": "relative"}, {"root": "/x", "rooot": 1}, {"root": 7}])
def test_settings_are_checked(settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        DiskPlugin(PluginContext("disk", settings, tmp_path, SystemClock()))


# --- uploads -------------------------------------------------------------------------------------


def upload(content: bytes, path: tuple[str, ...] = ("vo", "a.dat"), **claims: Any) -> Upload:
    facts = {"size_bytes": len(content), "adler32": f"{zlib.adler32(content):08x}", **claims}
    halves = [content[: len(content) // 2], content[len(content) // 2 :]]
    return Upload(Guid(str(uuid.uuid4())), path, RELEASE, chunks=halves, **facts)


def test_an_upload_is_kept_and_staged_and_removed(root: Path) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    found = host.accept(upload(b"content" * 1000))
    ref = FileRef(found.guid, found.plugin_ref, RELEASE)
    sink = MemorySink()
    host.stage(host.plan([ref])[0], sink, 5)
    assert sink.files == {found.guid: b"content" * 1000}
    assert (root / "uploads/vo/a.dat").read_bytes() == b"content" * 1000
    host.remove(ref)
    host.remove(ref)
    assert [path.name for path in (root / "uploads").rglob("*")] == [".incoming"]


def test_uploads_and_removals_beside_each_other_share_a_directory(root: Path) -> None:
    """One upload makes the directory that the removal of another takes away as empty."""
    host = PluginHost(make_plugin(root), name="disk")

    def use(name: str) -> None:
        for _ in range(300):
            found = host.accept(upload(b"", ("vo", "shared", name)))
            host.remove(FileRef(found.guid, found.plugin_ref, RELEASE))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, "abcd"))
    assert [path.name for path in (root / "uploads").rglob("*")] == [".incoming"]


def test_an_upload_takes_nobodys_place(root: Path) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    first, second = host.accept(upload(b"one")), host.accept(upload(b"two"))
    assert first.plugin_ref != second.plugin_ref
    assert (root / "uploads/vo/a.dat").read_bytes() == b"one"
    host.remove(FileRef(first.guid, first.plugin_ref, RELEASE))
    assert (root / second.plugin_ref.decode()).read_bytes() == b"two"


@pytest.mark.parametrize("claims", [{"size_bytes": 3}, {"adler32": "00000001"}])
def test_an_upload_that_is_not_what_it_claims_leaves_nothing(root: Path, claims: dict[str, Any]) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    with pytest.raises(IntegrityError):
        host.accept(upload(b"content", **claims))
    assert not [path for path in (root / "uploads").rglob("*") if path.is_file()]


def test_what_died_half_written_is_swept_later(root: Path) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    host.accept(upload(b"one"))
    for name, age_s in (("old", 90_000), ("new", 10)):
        path = root / "uploads/.incoming" / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    host.accept(upload(b"two"))
    assert [path.name for path in (root / "uploads/.incoming").iterdir()] == ["new"]


def test_uploads_are_not_found_and_what_was_registered_is_not_removed(root: Path) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    host.accept(upload(b"one"))
    found = list(host.discover("**/*", RELEASE))
    assert not [item for item in found if item.path[0] == "uploads"]
    with pytest.raises(SourceRefused):
        host.remove(FileRef(found[0].guid, found[0].plugin_ref, RELEASE))


def test_an_upload_follows_no_link_out_of_the_root(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "uploads").mkdir()
    (root / "uploads/vo").symlink_to(outside)
    host = PluginHost(make_plugin(root), name="disk")
    with pytest.raises(MdmError):
        host.accept(upload(b"one"))
    assert not list(outside.iterdir())


def test_no_root_no_upload(root: Path) -> None:
    host = PluginHost(make_plugin(root), name="disk")
    root.rename(root.with_name("gone"))
    with pytest.raises(SourceUnavailable):
        host.accept(upload(b"one"))
