"""A file that one request has twice, and the two forms in which a SURL is written."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import FileState, PutWish, RequestKind, Wish
from srm_dicom.errors import Busy, NotFound
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops import status_of_copy_request
from srm_dicom.srm.types import T, items

PINNED, RELEASED = FileState.PINNED, FileState.RELEASED


def short(name: str) -> str:
    return f"srm://se.example.org/vo/data/{name}"


def full(name: str) -> str:
    return f"srm://se.example.org:8446/srm/managerv2?SFN=/vo/data/{name}"


def get(site: Any, *surls: str) -> Any:
    return site.broker.submit(site.who("Reader"), Wish(RequestKind.GET, surls))


def states(site: Any, view: Any, *surls: str) -> list[FileState]:
    seen = site.broker.status(site.who("Reader"), view.token, surls or None)
    return [file.state for file in seen.files]


def test_releasing_a_file_releases_every_pin_that_the_request_has_of_it(site: Any) -> None:
    site.store("a.dat")
    site.store("b.dat")
    for asked in (short("a.dat"), full("a.dat")):
        view = get(site, short("a.dat"), short("b.dat"), short("a.dat"), full("a.dat"))
        released = site.broker.release(site.who("Reader"), view.token, [asked])
        assert {(file.surl, file.state) for file in released} == {(asked, RELEASED)}
        assert states(site, view) == [RELEASED, PINNED, RELEASED, RELEASED]


def test_a_subset_has_the_file_as_often_as_the_request(site: Any) -> None:
    site.store("a.dat")
    site.store("b.dat")
    view = get(site, short("a.dat"), short("b.dat"), short("a.dat"))
    assert len(states(site, view, short("a.dat"))) == 2
    assert len(states(site, view, short("a.dat"), short("b.dat"), short("a.dat"))) == 3
    assert len(states(site, view, short("b.dat"), short("b.dat"))) == 2
    assert states(site, view, short("none")) == [FileState.FAILED]


def test_the_one_put_of_two_that_has_room_is_done(site: Any) -> None:
    view = site.put("a.dat", "a.dat")
    site.upload(view, b"content")
    first, second = site.done(view, "a.dat")
    assert first.failure is None
    assert isinstance(second.failure, Busy)
    assert site.read("a.dat") == b"content"


def copied(site: Any) -> Any:
    """A copy of two files, of the first of them to two names."""
    site.store("a.dat")
    site.store("b.dat")
    targets = tuple(map(full, ("a1", "b1", "a2")))
    sources = tuple(map(full, ("a.dat", "b.dat", "a.dat")))
    return site.broker.copies.submit(site.who(), PutWish(RequestKind.COPY, targets, sources=sources))


def told(site: Any, view: Any, targets: list[str], sources: list[str]) -> list[tuple[str, str, str]]:
    """Call srmStatusOfCopyRequest; return source, target and status of each file."""
    request = T.srmStatusOfCopyRequestRequest(
        requestToken=view.token,
        arrayOfTargetSURLs=T.ArrayOfAnyURI(urlArray=targets) if targets else None,
        arrayOfSourceSURLs=T.ArrayOfAnyURI(urlArray=sources) if sources else None,
    )
    response = status_of_copy_request.run(request, Caller(site.who(), site.broker))
    return [
        (one.sourceSURL, one.targetSURL, one.status.statusCode) for one in items(response.arrayOfFileStatuses)
    ]


def test_copies_are_found_by_target_in_the_order_asked(site: Any) -> None:
    view = copied(site)
    site.work()
    assert told(site, view, [short("b1"), full("a1")], []) == [
        (full("b.dat"), short("b1"), "SRM_SUCCESS"),
        (full("a.dat"), full("a1"), "SRM_SUCCESS"),
    ]
    assert told(site, view, [short("none")], []) == [("", short("none"), "SRM_INVALID_PATH")]
    assert len(told(site, view, [], [])) == 3


def test_copies_are_found_by_source(site: Any) -> None:
    view = copied(site)
    site.work()
    assert told(site, view, [], [short("a.dat")]) == [
        (short("a.dat"), full("a1"), "SRM_SUCCESS"),
        (short("a.dat"), full("a2"), "SRM_SUCCESS"),
    ]
    assert told(site, view, [], [short("none")]) == [(short("none"), "", "SRM_INVALID_PATH")]


def test_copies_are_found_by_pairs(site: Any) -> None:
    view = copied(site)
    site.work()
    pairs = told(site, view, [short("a2"), short("b1")], [short("a.dat"), short("a.dat")])
    assert pairs == [
        (short("a.dat"), short("a2"), "SRM_SUCCESS"),
        (short("a.dat"), short("b1"), "SRM_INVALID_PATH"),
    ]


def test_an_unknown_file_of_a_release_has_failed(site: Any) -> None:
    site.store("a.dat")
    view = get(site, short("a.dat"))
    (released,) = site.broker.release(site.who("Reader"), view.token, [short("none")])
    assert isinstance(released.failure, NotFound)


def forms(name: str) -> list[str]:
    return [f"srm://se.example.org{'/' * count}vo/data/{name}" for count in range(1, 5)]


def test_no_answer_is_longer_than_what_is_asked_and_what_there_is(site: Any) -> None:
    """Every form of a name, times every time that a request has it, would fill the memory."""
    site.store("a.dat")
    view = get(site, *forms("a.dat"))
    assert states(site, view, *forms("a.dat")) == [PINNED] * 4
    assert states(site, view, *forms("a.dat")[:3]) == [PINNED] * 4
    assert states(site, view, *forms("a.dat"), *forms("a.dat")) == [PINNED] * 8


def test_no_answer_of_copies_is_either(site: Any) -> None:
    view = copied(site)
    site.work()
    assert [target for _, target, _ in told(site, view, [], [short("a.dat")] * 3)] == [
        full("a1"),
        full("a2"),
        full("a2"),
    ]
    assert len(told(site, view, [], forms("a.dat"))) == 4
    assert len(told(site, view, [], [short("none")] * 3)) == 3
