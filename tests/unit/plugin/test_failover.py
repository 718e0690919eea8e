"""Archives with the same images: order, load, rest, and which failure is told."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import pytest

from srm_dicom.errors import (
    MdmError,
    NoSpace,
    NotDelivered,
    Overloaded,
    SourceRefused,
    SourceUnavailable,
)
from srm_dicom.testing.clock import FakeClock
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.failover import Failover
from srm_plugin_dicom.hours import Load
from srm_plugin_dicom.moves import Deliver
from srm_plugin_dicom.stores import ObjectInfo

WANTED = Wanted("1", "1.1", ("1.1.1", "1.1.2", "1.1.3"))


class Held:
    """An archive that sends what it has, then fails as it is told to."""

    def __init__(self, name: str, instances: Iterable[str], error: MdmError | None = None) -> None:
        self.name = name
        self.instances = set(instances)
        self.error = error
        self.asked: list[tuple[str, ...]] = []
        self.hold = threading.Event()
        self.hold.set()

    def fetch(self, wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        (series,) = wanted
        self.asked.append(series.instances)
        self.hold.wait(5)
        for instance in series.instances:
            if instance in self.instances:
                deliver(ObjectInfo("", instance, "", self.name, ""), bytearray())
        if self.error is not None:
            raise self.error


def fetch(
    *archives: Held, clock: FakeClock | None = None, failover: Failover | None = None
) -> tuple[list[str], MdmError | None]:
    came: list[str] = []
    failover = failover or make(*archives, clock=clock)
    try:
        failover.fetch(
            [each.name for each in archives], [WANTED], lambda info, _: came.append(info.calling), 9
        )
    except MdmError as error:
        return came, error
    return came, None


def make(
    *archives: Held, clock: FakeClock | None = None, loads: Mapping[str, Load] | None = None
) -> Failover:
    def load(name: str) -> Load:
        return (loads or {}).get(name, Load(1))

    return Failover(archives, load, rest_s=60, clock=clock or FakeClock())  # type: ignore[arg-type]


def test_what_the_first_has_not_the_second_sends() -> None:
    first, second = Held("a", ["1.1.1"]), Held("b", ["1.1.1", "1.1.2", "1.1.3"])
    assert fetch(first, second) == (["a", "b", "b"], None)
    assert second.asked == [("1.1.2", "1.1.3")]


def test_nobody_is_asked_for_what_is_there() -> None:
    first, second = Held("a", WANTED.instances, SourceUnavailable("late")), Held("b", [])
    assert fetch(first, second) == (["a"] * 3, None)
    assert not second.asked


def test_an_object_is_delivered_once() -> None:
    twice = Held("a", WANTED.instances)
    came: list[str] = []

    def again(wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        for _ in range(2):
            deliver(ObjectInfo("", wanted[0].instances[0], "", "a", ""), bytearray())

    twice.fetch = again  # type: ignore[method-assign]
    with pytest.raises(NotDelivered):
        make(twice).fetch(["a"], [WANTED], lambda info, _: came.append(info.sop_instance), 9)
    assert came == ["1.1.1"]


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ((SourceUnavailable("x"), SourceUnavailable("y")), SourceUnavailable),
        ((SourceRefused("x"), SourceUnavailable("y")), SourceUnavailable),
        ((SourceUnavailable("x"), None), SourceUnavailable),
        ((SourceRefused("x"), None), NotDelivered),
        ((SourceRefused("x"), SourceRefused("y")), SourceRefused),
        ((None, None), NotDelivered),
    ],
)
def test_the_failure_after_which_asking_again_helps_most(
    errors: tuple[MdmError | None, ...], told: type[MdmError]
) -> None:
    _, error = fetch(*(Held(name, [], each) for name, each in zip("ab", errors, strict=True)))
    assert type(error) is told


def test_one_that_is_down_rests() -> None:
    clock = FakeClock()
    first, second = Held("a", WANTED.instances, SourceUnavailable("down")), Held("b", WANTED.instances)
    first.instances.clear()
    failover = make(first, second, clock=clock)
    for _ in range(3):
        assert fetch(first, second, failover=failover)[1] is None
    assert (len(first.asked), len(second.asked)) == (1, 3)
    clock.advance(61)
    fetch(first, second, failover=failover)
    assert len(first.asked) == 2


def test_no_room_here_is_no_failure_of_the_archive() -> None:
    clock = FakeClock()
    first = Held("a", WANTED.instances)
    second = Held("b", WANTED.instances)
    failover = make(first, second, clock=clock)

    def full(_info: ObjectInfo, _data: bytearray) -> None:
        raise NoSpace("scratch is full")

    def suppressed(wanted: Sequence[Wanted], deliver: Deliver, _deadline_s: float) -> None:
        for instance in wanted[0].instances[:2]:
            with suppress(MdmError):
                deliver(ObjectInfo("", instance, "", "a", ""), bytearray())
        raise SourceUnavailable("it broke off")

    first.fetch = suppressed  # type: ignore[method-assign]
    with pytest.raises(NoSpace):
        failover.fetch(["a", "b"], [WANTED], full, 9)
    assert not second.asked, "no mirror's image would find room"
    del first.fetch
    assert fetch(first, second, failover=failover) == (["a"] * 3, None), "it does not rest"


def test_that_nothing_was_taken_is_told_of_the_last_one_too() -> None:
    def broken(_info: ObjectInfo, _data: bytearray) -> None:
        raise Overloaded("a process that makes files has ended; it is replaced")

    def suppressed(wanted: Sequence[Wanted], deliver: Deliver, _deadline_s: float) -> None:
        for instance in wanted[0].instances:
            with suppress(MdmError):
                deliver(ObjectInfo("", instance, "", "a", ""), bytearray())

    archive = Held("a", [])
    archive.fetch = suppressed  # type: ignore[method-assign]
    with pytest.raises(Overloaded):
        make(archive).fetch(["a"], [WANTED], broken, 9)


def test_visits_are_bounded() -> None:
    archive = Held("a", WANTED.instances)
    archive.hold.clear()
    failover = make(archive)
    thread = threading.Thread(target=fetch, args=(archive,), kwargs={"failover": failover})
    thread.start()
    while not archive.asked:
        time.sleep(0.01)
    with pytest.raises(Overloaded):
        failover.fetch(["a"], [WANTED], lambda _info, _data: None, 0.1)
    archive.hold.set()
    thread.join(5)
    assert fetch(archive, failover=failover)[1] is None


def test_a_mirror_is_asked_at_its_own_rate() -> None:
    clock = FakeClock()
    first, second = Held("a", [], SourceUnavailable("down")), Held("b", WANTED.instances)
    asked_at: list[float] = []
    fetch_now = second.fetch

    def noted(wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        asked_at.append(clock.monotonic_s())
        fetch_now(wanted, deliver, deadline_s)

    second.fetch = noted  # type: ignore[method-assign]
    failover = make(first, second, clock=clock, loads={"b": Load(1, 0.1)})
    began_s, came = clock.monotonic_s(), []
    for names in (["a", "b"], ["b"]):
        failover.fetch(names, [WANTED], lambda info, _: came.append(info.calling), 99)
    assert came == ["b"] * 6
    assert [at_s - began_s for at_s in asked_at] == [0, 10, 20, 30, 40, 50]
    assert [len(each) for each in second.asked] == [1] * 6
    with pytest.raises(Overloaded):
        failover.fetch(["b"], [WANTED], lambda *_: None, 9)
    assert len(second.asked) == 6, "not within the time of the visit"
