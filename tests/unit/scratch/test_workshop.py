"""Files that other processes make: the same as those made here, and nothing lost when a process is."""

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from srm_dicom.crypto.siv import Sealer
from srm_dicom.daemon import confine
from srm_dicom.errors import InternalError, NoSpace, ObjectRefused, Overloaded
from srm_dicom.scratch import workshop as workshop_module
from srm_dicom.scratch.making import MOST_REPORT_CHARS
from srm_dicom.scratch.slot import FileSlot, SlotSettings
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.testing import recipes
from srm_dicom.testing.waiting import eventually

KEY, PUBLIC = b"k" * 32, bytes(range(32))
ROOM_BYTES = 1024 * 1024
PATIENCE_S = 30


class Slots:
    """Slots for files, here or by way of a workshop, and what became of each."""

    def __init__(self, tmp_path, area, name):
        self.area, self.name = area, name
        self.settings = SlotSettings(tmp_path)
        self.outcomes = {}

    def open(self, workshop=None, *, guid=None, sealed=True, **options):
        guid = guid or self.name().guid
        sealer = Sealer(KEY, guid, PUBLIC) if sealed else None
        if workshop is not None:
            options["hire"] = workshop.take
        return FileSlot(guid, sealer, self.area.begin, self.settings, self.outcomes.__setitem__, **options)

    def made(self, recipe, data, words=(), workshop=None, **options):
        """Return what is told of a file, and its bytes."""
        slot = self.open(workshop, **options)
        assert slot.make(recipe, data, words)
        filled = self.outcomes.pop(slot._guid)
        return filled, self.area.incoming(filled.incoming.id).read_bytes()


@pytest.fixture
def slots(tmp_path, outer, name):
    return Slots(tmp_path, outer.area, name)


def content(size):
    return bytearray(random.Random(size).randbytes(size))


