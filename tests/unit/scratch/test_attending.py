"""Connections that workers attend: the same files as those made here, and nothing lost when a worker is."""

import os
import pickle
import random
import socket
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import InternalError, MdmError, NoSpace, NotAuthorised, Overloaded
from srm_dicom.plugin.attending import Commission
from srm_dicom.scratch import attending, sessions
from srm_dicom.scratch import workshop as workshop_module
from srm_dicom.scratch.attending import Attended, Bench
from srm_dicom.scratch.slot import FileSlot, SlotSettings
from srm_dicom.testing import programs, recipes
from srm_dicom.testing.waiting import eventually

KEY, PUBLIC = b"k" * 32, bytes(range(32))
MOST_BYTES = 100_000
SILENT_S = 60.0
PATIENCE_S = 30


def content(size):
    return random.Random(size).randbytes(size)


class Desk:
    """The attendant: waits for objects by name, has a slot for each, and remembers what came."""

    def __init__(self, area, name, settings):
        self.area, self._name, self._settings = area, name, settings
        self.wanted, self.outcomes = {}, {}
        self.asked, self.kept, self.handed, self.coming_of, self.abandoned = [], [], {}, [], []
        self.take = lambda _size_bytes: None
        self.public_key = PUBLIC

    def want(self, *names, recipe=recipes.where):
        for name in names:
            self.wanted[name] = (recipe, self._name(name).guid)

    def slot(self, name, *, here=False):
        guid = self._name(name).guid
        sealer = Sealer(KEY, guid, self.public_key) if self.public_key else None

        def done(_guid, outcome):
            self.outcomes[name, here] = outcome

        return FileSlot(guid, sealer, self.area.begin, self._settings, done, self.take)

    def commissions(self, words):
        (name,) = words
        self.asked.append(name)
        if name not in self.wanted:
            raise NotAuthorised("nobody waits for it")
        found = []
        for each in sorted(self.wanted, key=lambda one: one != name):
            recipe, guid = self.wanted[each]
            if recipe is None:
                break
            words = ("two", "words") if recipe is recipes.where else ()
            found.append(Commission(each, words, recipe, guid, self.public_key))
        return found

    def coming(self, words):
        self.coming_of.append(words)

    def keep(self, words, file):
        (name,) = words
        self.kept.append(name)
        if self.wanted.pop(name, None) is not None:
            slot = self.slot(name)
            try:
                slot.keep(file)
            except MdmError as error:
                slot.fail(error)
                raise

    def begin(self, words):
        (name,) = words
        if name == "unwelcome":
            raise Overloaded("not now")
        return Handed(self, name)

    def file(self, name):
        return self.area.incoming(self.outcomes[name, False].incoming.id).read_bytes()


class Handed:
    def __init__(self, desk, name):
        self._desk, self._name, self._data = desk, name, b""

    def write(self, chunk):
        if self._name == "toomuch":
            raise NoSpace("no room")
        self._data += chunk

    def finish(self):
        self._desk.handed[self._name] = self._data

    def abandon(self):
        self._desk.abandoned.append(self._name)


@pytest.fixture
def desk(tmp_path, outer, name):
    return Desk(outer.area, name, SlotSettings(tmp_path))


@pytest.fixture
def open_workshop(outer, open_workshop):
    """Workshops whose workers attend connections."""
    return partial(open_workshop, begin=outer.area.begin, attended_bytes=MOST_BYTES)


class Sender:
    """The other end of a connection."""

    def __init__(self, connection):
        self._connection = connection
        self._stream = connection.makefile("rwb")

    def send(self, name, data=b"", *, of=None):
        """Send an object, or the beginning of one; returns the answer and who gave it."""
        self._stream.write(f"{name} {of or len(data)}\n".encode() + data)
        self._stream.flush()
        answer, _, pid = self._stream.readline().decode().strip().partition(" ")
        return answer, pid

    def answer(self, name, data=b""):
        return self.send(name, data)[0]

    def close(self):
        self._stream.close()
        self._connection.close()


