"""Many files are stored together, each for itself; what breaks in between loses none of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.errors import AlreadyExists, InternalError, Overloaded
from srm_dicom.ids import parse_path

NAMES = [f"{number}.dat" for number in range(10)]


def put_all(site: Any, *names: str, size_bytes: int = 7) -> Any:
    view = site.put(*names, sizes=(size_bytes,) * len(names))
    for index in range(len(names)):
        site.upload(view, b"content", index=index)
    return view


def count(monkeypatch: pytest.MonkeyPatch, thing: Any, name: str) -> list[Any]:
    """Return the arguments of the calls of a method from now on."""
    calls: list[Any] = []
    method = getattr(thing, name)

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return method(*arguments)

    monkeypatch.setattr(thing, name, counted)
    return calls


def test_many_files_share_their_way_to_the_disk(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = put_all(site, *NAMES)
    published, recorded = count(monkeypatch, site.area, "publish"), count(monkeypatch, site.audit, "record")
    assert [file.failure for file in site.done(view)] == [None] * len(NAMES)
    assert [len(files) for (files,) in published] == [len(NAMES)]
    stored = [events for events in recorded if events[0].operation == "store"]
    assert [len(events) for events in stored] == [len(NAMES)]
    assert {site.read(name) for name in NAMES} == {b"content"}


def test_one_of_many_that_fails_fails_alone(site: Any) -> None:
    view = put_all(site, *NAMES)
    site.broker.names.make_directory(site.who(), parse_path("/vo/data/away"), "srmMkdir")
    site.stores.namespace.rename(parse_path("/vo/data/away"), parse_path("/vo/data/3.dat"))
    failures = {file.surl.rpartition("/")[2]: file.failure for file in site.done(view)}
    assert [name for name, failure in failures.items() if failure] == ["3.dat"]
    site.work()
    assert sorted(site.on_disk().values()) == [b"content"] * (len(NAMES) - 1)


def test_a_name_that_is_taken_while_many_are_stored_fails_alone(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look finds it free, the second, in the transaction, does not."""
    view = put_all(site, *NAMES)
    naming, looks = site.inner._naming, []
    place = type(naming).place

    def looked(self: Any, upload: Any) -> Any:
        looks.append(upload.path)
        if upload.path == "/vo/data/3.dat" and looks.count(upload.path) == 2:
            raise AlreadyExists("the name of the file is another's now")
        return place(self, upload)

    monkeypatch.setattr(type(naming), "place", looked)
    failures = {file.surl.rpartition("/")[2]: file.failure for file in site.done(view)}
    assert [name for name, failure in failures.items() if failure] == ["3.dat"]
    site.work()
    assert sorted(site.on_disk().values()) == [b"content"] * (len(NAMES) - 1)


def test_what_the_audit_does_not_take_has_no_name_and_leaves_no_bytes(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = put_all(site, *NAMES)
    record = site.audit.record

    def broken(*events: Any) -> None:
        if any(event.operation == "store" for event in events):
            raise InternalError("the audit log cannot be written")
        record(*events)

    monkeypatch.setattr(site.audit, "record", broken)
    assert {type(file.failure) for file in site.done(view)} == {InternalError}
    site.work()
    assert site.on_disk() == {}
    assert site.stores.namespace.find(parse_path("/vo/data/0.dat")) is None


@pytest.mark.parametrize("error", [Overloaded("the node does not answer"), OSError(5, "no disk")])
def test_what_scratch_does_not_make_ready_is_fetched_from_its_plugin(
    site: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    view = put_all(site, *NAMES)

    def broken(_files: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(site.area, "publish", broken)
        assert [file.failure for file in site.done(view)] == [None] * len(NAMES)
    wish = Wish(RequestKind.GET, (f"srm://se.example.org/vo/data/{NAMES[0]}",))
    view = site.broker.submit(site.who(), wish)
    assert [file.state for file in view.files] == [FileState.QUEUED]
    site.stage()
    assert site.read(NAMES[0]) == b"content"


def test_a_process_that_dies_while_the_bytes_become_ready_has_lost_nothing(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    publish = site.area.publish

    def killed(files: Any) -> None:
        publish(files)
        raise Killed

    view = put_all(site, *NAMES)
    with monkeypatch.context() as patch:
        patch.setattr(site.area, "publish", killed)
        with pytest.raises(Killed):
            site.done(view)
    again = site.restarted()
    again.stores.leases.free("worker")
    assert [file.failure for file in again.broker.puts.done(again.who(), view.token, None)] == [None] * len(
        NAMES
    )
    view = again.broker.submit(
        again.who(), Wish(RequestKind.GET, (f"srm://se.example.org/vo/data/{NAMES[0]}",))
    )
    again.stage()
    assert again.read(NAMES[0]) == b"content"


def test_who_hears_that_a_file_is_stored_may_read_it(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = put_all(site, *NAMES)
    told: list[Any] = []
    publish = site.area.publish

    def looked(files: Any) -> None:
        told.extend(site.broker.puts._settling._settled({row.id}) for row in rows)
        publish(files)

    rows = site.stores.requests.files(view.token)[:1]
    monkeypatch.setattr(site.broker.puts, "_settling", replace(site.broker.puts._settling, within_s=0.0))
    monkeypatch.setattr(site.area, "publish", looked)
    site.inner_lives = False
    site.done(view)
    site.work()
    (early,) = told[0].values()
    assert (early.state, early.leased) == (FileState.STORED, True)
    (late,) = site.stores.requests.find_files([rows[0].id])
    assert (late.state, late.leased) == (FileState.STORED, False)


def test_large_files_wait_for_whoever_has_time(site: Any) -> None:
    site.inner_lives = False
    site.done(put_all(site, *NAMES[:4], size_bytes=900_000))
    files = [file for group in site.inner.claim(2) for file in group]
    assert len(files) == 4  # together they are small
    site.stores.leases.free("worker")
    for file in site.stores.requests.find_files([file.id for file in files]):
        upload = site.stores.uploads.find_path(file.path)
        site.stores.uploads.expect(upload.name, 2**30)
    assert [len(group) for group in site.inner.claim(2)] == [1, 1]
    assert [len(group) for group in site.inner.claim(2)] == [1, 1]
