"""The disk plugin keeps the contract, and never reads outside its root."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, NotDelivered
from srm_dicom.plugin.api import Discovered, FileRef, PluginContext
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
