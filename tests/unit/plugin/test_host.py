"""The host: whatever a plugin does, what leaves is an error of the tree or a checked value."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from srm_dicom.errors import (
    ConfigError,
    InternalError,
    NotDelivered,
    ObjectRefused,
    Overloaded,
    SourceUnavailable,
    TooLarge,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import (
    Batch,
    Check,
    Discovered,
    FileRef,
    PluginContext,
    Sink,
    Slot,
    Source,
    StoragePlugin,
)
from srm_dicom.plugin.host import HostLimits, PluginHost
from srm_dicom.rights.project import Release
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.sink import MemorySink

RELEASE = Release("trial", "basic", "v1")
SECRET = "CANARY^PATIENT"


def guid(number: int) -> Guid:
    return Guid(str(UUID(int=number)))


FILES = tuple(FileRef(guid(number), b"", RELEASE) for number in range(3))
BATCH = Batch("somewhere", "all", FILES)


class Scripted(StoragePlugin):
    """Does what a test tells it."""

    def __init__(self, **script: Callable[..., object]) -> None:
        super().__init__(PluginContext("scripted", {}, Path("/nowhere"), FakeClock()))
        self.script = script

    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        return self.script["discover"]()  # type: ignore[return-value]

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        return self.script["plan"](files)  # type: ignore[return-value]

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        self.script["stage"](sink)

    def sources(self) -> Sequence[Source]:
        return self.script["sources"]()  # type: ignore[return-value]

    def checks(self) -> Iterator[Check]:
        yield Check("first", passed=True, detail="fine")
        self.script["checks"]()


def host_of(limits: HostLimits | None = None, **script: Callable[..., object]) -> PluginHost:
    return PluginHost(Scripted(**script), name="scripted", limits=limits)


def fail(error: Exception) -> Callable[..., object]:
    def raising(*_: object) -> object:
        raise error

    return raising


def fill(slot: Slot, data: bytes = b"x") -> None:
    slot.write(data)
    slot.commit()


def test_outcomes_of_a_batch() -> None:
    def stage(sink: Sink) -> None:
        fill(sink.open(FILES[0]))
        sink.open(FILES[1]).refuse("burned-in text")

    outcomes = host_of(stage=stage).stage(BATCH, MemorySink(), 5)
    assert outcomes[guid(0)] is None
    assert isinstance(outcomes[guid(1)], ObjectRefused)
    assert isinstance(outcomes[guid(2)], NotDelivered)


def test_a_known_error_is_that_of_every_file_without_an_own_outcome() -> None:
    def stage(sink: Sink) -> None:
        fill(sink.open(FILES[0]))
        sink.open(FILES[1]).write(b"half")
        raise SourceUnavailable("it is down")

    outcomes = host_of(stage=stage).stage(BATCH, MemorySink(), 5)
    assert outcomes[guid(0)] is None
    assert [type(outcomes[guid(number)]) for number in (1, 2)] == [SourceUnavailable] * 2


@pytest.mark.parametrize("call", ["discover", "plan", "sources"])
def test_an_unknown_exception_tells_nothing(call: str) -> None:
    host = host_of(**{call: fail(KeyError(SECRET))})
    arguments: dict[str, tuple[object, ...]] = {"discover": ("", RELEASE), "plan": (FILES,), "sources": ()}
    with capture_logs() as logs, pytest.raises(InternalError) as caught:
        list(getattr(host, call)(*arguments[call]))
    assert SECRET not in repr(logs) + caught.value.message
    assert logs[0]["error_id"] in caught.value.message
    assert logs[0]["error"] == "KeyError"


def test_an_unknown_exception_in_stage() -> None:
    with capture_logs() as logs:
        outcomes = host_of(stage=fail(ValueError(SECRET))).stage(BATCH, MemorySink(), 5)
    assert {type(outcome) for outcome in outcomes.values()} == {InternalError}
    assert SECRET not in repr(logs) + repr(outcomes)


@pytest.mark.parametrize(
    "value", ["1.2.840.99.4711", "PATIENT 4711123", "19450508", "CANARY^PATIENT", "", "x" * 200]
)
def test_a_reason_that_could_be_a_value_is_not_passed_on(value: str) -> None:
    def stage(sink: Sink) -> None:
        sink.open(FILES[0]).refuse(value)

    sink = MemorySink()
    outcome = host_of(stage=stage).stage(BATCH, sink, 5)[guid(0)]
    assert isinstance(outcome, ObjectRefused)
    assert outcome.message == sink.slots[guid(0)].reason == "unspecified"


def test_a_reason_may_name_a_place() -> None:
    reason = "the independent check found something (0028,0301)"
    outcome = host_of(stage=lambda sink: sink.open(FILES[0]).refuse(reason)).stage(BATCH, MemorySink(), 5)
    assert str(outcome[guid(0)]) == reason


def test_a_late_slot_is_shut() -> None:
    caught: list[BaseException] = []
    done = threading.Event()
    go_on = threading.Event()

    def stage(sink: Sink) -> None:
        slot = sink.open(FILES[0])
        go_on.wait(10)
        for late in (lambda: slot.write(b"late"), slot.commit, lambda: sink.open(FILES[1])):
            try:
                late()  # type: ignore[no-untyped-call]
            except NotDelivered as error:
                caught.append(error)
        done.set()

    sink = MemorySink()
    outcomes = host_of(stage=stage).stage(BATCH, sink, 0.2)
    go_on.set()
    assert done.wait(5)
    assert {type(outcome) for outcome in outcomes.values()} == {NotDelivered}
    assert len(caught) == 3
    assert not sink.files


def test_too_many_visits_that_do_not_come_back() -> None:
    go_on = threading.Event()
    host = host_of(HostLimits(max_abandoned=2), stage=lambda _sink: go_on.wait(10))
    for _ in range(2):
        host.stage(BATCH, MemorySink(), 0.05)
    with pytest.raises(Overloaded):
        host.stage(BATCH, MemorySink(), 0.05)
    go_on.set()
    time.sleep(0.1)
    host.stage(BATCH, MemorySink(), 0.05)


def test_a_file_that_is_too_large() -> None:
    def stage(sink: Sink) -> None:
        fill(sink.open(FILES[0]), b"12345")

    outcomes = host_of(HostLimits(max_file_bytes=4), stage=stage).stage(BATCH, MemorySink(), 5)
    assert isinstance(outcomes[guid(0)], TooLarge)


@pytest.mark.parametrize("opened", [FileRef(guid(99), b"", RELEASE), FILES[0]])
def test_a_slot_is_opened_once_and_for_the_batch(opened: FileRef) -> None:
    def stage(sink: Sink) -> None:
        sink.open(FILES[0])
        sink.open(opened)

    outcomes = host_of(stage=stage).stage(BATCH, MemorySink(), 5)
    assert {type(outcome) for outcome in outcomes.values()} == {InternalError}


@pytest.mark.parametrize(
    "batches", [[], [BATCH, BATCH], [replace(BATCH, files=(*FILES, FileRef(guid(9), b"", RELEASE)))]]
)
def test_a_plan_that_is_no_partition(batches: list[Batch]) -> None:
    with pytest.raises(InternalError):
        host_of(plan=lambda _files: batches).plan(FILES)


@pytest.mark.parametrize("path", [(), ("a/b",), ("..",), ("Ä",), ("",), ("a", ".")])
def test_a_path_that_cannot_be_exported(path: tuple[str, ...]) -> None:
    found = Discovered(guid(1), path, "group", b"")
    with pytest.raises(InternalError):
        list(host_of(discover=lambda: iter([found])).discover("", RELEASE))


def test_a_selector_that_finds_too_much() -> None:
    found = Discovered(guid(1), ("a",), "group", b"")
    host = host_of(HostLimits(max_discovered=3), discover=lambda: iter([found] * 4))
    with pytest.raises(TooLarge):
        list(host.discover("", RELEASE))


def test_a_check_that_breaks_has_failed() -> None:
    checks = list(host_of(checks=fail(RuntimeError(SECRET))).checks())
    assert [check.passed for check in checks] == [True, False]
    assert SECRET not in checks[1].detail


def test_a_probe_is_contained() -> None:
    source = Source("it", 1, fail(OSError(SECRET)))  # type: ignore[arg-type]
    with pytest.raises(InternalError):
        host_of(sources=lambda: [source]).sources()[0].probe()


def test_loading_by_entry_point(tmp_path: Path) -> None:
    context = PluginContext("d", {"root": str(tmp_path)}, tmp_path / "s", FakeClock())
    host = PluginHost.load("disk", context)
    assert host.name == "d"
    assert host.sources()[0].name == "disk"
    with pytest.raises(ConfigError) as caught:
        PluginHost.load("disc", context)
    assert "disk" in caught.value.advice
