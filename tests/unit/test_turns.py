import threading

from srm_dicom.turns import Place, Turns


def test_so_many_in_all_and_so_many_for_each():
    turns = Turns(3, 2)
    assert [turns.take("a"), turns.take("a"), turns.take("a")] == [True, True, False]
    assert turns.full_for("a")
    assert not turns.full_for("b")
    assert [turns.take("b"), turns.take("b")] == [True, False]
    assert not turns.full_for("b")
    turns.release("a")
    assert turns.take("b")


def test_half_is_for_one_and_one_is_for_anybody():
    assert [Turns(1).take("a"), Turns(2, None).take("a")] == [True, True]
    turns = Turns(20)
    assert sum(turns.take("a") for _ in range(20)) == 10
    assert sum(turns.take("b") for _ in range(20)) == 10


def test_several_places_are_taken_together_or_not_at_all():
    turns = Turns(10)
    assert turns.take("a", count=5)
    assert not turns.take("a")
    assert not turns.take("b", count=6)
    assert turns.take("b", count=4)
    assert not turns.take("c", count=2)
    turns.release("a", 5)
    assert turns.take("c", count=5)


def test_who_waits_gets_what_is_released():
    turns = Turns(2)
    turns.take("a")
    assert not turns.take("a", 0.01)
    got = []
    waiting = threading.Thread(target=lambda: got.append(turns.take("a", 30.0)))
    waiting.start()
    turns.release("a")
    waiting.join(30)
    assert got == [True]


def test_nothing_is_remembered_of_who_has_gone():
    turns = Turns(2)
    assert turns.take("a")
    turns.release("a")
    turns.full_for("a")
    assert not turns._held


def test_a_place_is_held_for_one_at_a_time():
    turns = Turns(4, 1)
    place, other = Place(turns), Place(turns)
    assert place.take("a")
    assert place.take("a")
    assert not other.take("a")
    assert not other.held
    assert place.take("b")
    assert other.take("a")
    assert not place.take("a")
    assert not place.held
    place.leave()
    assert other.held
    other.leave()
    assert not turns._held
