"""A quota, water marks and what goes first: nothing is moved that there is no room for."""

from datetime import UTC, datetime, timedelta

import pytest

from srm_dicom.broker.views import FileState
from srm_dicom.errors import NoSpace
from srm_dicom.testing.images import SeriesSpec, make_series

SERIES = 4


@pytest.fixture
def series(staging, pacs):
    """Four series of three small images each."""
    for number in range(SERIES):
        pacs.add(make_series(SeriesSpec("CT", 3, study=str(number))))
    return staging.register()


def bring(staging, wait_for, owner, guids):
    token = staging.want(owner, guids)
    wait_for(lambda: staging.is_there(token))
    return token


def test_who_finds_no_room_waits_before_anything_is_moved(staging, pacs, series, wait_for):
    with staging.stager():
        bring(staging, wait_for, "/CN=Alice", series[0])
    size = staging.stores.staged.used_bytes(staging.common.node) // 3
    quota = 5 * size + size // 2
    with staging.stager(quota_bytes=quota):
        moves = pacs.moves
        waiting = staging.want("/CN=Bob", series[1])

        def refused():
            files = staging.stores.requests.files(waiting)
            return [file for file in files if isinstance(file.failure, NoSpace)]

        wait_for(refused)
        assert pacs.moves <= moves + 1, "what fits is moved at once, and nothing else is tried"
        wait_for(lambda: len(staging.staged()) == 5)
        (late,) = refused()
        assert late.state is FileState.QUEUED or late.state is FileState.IN_PROGRESS
        in_hand = late.state is FileState.IN_PROGRESS
        assert late.attempts <= int(in_hand), "that there is no room is no failure of the source"
        staging.stores.requests.move_guid(series[0][0], [FileState.PINNED], FileState.RELEASED)
        staging.janitor(quota_bytes=quota, spare_bytes=size).tidy()
        wait_for(lambda: staging.is_there(waiting))  # before anybody else wants what has become free
        moves = pacs.moves
        third = staging.want("/CN=Carol", series[2])
        wait_for(lambda: all(file.failure for file in staging.stores.requests.files(third)))
        assert {type(file.failure) for file in staging.stores.requests.files(third)} == {NoSpace}
        assert pacs.moves == moves, "no room, no move"
    assert staging.stores.staged.used_bytes(staging.common.node) <= quota
    assert staging.incoming() == []


def test_above_the_high_mark_the_least_recently_used_go_until_the_low_one(staging, pacs, series, wait_for):
    tokens = []
    with staging.stager():
        for number, guids in enumerate(series):
            tokens.append(bring(staging, wait_for, f"/CN=User{number}", guids))
    stores, node = staging.stores, staging.common.node
    size = stores.staged.used_bytes(node) // (3 * SERIES)
    now = datetime.now(UTC)
    for age, guids in zip((40, 30, 20, 10), (series[1], series[2], series[0], series[3]), strict=True):
        stores.staged.touch(guids, node, now + timedelta(hours=100 - age))
    for token in tokens[:1] + tokens[2:]:
        staging.release(token)
    here = 3 * SERIES * size

    staging.janitor(high_bytes=here + size, low_bytes=0).tidy()
    assert len(staging.staged()) == 3 * SERIES, "nothing goes below the high mark"
    staging.janitor(high_bytes=here - 2 * size, low_bytes=here - 5 * size).tidy()
    left = {item.guid for item in staging.staged()}
    assert left >= {*series[1], *series[3]}, "pinned, and used last"
    assert not left & set(series[2]), "used longest ago of what nobody holds"
    assert here - 6 * size <= stores.staged.used_bytes(node) <= here - 5 * size
    assert {name.guid for name in staging.area.names()} == left