@contextmanager
def attended(workshop, desk):
    """A connection that is left to a worker; yields its other end and what became of it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    results = []

    def attend():
        with theirs:
            results.append(workshop.attend(theirs, programs.Lines(), desk, SILENT_S))

    thread = threading.Thread(target=attend)
    thread.start()
    sender = Sender(ours)
    try:
        yield sender, results
    finally:
        sender.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("sealed", [True, False])
def test_a_worker_makes_the_files_of_a_connection(open_workshop, desk, outer, sealed):
    """The same as the recipe makes here; one question serves all, and what was not needed is gone."""
    if not sealed:
        desk.public_key = b""
    workshop, names = open_workshop(), [f"o{number}" for number in range(50)]
    desk.want(*names)
    with attended(workshop, desk) as (sender, results):
        answers = {sender.send(name, content(1000 + at)) for at, name in enumerate(names)}
    assert {answer for answer, _ in answers} == {"ok"}
    assert {int(pid) for _, pid in answers} == set(workshop.pids)
    assert (results, desk.asked, desk.kept) == ([True], names[:1], names)
    assert len(outer.incoming()) == len(names)
    for at, name in enumerate(names):
        there = desk.outcomes[name, False]
        slot = desk.slot(name, here=True)
        assert slot.make(recipes.where, bytearray(content(1000 + at)), ("two", "words"))
        here = desk.outcomes[name, True]
        facts = ("size_bytes", "adler32", "blake3", "header_blake3")
        assert [getattr(there, each) for each in facts] == [getattr(here, each) for each in facts]
        assert desk.file(name) == desk.area.incoming(here.incoming.id).read_bytes()


def test_what_nobody_waits_for_is_refused(open_workshop, desk, outer):
    workshop = open_workshop()
    desk.want("known")
    with attended(workshop, desk) as (sender, _):
        assert sender.answer("unknown", b"x") == "NotAuthorised"
        assert sender.answer("known", b"x") == "ok"
        assert sender.answer("known", b"x") == "NotAuthorised", "it has come"
    assert desk.kept == ["known"]
    assert len(outer.incoming()) == 1


def test_two_connections_bring_the_same_object_and_one_is_kept(open_workshop, desk, outer):
    """Each worker heard of it before the other had made it; the second file goes."""
    workshop = open_workshop(2)
    desk.want("first", "second", "both")
    with attended(workshop, desk) as (one, _), attended(workshop, desk) as (other, _):
        assert one.answer("first", b"1") == other.answer("second", b"2") == "ok"
        (answer, pid), (other_answer, other_pid) = one.send("both", b"3"), other.send("both", b"3")
        assert answer == other_answer == "ok"
        assert pid != other_pid, "who attends fewest gets the next"
    assert desk.kept.count("both") == 2
    assert len(outer.incoming()) == 3


@pytest.mark.parametrize("recipe", [recipes.decline, None], ids=["declined", "not commissioned"])
def test_what_cannot_be_made_is_handed_over(open_workshop, desk, recipe):
    desk.want("object", recipe=recipe)
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("object", content(200_000)) == "ok"
    assert desk.handed == {"object": content(200_000)}
    assert desk.kept == []


def test_a_large_object_is_handed_over_and_a_recipe_that_stays(open_workshop, desk):
    desk.want("large", "next")
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("large", content(MOST_BYTES + 1)) == "ok"
        assert sender.answer("next", b"x") == "ok"
        desk.want("closure", recipe=lambda data, *_: ([data], ""))
        with capture_logs() as logs:
            assert sender.answer("closure", b"xyz") == "ok"
    assert [line["event"] for line in logs] == ["recipe_stays"]
    assert desk.handed == {"large": content(MOST_BYTES + 1), "closure": b"xyz"}
    assert desk.kept == ["next"]


def test_what_is_handed_over_and_not_taken(open_workshop, desk):
    desk.want("unwelcome", "toomuch", "abandoned", "last", recipe=None)
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("unwelcome", content(150_000)) == "Overloaded"
        assert sender.answer("toomuch", content(150_000)) == "NoSpace"
        assert sender.answer("abandoned", content(70_000)) == "ok"
        assert sender.answer("last", b"x") == "ok"
    assert desk.abandoned == ["toomuch", "abandoned"]
    assert desk.handed == {"last": b"x"}


def test_a_long_session_keeps_no_more_recipes_than_it_needs(open_workshop, desk):
    """Each visit has one of its own, and an archive may keep its association for days."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bench = Bench(theirs, KEY, MOST_BYTES)
    for number in range(1, 4):
        task = attending.Task("o", (), number, "guid", b"")
        ours.send(attending.encode(attending.Tasks((task,), {number: pickle.dumps(recipes.where)}, ())))
        bench.ask(("o",))
    assert list(bench._recipes) == [3]
    ours.close()
    theirs.close()
    with attended(open_workshop(), desk) as (sender, _):
        for name, recipe in [("a1", recipes.where), ("b1", partial(recipes.where)), ("a2", recipes.where)]:
            desk.want(name, recipe=recipe)
            assert sender.answer(name, b"x") == "ok"
    assert desk.kept == ["a1", "b1", "a2"]


