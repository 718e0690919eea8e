"""What every storage plugin must do, as a pytest class to subclass.

    class TestMyPlugin(PluginContract):
        @pytest.fixture
        def site(self, tmp_path): yield PluginSite(...)

A `PluginSite` is a plugin with a source behind it that the test can disturb. Everything is called
through `PluginHost`, as the server does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from srm_dicom.errors import MdmError, NotDelivered, ObjectRefused, SourceError
from srm_dicom.plugin.api import Discovered, FileRef, StoragePlugin
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.project import Release
from srm_dicom.testing.sink import MemorySink, MemorySlot

RELEASE = Release("trial", "basic", "v1")
OTHER_RELEASE = Release("study", "basic", "v1")
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class PluginSite:
    """A plugin and the source behind it.

    Attributes:
        plugin: the instance under test; the contract closes it.
        restart: makes the plugin anew, as after a restart of the server, with the same secrets.
        selector: finds at least four files in at least two groups.
        identities: byte strings that stand in the source and may not leave it by `plugin_ref`, path,
            group or attributes.
        lose: makes the source lose one file.
        halt: makes the source unusable for the rest of the test.
    """

    plugin: StoragePlugin
    restart: Callable[[], StoragePlugin]
    selector: str
    identities: tuple[bytes, ...]
    lose: Callable[[Discovered], None]
    halt: Callable[[], None]


class PluginContract:
    """Subclass it and give the fixture `site`."""

    @pytest.fixture
    def site(self) -> PluginSite:
        """Give the plugin under test."""
        raise NotImplementedError

    @pytest.fixture
    def host(self, site: PluginSite) -> PluginHost:
        """Wrap the plugin as the server does."""
        return PluginHost(site.plugin, name="contract")

    def test_discover_is_stable(self, site: PluginSite, host: PluginHost) -> None:
        """The same things have the same names and references, also after a restart."""
        first = _by_guid(host, site.selector)
        assert len(first) >= 4
        assert first == _by_guid(host, site.selector)
        host.close()
        again = PluginHost(site.restart(), name="contract")
        try:
            assert first == _by_guid(again, site.selector)
        finally:
            again.close()

    def test_names_are_unique_and_grouped(self, site: PluginSite, host: PluginHost) -> None:
        """No two files share a path; a group never spans two directories' worth of key pairs."""
        found = list(_by_guid(host, site.selector).values())
        assert len({item.path for item in found}) == len(found)
        assert 2 <= len({item.group for item in found}) <= len(found)

    def test_another_release_is_another_file(self, site: PluginSite, host: PluginHost) -> None:
        """A release is part of a file's identity."""
        first = _by_guid(host, site.selector)
        other = _by_guid(host, site.selector, OTHER_RELEASE)
        assert len(first) == len(other)
        assert not first.keys() & other.keys()

    def test_nothing_tells_who(self, site: PluginSite, host: PluginHost) -> None:
        """What the server keeps of a file has nothing of the source's identities."""
        for item in _by_guid(host, site.selector).values():
            kept = "\n".join((item.group, *item.path, item.guid, repr(item.attributes)))
            text = item.plugin_ref + kept.encode()
            assert not [identity for identity in site.identities if identity in text]

    def test_plan_partitions(self, site: PluginSite, host: PluginHost) -> None:
        """Every file is in exactly one batch; the batch names a source that there is."""
        refs = _refs(host, site.selector) + _refs(host, site.selector, OTHER_RELEASE)
        batches = host.plan(refs)
        planned = [ref for batch in batches for ref in batch.files]
        assert sorted(planned, key=_guid) == sorted(refs, key=_guid)
        assert {batch.source for batch in batches} <= {source.name for source in host.sources()}
        assert host.plan([]) == ()

    def test_stage_fills_exactly(self, site: PluginSite, host: PluginHost) -> None:
        """Each file of each batch is committed, and nothing else is opened."""
        refs = _refs(host, site.selector)
        sink, outcomes = _stage_all(host, refs)
        assert outcomes == dict.fromkeys((ref.guid for ref in refs), None)
        assert sink.slots.keys() == {ref.guid for ref in refs}
        assert all(sink.files.values())

    def test_the_same_bytes_every_time(self, site: PluginSite, host: PluginHost) -> None:
        """A file that is staged again has the bytes that it had."""
        refs = _refs(host, site.selector)
        files = _stage_all(host, refs)[0].files
        assert len(files) == len(refs)
        assert files == _stage_all(host, refs)[0].files

    def test_a_part_of_a_batch_can_be_staged(self, site: PluginSite, host: PluginHost) -> None:
        """What nobody asked for is not brought."""
        refs = _refs(host, site.selector)[:1]
        sink, outcomes = _stage_all(host, refs)
        assert sink.files.keys() == outcomes.keys() == {refs[0].guid}

    def test_a_missing_file_fails_alone(self, site: PluginSite, host: PluginHost) -> None:
        """One file that the source lost is not delivered; the others are."""
        found = list(_by_guid(host, site.selector).values())
        site.lose(found[0])
        sink, outcomes = _stage_all(host, [_ref(item) for item in found])
        assert isinstance(outcomes[found[0].guid], NotDelivered)
        assert sink.files.keys() == {item.guid for item in found[1:]}

    def test_a_foreign_reference_fails_alone(self, site: PluginSite, host: PluginHost) -> None:
        """A `plugin_ref` that the plugin did not make is neither served nor a crash."""
        refs = _refs(host, site.selector)
        forged = FileRef(refs[0].guid, b"../../etc/passwd", RELEASE)
        sink, outcomes = _stage_all(host, [forged, *refs[1:]])
        assert isinstance(outcomes[forged.guid], MdmError)
        assert sink.files.keys() == {ref.guid for ref in refs[1:]}

    def test_a_source_that_is_gone(self, site: PluginSite, host: PluginHost) -> None:
        """It is a fault of the source, told as one, and not of this program."""
        refs = _refs(host, site.selector)
        site.halt()
        _, outcomes = _stage_all(host, refs)
        assert all(isinstance(outcome, SourceError) for outcome in outcomes.values())
        with pytest.raises(SourceError):
            list(host.discover(site.selector, RELEASE))
        with pytest.raises(SourceError):
            host.sources()[0].probe()
        assert not all(check.passed for check in host.checks())

    def test_the_deadline_is_honoured(self, site: PluginSite, host: PluginHost) -> None:
        """A sink that blocks does not hold the host, and its slots are shut afterwards."""
        refs = _refs(host, site.selector)
        sink = _BlockingSink()
        started_s = time.monotonic()
        outcomes = host.stage(host.plan(refs)[0], sink, 1.0)
        took_s = time.monotonic() - started_s
        sink.release.set()
        assert 0.9 < took_s < 4.0
        assert all(isinstance(outcome, NotDelivered) for outcome in outcomes.values())

    def test_two_stages_at_once(self, site: PluginSite, host: PluginHost) -> None:
        """Two visits, also for the same object in two releases, do not take each other's files."""
        first = _refs(host, site.selector)
        second = _refs(host, site.selector, OTHER_RELEASE)
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda refs: _stage_all(host, refs), (first, second)))
        for refs, (sink, outcomes) in zip((first, second), both, strict=True):
            assert sink.files.keys() == {ref.guid for ref in refs}
            assert not any(outcomes.values())

    def test_a_selector_of_nonsense(self, host: PluginHost) -> None:
        """It is the caller's fault, and told without an echo of what was typed."""
        with pytest.raises(MdmError) as caught:
            list(host.discover('/../"nonsense', RELEASE))
        assert "nonsense" not in caught.value.message

    def test_a_refused_slot(self, site: PluginSite, host: PluginHost) -> None:
        """A sink that refuses to open fails its files and nothing else."""
        refs = _refs(host, site.selector)
        outcomes = host.stage(host.plan(refs)[0], _ClosedSink(), PATIENCE_S)
        assert all(isinstance(outcome, MdmError) for outcome in outcomes.values())
        assert not any(isinstance(outcome, ObjectRefused) for outcome in outcomes.values())