@pytest.mark.parametrize("size", [0, 7, 70_000, ROOM_BYTES // 2])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_worker_makes_the_same_file(open_workshop, slots, size, sealed):
    workshop, guid, data = open_workshop(), slots.name().guid, content(size)
    options = {"guid": guid, "sealed": sealed}
    there, there_bytes = slots.made(recipes.where, data, ["two", "words"], workshop, **options)
    here, here_bytes = slots.made(recipes.where, data, ["two", "words"], **options)
    assert there_bytes == here_bytes
    assert sealed or here_bytes == data + b"two words"
    assert int(there.report) in workshop.pids
    assert replace(there, incoming=here.incoming, report=here.report) == here
    assert workshop.idle == 1


def test_a_recipe_is_learnt_once_and_forgets_nothing_else(open_workshop, slots):
    """A pickled copy stays with the worker; what it keeps of an object is not overwritten by the next."""
    workshop, recipe = open_workshop(), recipes.Remembering()
    first, second = content(1000), content(2000)
    assert slots.made(recipe, first, workshop=workshop, sealed=False)[1] == first
    assert slots.made(recipes.where, content(3000), workshop=workshop)[0].report
    assert slots.made(recipe, second, workshop=workshop, sealed=False)[1] == first + second
    for _ in range(40):  # more recipes than a worker keeps
        slots.made(recipes.Remembering(), first, workshop=workshop)
    assert slots.made(recipe, second, workshop=workshop, sealed=False)[1] == second


def test_a_refusal_comes_back_and_leaves_the_slot_open(open_workshop, slots):
    slot = slots.open(open_workshop())
    with pytest.raises(ObjectRefused, match="burned-in text"):
        slot.make(recipes.refuse, b"x")
    slot.refuse("burned-in text")
    assert [type(outcome) for outcome in slots.outcomes.values()] == [ObjectRefused]


@pytest.mark.parametrize("recipe", [recipes.decline, recipes.swell])
def test_what_is_declined_is_still_to_be_made(open_workshop, slots, recipe):
    """By the recipe's word, or because there is no room for what it makes."""
    slot = slots.open(open_workshop())
    data = content(ROOM_BYTES // 50)
    assert slot.make(recipe, data) is False
    slot.fill([data])
    assert [outcome.size_bytes > len(data) for outcome in slots.outcomes.values()] == [True]


def test_a_defect_tells_nothing_of_the_object(open_workshop, slots, capfd):
    slot = slots.open(open_workshop())
    with pytest.raises(InternalError) as broken:
        slot.make(recipes.break_down, b"x")
    assert recipes.SECRET not in str(broken.value)
    told = capfd.readouterr().err
    assert "making_failed" in told
    assert recipes.SECRET not in told


def test_a_report_that_is_too_long_ends_no_worker(open_workshop, slots):
    workshop = open_workshop()
    pids = workshop.pids
    filled, _ = slots.made(recipes.tell, bytearray(b"x" * MOST_REPORT_CHARS), workshop=workshop)
    assert len(filled.report) == MOST_REPORT_CHARS
    with pytest.raises(InternalError):
        slots.open(workshop).make(recipes.tell, bytearray(b"x" * (MOST_REPORT_CHARS + 1)))
    assert (workshop.pids, workshop.idle) == (pids, 1)


def test_a_worker_that_dies_is_replaced_and_leaves_nothing(open_workshop, slots, outer):
    workshop = open_workshop()
    before = workshop.pids
    slot = slots.open(workshop)
    with pytest.raises(Overloaded):
        slot.make(recipes.die, b"x")
    assert outer.incoming() == []
    slot.fail(Overloaded("again"))
    eventually(lambda: workshop.idle == 1)
    assert workshop.pids != before
    assert int(slots.made(recipes.where, content(10), workshop=workshop)[0].report) in workshop.pids


def test_one_that_hangs_is_given_up(open_workshop, slots, monkeypatch):
    monkeypatch.setattr(workshop_module, "WORK_S", 0.3)
    workshop = open_workshop()
    (pid,) = workshop.pids
    with pytest.raises(Overloaded):
        slots.open(workshop).make(recipes.hang, b"x")
    eventually(lambda: not Path(f"/proc/{pid}").exists())


LIAR = """
import socket, sys, msgspec
from srm_dicom.scratch.making import Finished, Ready, Begin
channel = socket.socket(fileno=int(sys.argv[1]))
channel.recv(100000)
channel.sendall(msgspec.msgpack.encode(Ready()))
channel.recv(100000)
channel.sendall({answer})
channel.recv(100000)
"""


@pytest.mark.parametrize(
    "answer",
    [
        "b'nonsense'",
        "msgspec.msgpack.encode(Finished(10**15, '0' * 8, '0' * 64, '0' * 64, ''))",
        "msgspec.msgpack.encode(Finished(-1, '0' * 8, '0' * 64, '0' * 64, ''))",
        "msgspec.msgpack.encode(Finished(1, 'nonsense', '0' * 64, '0' * 64, ''))",
        "msgspec.msgpack.encode(Finished(1, '0' * 8, '0' * 64, '0' * 64, 'Grüße'))",
        "msgspec.msgpack.encode(Ready())",
        "msgspec.msgpack.encode(Begin(b'', ()))",
        "b'x' * 130000",
    ],
)
def test_a_worker_is_not_believed(open_workshop, slots, answer):
    """It has read what a stranger sent: what it says is in these words, and within its room, or it goes."""
    workshop = open_workshop(command=(sys.executable, "-c", LIAR.format(answer=answer)))
    (pid,) = workshop.pids
    with pytest.raises(Overloaded):
        slots.open(workshop).make(recipes.where, b"x")
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_what_does_not_go_by_way_of_a_worker_is_made_here(open_workshop, slots):
    workshop, here = open_workshop(), str(os.getpid())
    large = content(ROOM_BYTES + 1)
    assert slots.made(recipes.where, large, workshop=workshop)[0].report == here
    with capture_logs() as logs:
        report = slots.made(lambda data: ([data], "here"), b"x", workshop=workshop)[0].report
    assert report == "here"
    assert [line["event"] for line in logs] == ["recipe_stays"]
    with workshop.take(recipes.where, 1):  # the only one
        assert slots.made(recipes.where, b"x", workshop=workshop)[0].report == here
    assert slots.made(recipes.where, b"x", workshop=workshop)[0].report != here


def test_many_threads_share_few_workers(open_workshop, slots):
    workshop, reports = open_workshop(2), Counter()

    def make(number):
        for at in range(50):
            data = content(1000 + 100 * number + at)
            filled, file = slots.made(recipes.where, data, workshop=workshop, sealed=False)
            assert file == data
            reports[filled.report] += 1

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert reports.total() == 300
    assert set(map(str, workshop.pids)) <= set(reports)
    assert workshop.idle == 2


def test_no_room_for_what_was_made(open_workshop, slots, outer):
    def take(_size_bytes):
        raise NoSpace("scratch is full")

    workshop = open_workshop()
    slot = slots.open(workshop, take=take)
    with pytest.raises(NoSpace):
        slot.make(recipes.where, content(1000))
    assert [type(outcome) for outcome in slots.outcomes.values()] == [NoSpace]
    assert outer.incoming() == []
    assert workshop.idle == 1


def test_a_worker_leaves_no_picture_and_only_with_its_stager(open_workshop):
    workshop = open_workshop()
    (pid,) = workshop.pids
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        subprocess.run(["kill", f"-{number}", str(pid)], check=True)
    time.sleep(0.3)
    assert workshop.pids == [pid]
    assert workshop.idle == 1
    worker = workshop.take(recipes.where, 1)
    worker._channel.close()  # as when the stager is no more
    assert worker._process.wait(PATIENCE_S) == 0


def test_a_worker_leaves_in_the_middle_of_a_file(open_workshop):
    worker = open_workshop().take(recipes.hang, 1)

    def make():
        with suppress(Overloaded):
            worker.make(b"x", (), "guid", PUBLIC)

    thread = threading.Thread(target=make)
    thread.start()
    time.sleep(0.5)
    assert worker._process.poll() is None
    worker._channel.shutdown(socket.SHUT_RDWR)  # as when the stager is no more
    assert worker._process.wait(PATIENCE_S) == 0
    thread.join(PATIENCE_S)


def test_the_end_of_a_workshop_ends_those_at_work(open_workshop, slots):
    workshop = open_workshop()
    (pid,) = workshop.pids
    errors = []

    def hang():
        try:
            slots.open(workshop).make(recipes.hang, b"x")
        except Overloaded as error:
            errors.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    eventually(lambda: workshop.idle == 0)
    workshop.stop()
    thread.join(PATIENCE_S)
    assert len(errors) == 1
    assert not Path(f"/proc/{pid}").exists()
    assert workshop.take(recipes.where, 1) is None


def test_who_cannot_be_started_is_tried_again(monkeypatch):
    monkeypatch.setattr(workshop_module, "FIRST_PAUSE_S", 0.01)
    workshop = Workshop(("/nonexistent",), 1, room_bytes=4096, seal_key=KEY)
    with capture_logs() as logs:
        workshop.start()
        eventually(lambda: len(logs) > 2)
        workshop.stop()
    assert {line["event"] for line in logs} == {"worker_failed"}
    assert workshop.take(recipes.where, 1) is None


@pytest.mark.skipif(confine.version() < 6, reason="this kernel has no Landlock, or not all of it")
def test_a_worker_that_was_taken_over_reads_and_reaches_nothing(open_workshop, slots, tmp_path):
    secret = tmp_path / "seal.key"
    secret.write_text("SECRET")
    own = Path(f"/proc/{os.getpid()}/environ")
    with socket.create_server(("127.0.0.1", 0)) as door, subprocess.Popen(["sleep", "60"]) as other:
        attempts = [
            (recipes.read, str(secret)),
            (recipes.read, str(own)),
            (recipes.read, "/etc/passwd"),
            (recipes.write, str(tmp_path / "left")),
            (recipes.write, "/dev/shm/left"),
            (recipes.connect, str(door.getsockname()[1])),
            (recipes.kill, str(other.pid)),
        ]
        workshop = open_workshop()
        for recipe, words in attempts:
            with pytest.raises(InternalError):
                slots.open(workshop).make(recipe, bytearray(words.encode()))
        assert other.poll() is None
        other.kill()
    assert not (tmp_path / "left").exists()
    assert slots.open(workshop).make(recipes.load, bytearray(b"srm_dicom.testing.pixels")), "its own program"