def test_a_refusal_is_told_on_both_sides_and_keeps_nothing(open_workshop, desk, outer):
    desk.want("bad", recipe=recipes.refuse)
    desk.want("good")
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("bad", b"x") == "ObjectRefused"
        assert sender.answer("good", b"x") == "ok"
    assert "burned-in text" in str(desk.outcomes["bad", False])
    assert len(outer.incoming()) == 1


def test_a_defect_tells_nothing_of_the_object(open_workshop, desk, capfd):
    desk.want("bad", recipe=recipes.break_down)
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("bad", b"x") == "InternalError"
    assert isinstance(desk.outcomes["bad", False], InternalError)
    told = capfd.readouterr().err
    assert "making_failed" in told
    assert recipes.SECRET not in told


def test_an_object_on_its_way_is_told_of(open_workshop, desk):
    desk.want("coming")
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("coming", b"x") == "ok"
    assert desk.coming_of == [("coming",)]


# --- no room ---------------------------------------------------------------------------------------


def test_no_room_for_another_file(open_workshop, desk, outer):
    left = [3]

    def begin():
        left[0] -= 1
        if left[0] < 0:
            raise NoSpace("scratch is full")
        return outer.area.begin()

    desk.want("o1", "o2", "o3")
    workshop = open_workshop(begin=begin)
    with attended(workshop, desk) as (sender, _):
        assert [sender.answer(name, b"x") for name in ("o1", "o2", "o3")] == ["ok", "ok", "ok"]
        desk.want("o4", "o5")
        assert sender.answer("o4", b"x") == "NoSpace"
    assert isinstance(desk.outcomes["o4", False], NoSpace), "who waits for it hears why"


def test_room_for_some_files_and_then_for_others(open_workshop, desk, outer):
    left = [2]

    def begin():
        left[0] -= 1
        if left[0] < 0:
            raise NoSpace("scratch is full")
        return outer.area.begin()

    names = [f"o{number}" for number in range(1, 7)]
    desk.want(*names)
    with attended(open_workshop(begin=begin), desk) as (sender, _):
        assert [sender.answer(name, b"x") for name in names[:3]] == ["ok", "ok", "NoSpace"]
        left[0] = 100
        assert [sender.answer(name, b"x") for name in names[3:]] == ["ok", "ok", "ok"]
    assert len(outer.incoming()) == 5


def test_no_room_in_the_reservation(open_workshop, desk, outer):
    def take(_size_bytes):
        raise NoSpace("scratch is full")

    desk.take = take
    desk.want("object")
    with attended(open_workshop(), desk) as (sender, _):
        assert sender.answer("object", b"x") == "ok", "its sender had the answer before"
    assert isinstance(desk.outcomes["object", False], NoSpace)
    assert outer.incoming() == []


