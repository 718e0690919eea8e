"""Room in scratch: what is promised, grown and given back, and that the quota is never exceeded."""

import random
import threading
from contextlib import suppress

import pytest

from srm_dicom.broker.room import USUAL_BYTES, Room
from srm_dicom.errors import NoSpace


class Scratch:
    """What lies there, as the database tells it."""

    def __init__(self, quota_bytes):
        self.sizes = []
        self.room = Room(quota_bytes, lambda: (sum(self.sizes), len(self.sizes)))


def test_without_a_quota_there_is_room_for_everything():
    reservation = Room().reserve([None, 10**15])
    reservation.take(10**15)
    assert reservation.files == 2


def test_room_is_for_the_first_files_that_fit():
    scratch = Scratch(100)
    scratch.sizes += [10, 30]
    assert scratch.room.reserve([30, 25, 20, 1]).files == 2
    assert scratch.room.reserve([5, 1]).files == 1
    with pytest.raises(NoSpace):
        scratch.room.reserve([1])


def test_what_nobody_knows_is_taken_for_what_files_mostly_are():
    scratch = Scratch(100)
    scratch.sizes += [20, 30]
    assert scratch.room.reserve([None] * 3).files == 2
    empty = Scratch(2 * USUAL_BYTES)
    assert empty.room.reserve([None] * 3).files == 2


def test_a_file_that_is_larger_than_was_thought_is_not_begun_where_there_is_no_room():
    scratch = Scratch(100)
    reservation = scratch.room.reserve([40, 40])
    reservation.take(55)
    with pytest.raises(NoSpace):
        reservation.take(50)
    reservation.take(45)


def test_what_went_makes_room():
    scratch = Scratch(100)
    scratch.sizes.append(90)
    reservation = scratch.room.reserve([10])
    with pytest.raises(NoSpace):
        reservation.take(11)
    scratch.sizes.clear()
    reservation.take(50)


def test_a_visit_gives_back_what_it_did_not_fill():
    scratch = Scratch(100)
    reservation = scratch.room.reserve([30, 30, 30])
    reservation.take(30)
    scratch.sizes.append(30)
    reservation.settle(30)
    reservation.take(30)
    reservation.close()
    assert scratch.room.reserve([70]).files == 1


def test_many_visits_at_once_never_exceed_the_quota():
    quota = 10_000
    scratch = Scratch(quota)
    lock, highest = threading.Lock(), []

    def visits(seed):
        draw = random.Random(seed)
        for _ in range(200):
            sizes = [draw.randrange(1, 900) for _ in range(draw.randrange(1, 8))]
            try:
                reservation = scratch.room.reserve([draw.choice([size, None]) for size in sizes])
            except NoSpace:
                continue
            for size in sizes[: reservation.files]:
                with suppress(NoSpace):
                    reservation.take(size)
                    with lock:
                        scratch.sizes.append(size)
                        highest.append(sum(scratch.sizes))
                    reservation.settle(size)
            reservation.close()
            with lock:
                del scratch.sizes[: draw.randrange(0, 6)]

    threads = [threading.Thread(target=visits, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert quota // 2 < max(highest) <= quota
    scratch.sizes.clear()
    assert scratch.room.reserve([quota]).files == 1, "every promise was taken back"
