"""A restart in every state that a file of a request can be in: nothing hangs, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from srm_dicom.broker.states import TRANSITIONS
from srm_dicom.broker.views import FileState, RequestKind, Wish

CONTENT = b"content"


def get(site: Any) -> Any:
    """Ask for a file that is on the disk and not in scratch."""
    site.store("a", CONTENT)
    site.evict()
    return site.broker.submit(site.who(), Wish(RequestKind.GET, (site.surl("a"),)))


def claimed(site: Any) -> Any:
    view = get(site)
    assert site.stager.claim()
    return view


def suspended(site: Any) -> Any:
    view = get(site)
    site.broker.suspend(site.who(), view.token)
    return view


def pinned(site: Any) -> Any:
    view = get(site)
    site.stage()
    return view


def lost(site: Any) -> Any:
    """Pinned, and scratch has lost the bytes while nobody looked."""
    view = pinned(site)
    for name in site.area.names():
        site.area.remove(name)
    return view


def put(site: Any) -> Any:
    return site.put("a")


def received(site: Any) -> Any:
    view = site.put("a")
    site.upload(view, CONTENT)
    return view


def storing(site: Any) -> Any:
    """Its owner has said that it is complete, and the front died before anybody came."""
    view = received(site)
    site.inner_lives = False
    site.done(view)
    return view


def taken(site: Any) -> Any:
    view = storing(site)
    assert site.inner.claim(1)
    return view


def ended(how: Callable[[Any, Any], object], begin: Callable[[Any], Any] = pinned) -> Callable[[Any], Any]:
    def act(site: Any) -> Any:
        view = begin(site)
        how(site, view)
        site.broker.apply_time()
        return view

    return act


def release(site: Any, view: Any) -> None:
    site.broker.release(site.who(), view.token, None)


def abort(site: Any, view: Any) -> None:
    site.broker.abort(site.who(), view.token)


def time_passes(site: Any, _view: Any) -> None:
    site.clock.advance(9 * 24 * 3600)


def finish(site: Any, view: Any) -> None:
    site.done(view)


CASES: dict[str, tuple[Callable[[Any], Any], FileState, FileState]] = {
    "waiting for a stager": (get, FileState.QUEUED, FileState.PINNED),
    "with a stager that died": (claimed, FileState.IN_PROGRESS, FileState.PINNED),
    "suspended": (suspended, FileState.SUSPENDED, FileState.SUSPENDED),
    "pinned": (pinned, FileState.PINNED, FileState.PINNED),
    "pinned and lost": (lost, FileState.PINNED, FileState.PINNED),
    "with room": (put, FileState.SPACE_AVAILABLE, FileState.SPACE_AVAILABLE),
    "with its bytes": (received, FileState.SPACE_AVAILABLE, FileState.SPACE_AVAILABLE),
    "waiting to be stored": (storing, FileState.STORING, FileState.STORED),
    "being stored by who died": (taken, FileState.STORING, FileState.STORED),
    "stored": (ended(finish, received), FileState.STORED, FileState.STORED),
    "released": (ended(release), FileState.RELEASED, FileState.RELEASED),
    "aborted": (ended(abort), FileState.ABORTED, FileState.ABORTED),
    "a put aborted": (ended(abort, received), FileState.ABORTED, FileState.ABORTED),
    "a pin over": (ended(time_passes), FileState.EXPIRED, FileState.EXPIRED),
    "a put too late": (ended(time_passes, received), FileState.TIMED_OUT, FileState.TIMED_OUT),
    "a get too late": (ended(time_passes, get), FileState.FAILED, FileState.FAILED),
}


def test_every_state_has_its_case() -> None:
    assert {before for _, before, _ in CASES.values()} == set(FileState)
    assert set(TRANSITIONS) < set(FileState)


@pytest.mark.parametrize("name", CASES)
def test_after_a_restart(site: Any, name: str) -> None:
    begin, before, after = CASES[name]
    view = begin(site)
    token, owner = view.token, site.who()
    assert site.stores.requests.states(token) == (before,)
    new = site.restarted()
    settle(new)
    assert new.broker.status(owner, token, None).states == (after,)
    if after in (FileState.PINNED, FileState.STORED):
        assert new.read("a") == CONTENT
    if after is FileState.SPACE_AVAILABLE:
        new.upload(new.broker.status(owner, token, None), CONTENT)
        assert [file.failure for file in new.done(view)] == [None]
        assert new.read("a") == CONTENT
    if after is FileState.SUSPENDED:
        new.broker.resume(owner, token)
        new.stage()
        assert new.broker.status(owner, token, None).states == (FileState.PINNED,)
    if after not in TRANSITIONS:
        free = new.put("a", overwrite=True)
        assert free.states == (FileState.SPACE_AVAILABLE,), "nobody holds the name"


def settle(site: Any) -> None:
    """Let every role begin, as it does in its process, and do what there is to do."""
    over = threading.Event()
    over.set()
    for worker in (site.stager, site.inner):
        worker.run(over)
    site.janitor.sweep()
    site.janitor.tidy()
    site.stage()
    site.work()
