"""What workers are told of open moves, and which of the files that they bring are taken."""

import socket
import threading
import uuid
from dataclasses import dataclass

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthorised, Overloaded, TooLarge
from srm_dicom.ids import Guid
from srm_dicom.plugin.attending import Commission
from srm_plugin_dicom import moves
from srm_plugin_dicom.admission import Admission
from srm_plugin_dicom.association import Association, Limits
from srm_plugin_dicom.attending import MoveAttendant
from srm_plugin_dicom.moves import ByWorkers, MemoryBudget, MoveDesk, Visit
from srm_plugin_dicom.stores import ObjectInfo

CLOCK = SystemClock()
ADDRESS = "192.0.2.7"


@dataclass
class File:
    guid: Guid


@dataclass
class Task:
    name: str
    words: tuple[str, ...]


def guid_of(instance, release="a"):
    return Guid(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{release} {instance}")))


def words(instance, calling="PACS", move_id=0):
    return ("1.2", instance, "1.2.840.10008.1.2", calling, str(move_id))


class Expected(Visit):
    """A visit whose files come into a list."""

    def __init__(self, *instances, release="a", delivered=(), error=None):
        self.got = []

        def commission(instance):
            if instance in delivered:
                return None
            return Commission(instance, ("series",), list, guid_of(instance, release), b"key")

        def keep(info, file):
            if error is not None:
                raise error
            self.got.append((info.sop_instance, info.address, file.guid))

        by_workers = ByWorkers(commission, keep)
        super().__init__(frozenset({"PACS"}), instances, lambda *_: None, CLOCK, by_workers)


@pytest.fixture
def desk():
    return MoveDesk(max_object_bytes=100, budget=MemoryBudget(1000))


@pytest.fixture
def attendant(desk):
    return MoveAttendant(desk, ADDRESS)


def names(commissions):
    return [commission.name for commission in commissions]


def test_of_what_arrives_and_of_others_it_is_told_what_to_make(desk, attendant, monkeypatch):
    monkeypatch.setattr(moves, "AHEAD", 2)
    visit = Expected("1", "2", "3", "4", "5")
    with desk.expecting(visit):
        assert not visit.has_begun
        found = attendant.commissions(words("3"))
        assert names(found) == ["3", "1", "2"]
        assert [commission.guid for commission in found] == [guid_of(name) for name in ("3", "1", "2")]
        assert visit.has_begun
        with pytest.raises(NotAuthorised):
            attendant.commissions(words("6"))
        with pytest.raises(NotAuthorised):
            attendant.commissions(words("3", calling="OTHER"))
        attendant.keep(words("3"), File(guid_of("3")))
        with pytest.raises(NotAuthorised):
            attendant.commissions(words("3"))
        assert names(attendant.commissions(words("1"))) == ["1", "2", "4"]
    with pytest.raises(NotAuthorised):
        attendant.commissions(words("1"))


def test_what_has_to_be_delivered_is_not_made(desk, attendant):
    with desk.expecting(Expected("1", "2", "3", delivered={"2"})):
        assert names(attendant.commissions(words("1"))) == ["1"], "what follows may be asked for then"
        assert attendant.commissions(words("2")) == []


def test_a_file_is_taken_once_and_its_sender_is_known_here(desk, attendant):
    visit = Expected("1", "2")
    with desk.expecting(visit):
        for _ in range(2):
            attendant.keep(words("1"), File(guid_of("1")))
        attendant.keep(words("3"), File(guid_of("3")))
        assert visit.missing() == ("2",)
        assert not visit.rest(0.0)
        attendant.keep(words("2"), File(guid_of("2")))
        assert visit.rest(0.0)
        assert visit.wait(CLOCK.monotonic_s(), 0) == 0
    attendant.keep(words("1"), File(guid_of("1")))
    assert visit.got == [(name, ADDRESS, guid_of(name)) for name in ("1", "2")]


def test_each_of_two_visits_gets_the_file_of_its_release(desk, attendant):
    """Though both wait for the same instance, and whichever C-MOVE the sender names."""
    first, second = Expected("1", release="a"), Expected("1", release="b")
    with desk.expecting(first), desk.expecting(second):
        told = attendant.commissions(words("1", move_id=second.number))
        assert told[0].guid == guid_of("1", "b")
        assert attendant.commissions(words("1"))[0].guid == guid_of("1", "a")
        attendant.keep(words("1", move_id=first.number), File(guid_of("1", "b")))
        assert (first.got, len(second.got)) == ([], 1)
        attendant.keep(words("1", move_id=second.number), File(guid_of("1", "a")))
        assert len(first.got) == 1


def test_a_file_that_finds_no_place_has_come_all_the_same(desk, attendant):
    visit = Expected("1", error=Overloaded("no"))
    with desk.expecting(visit):
        with pytest.raises(Overloaded):
            attendant.keep(words("1"), File(guid_of("1")))
        assert visit.rest(0.0)


def test_a_visit_waits_for_what_is_on_its_way_to_a_worker(desk, attendant):
    """An archive may answer before its last object has left, which may take longer than it is waited for."""
    visit = Expected("1")

    def send():
        for _ in range(10):
            attendant.coming(words("1"))
            attendant.coming(words("other"))
            CLOCK.sleep(0.1)
        attendant.keep(words("1"), File(guid_of("1")))

    with desk.expecting(visit):
        thread = threading.Thread(target=send)
        thread.start()
        assert visit.wait(CLOCK.monotonic_s() + 30.0, 0.6) == 0
        thread.join()


@pytest.mark.parametrize("told", [(), ("1.2", "1", "x", "PACS"), ("1.2", "1", "x", "PACS", "many")])
def test_words_that_describe_no_object(attendant, told):
    with pytest.raises(ValueError, match=r"."):
        attendant.commissions(told)


class Workers:
    """Attends what it is given with a bench that has room for more than the desk takes."""

    most_bytes = 1000

    def __init__(self):
        self.handed = b""

    def attend(self, connection, program, attendant, silent_s):
        program(connection, self)
        return True

    def catch_up(self): ...

    def ask(self, words):
        return [Task(words[1], ("series", "study"))]

    def make(self, task, data, hints, words):
        pytest.fail("it is larger than max_object_bytes")

    def hand_over(self, words):
        return self

    def write(self, chunk):
        self.handed += chunk

    def finish(self):
        raise TooLarge("an object is larger than max_object_bytes")


def test_what_is_larger_than_any_object_is_not_made_by_a_worker_either(monkeypatch):
    def run(association):
        sink = association._handler.begin(ObjectInfo("1.2", "1", "1.2.840.10008.1.2", "PACS", ADDRESS))
        sink.write(memoryview(bytes(60)))
        sink.write(memoryview(bytes(41)))
        with pytest.raises(TooLarge):
            sink.finish()

    monkeypatch.setattr(Association, "run", run)
    workers = Workers()
    ours = MoveDesk(max_object_bytes=100, budget=MemoryBudget(1000), attending=workers)
    with socket.socket() as connection:
        assert ours.attend(connection, ADDRESS, Admission("MDM1", ()), Limits())
    assert len(workers.handed) == 101