def test_a_disk_that_fills_up_while_a_file_is_written(tmp_path):
    """The answer says so, and the stager hears of a file that is to go."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bench = Bench(theirs, KEY, MOST_BYTES)
    full = os.open("/dev/full", os.O_WRONLY)
    task = attending.Task("o", (), 1, "guid", b"")
    told = attending.Tasks((task,), {1: pickle.dumps(recipes.where)}, ("blank",))

    def answer():
        ours.recv(1000)
        socket.send_fds(ours, [attending.encode(told)], [full])

    threading.Thread(target=answer).start()
    assert bench.ask(("o",)) == (task,)
    with pytest.raises(NoSpace):
        bench.make(task, b"x", (), ("o",))
    made = attending.read_said(ours.recv(1000))
    assert (made.blank, made.outcome.leaf) == ("blank", "NoSpace")
    ours.close()
    theirs.close()
    os.close(full)


# --- workers that end or lie -------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_keeps_what_it_had_brought(open_workshop, desk, outer):
    workshop = open_workshop()
    before = workshop.pids
    desk.want("o1", "o2", "die")
    with capture_logs() as logs, attended(workshop, desk) as (sender, results):
        assert sender.answer("o1", b"x") == "ok"
        assert sender.answer("die") == ""
    assert results == [True]
    assert [line["event"] for line in logs] == ["worker_lost"]
    assert desk.kept == ["o1"]
    assert len(outer.incoming()) == 1, "no blank is left"
    eventually(lambda: workshop.idle == 1)
    assert workshop.pids != before
    with attended(workshop, desk) as (sender, _):
        assert sender.answer("o2", b"x") == "ok"


def test_a_program_that_breaks_ends_its_worker(open_workshop, desk, capfd):
    workshop = open_workshop()
    before = workshop.pids
    with attended(workshop, desk) as (sender, _):
        assert sender.answer("break", recipes.SECRET.encode()) == ""
    eventually(lambda: workshop.idle == 1 and workshop.pids != before)
    told = capfd.readouterr().err
    assert "attending_failed" in told
    assert recipes.SECRET not in told


LIAR = """
import os, socket, sys, msgspec
from srm_dicom.scratch.making import Finished, Ready
from srm_dicom.scratch.attending import *
from srm_dicom.scratch import attending
encode = msgspec.msgpack.encode
orders, door = (socket.socket(fileno=int(sys.argv[at])) for at in (1, 4))
orders.recv(100000)
orders.sendall(encode(Ready()))
_, (connection, channel), _, _ = socket.recv_fds(door, 1, 2)
channel = socket.socket(fileno=channel)
channel.recv(100000)
channel.sendall(encode(attending.Asked(("object",))))
packet, blanks, _, _ = socket.recv_fds(channel, 100000, 32)
tasks = msgspec.msgpack.decode(packet)
os.write(blanks[0], b"12345")
facts = Finished(5, "0" * 8, "0" * 64, "0" * 64, "")
made = lambda blank, facts: encode(attending.Made(("object",), tasks["tasks"][0]["guid"], blank, facts))
channel.sendall({lie})
channel.recv(100000)
"""


@pytest.mark.parametrize(
    "lie",
    [
        "b'nonsense'",
        "encode(Ready())",
        "made('0' * 32, facts)",
        "made(tasks['blanks'][0], Finished(6, '0' * 8, '0' * 64, '0' * 64, ''))",
        "made(tasks['blanks'][0], Finished(-1, '0' * 8, '0' * 64, '0' * 64, ''))",
        "b'x' * 130000",
    ],
)
def test_a_worker_is_not_believed(open_workshop, desk, outer, lie):
    workshop = open_workshop(command=(sys.executable, "-c", LIAR.replace("{lie}", lie)))
    (pid,) = workshop.pids
    desk.want("object")
    with attended(workshop, desk) as (_, results):
        eventually(lambda: results)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert desk.outcomes == {}
    assert outer.incoming() == []


def test_a_file_that_was_told_of_and_is_not_there(open_workshop, desk):
    lie = LIAR.replace("{lie}", "made('', facts)")
    desk.want("object")
    workshop = open_workshop(command=(sys.executable, "-c", lie))
    with attended(workshop, desk):
        eventually(lambda: desk.outcomes)
        workshop.stop()
    assert [type(outcome) for outcome in desk.outcomes.values()] == [Overloaded]


def test_another_files_bytes_are_not_taken(desk, name, outer):
    slot = desk.slot("one")
    other = sessions.BroughtFile(name("two").guid, outer.area.begin(), InternalError("x"))
    with pytest.raises(InternalError, match="slot of another"):
        slot.keep(other)
    with pytest.raises(InternalError, match="slot of another"):
        slot.keep(object())
    other.drop()
    assert outer.incoming() == []


def test_a_worker_that_is_silent_for_too_long_is_given_up(open_workshop, desk, monkeypatch):
    monkeypatch.setattr(sessions, "SILENT_S", 0.2)
    workshop = open_workshop()
    before = workshop.pids
    ours, theirs = socket.socketpair()
    with ours, theirs, capture_logs() as logs:
        assert workshop.attend(theirs, programs.Lines(), desk, 0.1) is True
    assert [line["event"] for line in logs] == ["worker_lost"]
    eventually(lambda: workshop.idle == 1)
    assert workshop.pids != before


def test_who_catches_up_waits_for_no_keeping_that_hangs(open_workshop, desk, monkeypatch):
    monkeypatch.setattr(workshop_module, "CATCH_UP_S", 0.2)
    workshop, plain, goes_on = open_workshop(), desk.keep, threading.Event()

    def keep(words, file):
        assert goes_on.wait(PATIENCE_S)
        plain(words, file)

    monkeypatch.setattr(desk, "keep", keep)
    desk.want("o1")
    with attended(workshop, desk) as (sender, _):
        assert sender.answer("o1", b"x") == "ok"
        workshop.catch_up()
        assert desk.kept == []
        goes_on.set()
        eventually(lambda: desk.kept == ["o1"])


def test_one_that_makes_a_file_for_too_long_is_stuck():
    attended_, bench = Attended(), Bench(socket.socket(), KEY, MOST_BYTES)
    attended_.sessions.add(bench)
    assert not attended_.is_stuck(0.0)
    bench.busy_since_s = time.monotonic() - 5.0
    assert attended_.is_stuck(4.0)
    assert not attended_.is_stuck(60.0)


# --- who attends ---------------------------------------------------------------------------------------


def test_nobody_attends_where_files_are_not_on_this_machine(open_workshop, desk):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert open_workshop(begin=None).attend(theirs, programs.Lines(), desk, SILENT_S) is False
        ours.sendall(b"still ours")
        assert theirs.recv(100) == b"still ours"


def test_a_worker_attends_so_many_and_no_more(open_workshop, desk, monkeypatch):
    monkeypatch.setattr(workshop_module, "MOST_ATTENDED", 2)
    workshop = open_workshop()
    desk.want("o1", "o2", "o3")
    with attended(workshop, desk) as (one, _), attended(workshop, desk) as (two, _):
        assert one.answer("o1", b"1") == two.answer("o2", b"2") == "ok"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert workshop.attend(theirs, programs.Lines(), desk, SILENT_S) is False
    with attended(workshop, desk) as (three, _):
        assert three.answer("o3", b"3") == "ok"


def test_the_end_of_a_workshop_ends_its_sessions(open_workshop, desk):
    workshop = open_workshop()
    desk.want("o1")
    with capture_logs() as logs, attended(workshop, desk) as (sender, results):
        assert sender.answer("o1", b"1") == "ok"
        workshop.stop()
        eventually(lambda: results == [True])
    assert logs == []


def test_who_closes_a_connection_ends_its_session(open_workshop, desk):
    """As an AE that is stopped does: it is the same connection on both sides."""
    workshop = open_workshop()
    desk.want("o1")
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=workshop.attend, args=(theirs, programs.Lines(), desk, SILENT_S))
    thread.start()
    assert Sender(ours).answer("o1", b"1") == "ok"
    theirs.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert workshop.idle == 1
    ours.close()
    theirs.close()


def test_what_was_answered_has_been_heard(open_workshop, desk, monkeypatch):
    """Whoever saw the answer, and then catches up, finds the file kept, however slow its keeping is."""
    workshop, plain = open_workshop(), desk.keep

    def keep(words, file):
        time.sleep(0.2)
        plain(words, file)

    monkeypatch.setattr(desk, "keep", keep)
    desk.want("o1", "o2", "o3")
    with attended(workshop, desk) as (sender, _):
        for name in ("o1", "o2", "o3"):
            assert sender.answer(name, b"x") == "ok"
        workshop.catch_up()
        assert desk.kept == ["o1", "o2", "o3"]
    workshop.catch_up()


def test_who_catches_up_waits_for_no_rest(open_workshop, desk, monkeypatch):
    """After a file a session rests, so that it hears several together; but not while somebody catches up."""
    monkeypatch.setattr(sessions, "HEARD_EVERY_S", 2 * workshop_module.CATCH_UP_S)
    workshop = open_workshop()
    desk.want("o1", "o2", "o3")
    with attended(workshop, desk) as (sender, _):
        assert sender.answer("o1", b"x") == "ok"
        eventually(lambda: desk.kept == ["o1"])
        assert sender.answer("o2", b"x") == sender.answer("o3", b"x") == "ok"
        workshop.catch_up()
        assert desk.kept == ["o1", "o2", "o3"]


def test_no_descriptor_is_left(open_workshop, desk):
    def count():
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", *workshop.pids)]

    workshop = open_workshop()
    desk.want(*(f"o{number}" for number in range(200)))
    before = None
    for number in range(12):
        with attended(workshop, desk) as (sender, _):
            assert sender.answer(f"o{number}", b"x") == "ok"
        if number == 1:
            eventually(lambda: not workshop._sessions)
            before = count()
    eventually(lambda: all(now <= then for now, then in zip(count(), before, strict=True)))
