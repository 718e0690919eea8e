"""Spaces that users reserve: nothing that goes into one is more than it holds, whenever its size is known."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.spaces import SpaceBounds, SpaceWish
from srm_dicom.broker.views import FileState, PutWish, RequestKind
from srm_dicom.errors import NoSpace, NotFound, NotSupported, SpaceExhausted
from srm_dicom.ids import parse_path
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops import get_space_meta_data
from srm_dicom.srm.types import T
from srm_dicom.store.uploads import Received


def reserve(site: Any, size_bytes: int) -> str:
    token: str = site.broker.spaces.reserve(site.who(), SpaceWish(size_bytes, "REPLICA")).space.token
    return token


def used_bytes(site: Any, token: str) -> int:
    used: int = site.broker.spaces.view(site.who(), token).used_bytes
    return used


def copy(site: Any, source: str, target: str, space: str) -> Any:
    wish = PutWish(
        RequestKind.COPY, (site.surl(target),), space=space, sources=(site.surl(source),), overwrite=True
    )
    return site.broker.copies.submit(site.who(), wish)


def state_of(site: Any, view: Any) -> FileState:
    (state,) = site.broker.status(site.who(), view.token, None).states
    return state  # type: ignore[no-any-return]


def test_a_file_that_was_not_announced_counts_when_it_is_there(site: Any) -> None:
    space = reserve(site, 10)
    view = site.put("a.dat", space=space)
    with pytest.raises(SpaceExhausted):
        site.upload(view, b"x" * 1000)
    assert isinstance(site.done(view)[0].failure, NotFound)
    site.upload(view, b"x" * 10)
    assert used_bytes(site, space) == 10
    assert site.done(view)[0].failure is None
    assert used_bytes(site, space) == 10
    assert isinstance(site.put("b.dat", sizes=(1,), space=space).files[0].failure, SpaceExhausted)


def test_a_door_that_hears_the_size_first_refuses_at_once(site: Any) -> None:
    space = reserve(site, 10)
    view = site.put("a.dat", sizes=(4,), space=space)
    path = parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))
    with pytest.raises(SpaceExhausted):
        site.broker.puts.open(site.who(), path, size_bytes=11)
    upload, _ = site.broker.puts.open(site.who(), path, size_bytes=10)
    assert used_bytes(site, space) == 10
    site.broker.puts.received(upload, Received(10, "00000000"))
    assert used_bytes(site, space) == 10


def test_what_was_announced_by_others_is_theirs(site: Any) -> None:
    space = reserve(site, 10)
    first, second = site.put("a.dat", sizes=(6,), space=space), site.put("b.dat", space=space)
    with pytest.raises(SpaceExhausted):
        site.upload(second, b"12345")
    site.upload(second, b"1234")
    site.upload(first, b"123456")
    assert [site.done(view)[0].failure for view in (first, second)] == [None, None]


def test_a_space_that_got_smaller_refuses_in_the_end(site: Any) -> None:
    space = reserve(site, 10)
    view = site.put("a.dat", sizes=(8,), space=space)
    site.upload(view, b"12345678")
    smaller = site.stores.spaces.find(space)
    site.stores.spaces.change(type(smaller)(**{**fields(smaller), "size_bytes": 7}))
    assert isinstance(site.done(view)[0].failure, SpaceExhausted)
    assert site.stores.namespace.find(parse_path("/vo/data/a.dat")) is None
    site.work()
    assert not site.on_disk()


def fields(space: Any) -> dict[str, Any]:
    return {name: getattr(space, name) for name in type(space).__slots__}


def test_a_space_that_was_given_back_holds_nothing_and_bounds_nothing(site: Any) -> None:
    space = reserve(site, 10)
    view = site.put("a.dat", sizes=(8,), space=space)
    site.broker.spaces.release(site.who(), space, force=True)
    site.upload(view, b"x" * 20)
    assert site.done(view)[0].failure is None
    entry = site.stores.namespace.find(parse_path("/vo/data/a.dat"))
    assert not site.stores.spaces.of_files([entry.guid])


def test_a_copy_counts_as_what_it_copies(site: Any) -> None:
    site.store("a.dat", b"content")
    view = copy(site, "a.dat", "b.dat", reserve(site, 3))
    assert isinstance(view.files[0].failure, SpaceExhausted)
    space = reserve(site, 7)
    view = copy(site, "a.dat", "b.dat", space)
    assert used_bytes(site, space) == 7
    site.work()
    assert state_of(site, view) is FileState.STORED
    assert used_bytes(site, space) == 7


def test_a_file_takes_the_room_of_the_one_that_it_replaces(site: Any) -> None:
    space = reserve(site, 14)
    site.store("a.dat", b"content", space=space)
    site.store("a.dat", b"changed", space=space, overwrite=True)
    assert used_bytes(site, space) == 7


def test_many_spaces_are_asked_for_together(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [reserve(site, 10) for _ in range(4)]
    site.store("a.dat", b"content", space=tokens[1])
    site.put("b.dat", sizes=(3,), space=tokens[1])
    database = site.stores.spaces._row._meta.database
    asked: list[str] = []
    execute = database.execute_sql

    def counted(statement: str, *more: Any) -> Any:
        asked.append(statement)
        return execute(statement, *more)

    monkeypatch.setattr(database, "execute_sql", counted)
    views = site.broker.spaces.views(site.who(), [tokens[1], "none", *tokens])
    assert len(asked) <= 3
    assert [view.used_bytes if view else None for view in views] == [10, None, 0, 10, 0, 0]
    assert site.broker.spaces.views(site.who("Bob"), tokens) == [None] * 4


def test_nothing_is_put_in_custody(site: Any) -> None:
    with pytest.raises(NotSupported, match="REPLICA"):
        site.put("a.dat", policy="CUSTODIAL")
    assert site.put("a.dat", policy="REPLICA").states == (FileState.SPACE_AVAILABLE,)


def test_no_token_looks_like_a_number(site: Any) -> None:
    """S2 takes one that begins with ``6e402f7f`` for a number, and finds that it is not itself."""
    tokens = {reserve(site, 1) for _ in range(20)} | {site.put(f"{number}.dat").token for number in range(20)}
    assert {token[0] for token in tokens} <= set("abcdef")
    assert {str(uuid.UUID(token)) for token in tokens} == tokens


def test_a_space_that_is_over_is_promised_anew_only_where_there_is_room(site: Any) -> None:
    everything = SpaceBounds().total_bytes
    over = site.broker.spaces.reserve(site.who(), SpaceWish(everything, "REPLICA", lifetime_s=60)).space.token
    site.clock.advance(61)
    taken = reserve(site, everything)
    for size_bytes in (None, everything):
        with pytest.raises(NoSpace):
            site.broker.spaces.update(site.who(), over, size_bytes, 3600)
    site.broker.spaces.update(site.who(), over, 1, None)
    with pytest.raises(NoSpace):
        site.broker.spaces.update(site.who(), over, None, 3600)
    site.broker.spaces.release(site.who(), taken, force=False)
    assert site.broker.spaces.update(site.who(), over, everything, 3600).left_s == 3600
    assert site.stores.spaces.reserved_bytes(site.clock.now()) == everything


def test_spaces_that_have_been_over_for_long_are_forgotten_and_their_files_are_not(site: Any) -> None:
    over = site.broker.spaces.reserve(site.who(), SpaceWish(10, "REPLICA", lifetime_s=60)).space.token
    lasting = [
        site.broker.spaces.reserve(site.who(), SpaceWish(10, "REPLICA", lifetime_s=s)).space.token
        for s in (-1, 7 * 24 * 3600)
    ]
    site.store("a.dat", space=over)
    janitor = Janitor("node", site.area, site.stores, SpaceSettings(retention_s=3600), site.clock)
    site.clock.advance(3600)
    janitor.forget_spaces()
    assert used_bytes(site, over) == len(b"content")
    site.clock.advance(61)
    janitor.forget_spaces()
    assert site.broker.spaces.tokens(site.who(), None) == lasting
    assert site.read("a.dat") == b"content"
    guid = site.stores.namespace.find(parse_path("/vo/data/a.dat")).guid
    assert site.stores.spaces.of_files([guid]) == {}


def test_a_space_lasts_until_its_last_moment(site: Any) -> None:
    made = site.broker.spaces.reserve(site.who(), SpaceWish(10, "REPLICA", lifetime_s=60))
    site.clock.advance(0.25)
    assert site.broker.spaces.view(site.who(), made.space.token).left_s == 60
    site.clock.advance(59.5)
    (told,) = get_space_meta_data.run(
        T.srmGetSpaceMetaDataRequest(arrayOfSpaceTokens=T.ArrayOfString(stringArray=[made.space.token])),
        Caller(site.who(), site.broker),
    ).arrayOfSpaceDetails.spaceDataArray
    assert (told.status.statusCode, told.lifetimeLeft) == ("SRM_SUCCESS", 1)
    assert site.put("a.dat", space=made.space.token).files[0].failure is None