class _BlockingSink(MemorySink):
    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def open(self, ref: FileRef) -> MemorySlot:
        self.release.wait(10)
        return super().open(ref)


class _ClosedSink:
    def is_wanted(self) -> bool:
        return True

    def open(self, ref: FileRef) -> MemorySlot:
        del ref
        raise NotDelivered("this sink opens nothing")


def _by_guid(host: PluginHost, selector: str, release: Release = RELEASE) -> dict[str, Discovered]:
    found = list(host.discover(selector, release))
    by_guid = {str(item.guid): item for item in found}
    assert len(by_guid) == len(found)
    return by_guid


def _ref(item: Discovered, release: Release = RELEASE) -> FileRef:
    return FileRef(item.guid, item.plugin_ref, release)


def _refs(host: PluginHost, selector: str, release: Release = RELEASE) -> list[FileRef]:
    return [_ref(item, release) for item in host.discover(selector, release)]


def _guid(ref: FileRef) -> str:
    return ref.guid


def _stage_all(host: PluginHost, refs: list[FileRef]) -> tuple[MemorySink, dict[str, MdmError | None]]:
    sink = MemorySink()
    outcomes: dict[str, MdmError | None] = {}
    for batch in host.plan(refs):
        outcomes.update({str(guid): each for guid, each in host.stage(batch, sink, PATIENCE_S).items()})
    return sink, outcomes
