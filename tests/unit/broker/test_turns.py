"""Whose visit is next: limits of sources, and nobody waits behind somebody else's crowd."""

from srm_dicom.broker.turns import Turn, Turns
from srm_dicom.plugin.api import Source


def source(visits: int = 3, rate: float = 0.0) -> dict[str, Source]:
    return {"pacs": Source("pacs", visits, lambda: None, rate)}


def turn(owner: str, visit: str = "", files: int = 10, until_s: float = 100.0) -> Turn[str]:
    return Turn(visit or owner, "pacs", owner, files, until_s)


def test_a_source_bears_so_many_and_the_last_place_is_for_another() -> None:
    turns: Turns[str] = Turns()
    for number in range(5):
        turns.add(turn("a", f"a{number}"))
    running = [turns.next(source(3), 0), turns.next(source(3), 0)]
    assert [one.visit for one in running if one] == ["a0", "a1"]
    assert turns.next(source(3), 0) is None
    turns.add(turn("b"))
    late = turns.next(source(3), 0)
    assert late is not None
    assert late.visit == "b"
    assert turns.next(source(3), 0) is None
    turns.done(late)
    assert turns.next(source(4), 0) is not None, "the limit may change at any time"


def test_one_place_is_for_whoever_comes() -> None:
    turns: Turns[str] = Turns()
    turns.add(turn("a"))
    assert turns.next(source(0), 0) is None
    assert turns.next(source(1), 0) is not None


def test_the_one_with_the_fewest_on_their_way_is_next_and_then_in_turn() -> None:
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.add(turn("crowd", f"c{number}", files=500))
    turns.add(turn("b", "b0"))
    turns.add(turn("b", "b1"))
    order = []
    while one := turns.next(source(1), 0):
        order.append(one.visit)
        turns.done(one)
    assert order == ["c0", "b0", "c1", "b1", "c2"]


def test_a_rate_is_kept_on_average() -> None:
    turns: Turns[str] = Turns()
    turns.add(turn("a", files=20))
    turns.add(turn("b"))
    assert turns.next(source(3, rate=10.0), 0.0) is not None
    assert turns.next(source(3, rate=10.0), 1.9) is None
    assert turns.next(source(3, rate=10.0), 2.0) is not None


def test_what_waited_long_is_given_up() -> None:
    turns: Turns[str] = Turns()
    turns.add(turn("a", until_s=5.0))
    turns.add(turn("b", until_s=50.0))
    assert turns.held() == {("a", "pacs"): 10, ("b", "pacs"): 10}
    assert [one.owner for one in turns.drop(lambda one: one.until_s <= 10.0)] == ["a"]
    assert turns.held() == {("b", "pacs"): 10}


def test_what_was_slow_before_leaves_two_places() -> None:
    turns: Turns[str] = Turns()
    for owner in "abc":
        turns.add(Turn(owner, "pacs", owner, 10, 100.0, slow=True))
    order = [turns.next(source(3), 0), turns.next(source(3), 0)]
    assert [one.visit for one in order if one] == ["a"]
    for owner in "de":
        turns.add(turn(owner))
    assert [one.visit for one in (turns.next(source(3), 0), turns.next(source(3), 0)) if one] == ["d", "e"]
    assert turns.next(source(4), 0) is not None, "two of four"


def test_what_was_slow_before_has_the_only_place_too() -> None:
    turns: Turns[str] = Turns()
    turns.add(Turn("a", "pacs", "a", 10, 100.0, slow=True))
    assert turns.next(source(1), 0) is not None


def test_the_site_says_how_many_places_one_user_may_not_have() -> None:
    for kept, most in ((0, 3), (1, 2), (2, 1), (3, 1)):
        turns: Turns[str] = Turns()
        for number in range(3):
            turns.add(turn("a", f"a{number}"))
        bears = {"pacs": Source("pacs", 3, lambda: None, kept_visits=kept)}
        running = [turns.next(bears, 0) for _ in range(3)]
        assert len([one for one in running if one]) == most
