"""What our moves announced: who may bring what, how often, how much, and until when."""

import threading
from pathlib import Path

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import MdmError, NoSpace, NotAuthorised, Overloaded, TooLarge
from srm_dicom.plugin.api import Spooling
from srm_dicom.scratch.spool import SealedSpool
from srm_plugin_dicom.deidentify.view import View
from srm_plugin_dicom.moves import ArrivedObject, MemoryBudget, MoveDesk, Visit
from srm_plugin_dicom.stores import ObjectInfo

CLOCK = SystemClock()
Got = list[tuple[str, bytes]]


def info(instance: str, calling: str = "PACS") -> ObjectInfo:
    return ObjectInfo("1.2", instance, "1.2.840.10008.1.2", calling, "127.0.0.1")


def visit(got: Got, *instances: str) -> Visit:
    return Visit(
        frozenset({"PACS"}), instances, lambda info, data: got.append((info.sop_instance, bytes(data))), CLOCK
    )


def desk(*, object_bytes: int = 100, budget: MemoryBudget | None = None) -> MoveDesk:
    return MoveDesk(max_object_bytes=object_bytes, budget=budget or MemoryBudget(1000))


def send(to: MoveDesk, what: ObjectInfo, data: bytes = b"data") -> None:
    sink = to.begin(what)
    for at in range(0, len(data), 3):
        sink.write(memoryview(data)[at : at + 3])
    sink.finish()


def test_an_announced_object_is_delivered_once() -> None:
    got: Got = []
    ours = desk()
    waiting = visit(got, "1", "2")
    with ours.expecting(waiting):
        send(ours, info("1"))
        with pytest.raises(NotAuthorised):
            send(ours, info("1"))
        with pytest.raises(NotAuthorised):
            send(ours, info("3"))
        with pytest.raises(NotAuthorised):
            send(ours, info("2", calling="OTHER"))
        send(ours, info("2"))
        assert waiting.wait(CLOCK.monotonic_s(), 0) == 0
    with pytest.raises(NotAuthorised):
        send(ours, info("2"))
    assert got == [("1", b"data"), ("2", b"data")]


def test_a_visit_rests_until_everything_has_come() -> None:
    ours, waiting = desk(), visit([], "1", "2")
    with ours.expecting(waiting):
        send(ours, info("1"))
        assert not waiting.rest(0.0)
        ours.begin(info("2")).abandon()
        assert not waiting.rest(0.0)
        threading.Timer(0.05, send, (ours, info("2"))).start()
        assert waiting.rest(30.0)


def test_two_visits_for_one_object_get_one_each() -> None:
    first: Got = []
    second: Got = []
    ours = desk()
    with ours.expecting(visit(first, "1")), ours.expecting(visit(second, "1")):
        send(ours, info("1"))
        send(ours, info("1"))
    assert first == second == [("1", b"data")]


def test_bounds_and_that_memory_comes_back() -> None:
    budget = MemoryBudget(15)
    ours = desk(object_bytes=10, budget=budget)
    told: list[tuple[str, type[MdmError]]] = []

    def hear(instance: str, error: MdmError) -> bool:
        told.append((instance, type(error)))
        return False

    waiting = visit([], "1", "2", "3", "4")
    waiting.not_held = hear
    with ours.expecting(waiting):
        large = ours.begin(info("1"))
        with pytest.raises(TooLarge):
            large.write(memoryview(bytes(11)))
        large.abandon()
        held = ours.begin(info("2"))
        held.write(memoryview(bytes(10)))
        other = ours.begin(info("3"))
        with pytest.raises(Overloaded):
            other.write(memoryview(bytes(10)))
        other.abandon()
        held.finish()
        assert budget.held_bytes == 0
        send(ours, info("4"))
        assert told == [("1", TooLarge), ("3", Overloaded)]
        assert waiting.missing() == (), "what there is no room for is not waited for"


def test_an_object_that_broke_off_may_come_again() -> None:
    got: Got = []
    ours = desk()
    with ours.expecting(visit(got, "1")):
        ours.begin(info("1")).abandon()
        send(ours, info("1"))
    assert got


def test_a_delivery_that_fails_is_told_and_not_waited_for() -> None:
    def deliver(_info: ObjectInfo, _data: ArrivedObject) -> None:
        raise NoSpace("scratch is full")

    ours = desk()
    waiting = Visit(frozenset({"PACS"}), ["1"], deliver, CLOCK)
    with ours.expecting(waiting), pytest.raises(NoSpace):
        send(ours, info("1"))
    assert waiting.wait(CLOCK.monotonic_s() + 5, 5) == 0


def test_waiting_ends_when_nothing_comes_any_more() -> None:
    waiting = visit([], "1")
    started_s = CLOCK.monotonic_s()
    assert waiting.wait(started_s + 5, 0.1) == 1
    assert CLOCK.monotonic_s() - started_s < 4


def test_an_object_under_way_is_waited_for() -> None:
    got: Got = []
    ours = desk()
    waiting = visit(got, "1")
    with ours.expecting(waiting):
        sink = ours.begin(info("1"))
        threading.Timer(0.3, sink.finish).start()
        assert waiting.wait(CLOCK.monotonic_s() + 5, 0.05) == 0
        late = visit(got, "2")
        with ours.expecting(late):
            ours.begin(info("2"))
            assert late.wait(CLOCK.monotonic_s() + 0.2, 0.05) == 1
    assert got == [("1", b"")]


def test_a_large_object_is_taken_from_memory_to_a_spool(tmp_path: Path) -> None:
    opened: list[SealedSpool] = []

    def open_spool() -> SealedSpool:
        opened.append(SealedSpool(tmp_path, memory_bytes=0, max_bytes=100))
        return opened[-1]

    got: list[object] = []
    budget = MemoryBudget(1000)

    def deliver(_info: ObjectInfo, data: ArrivedObject) -> None:
        got.append((type(data), bytes(data), budget.held_bytes))

    ours = MoveDesk(max_object_bytes=40, budget=budget, spooling=Spooling(10, open_spool))
    with ours.expecting(Visit(frozenset({"PACS"}), ["1", "2", "3", "4"], deliver, CLOCK)):
        send(ours, info("1"), b"0123456789")
        assert opened == []
        send(ours, info("2"), b"0123456789ab")
        with pytest.raises(TooLarge):
            send(ours, info("3"), bytes(41))
        broken = ours.begin(info("4"))
        broken.write(memoryview(bytes(20)))
        broken.abandon()
    assert got == [(bytearray, b"0123456789", 10), (View, b"0123456789ab", 0)]
    assert budget.held_bytes == 0
    assert len(opened) == 3
