"""Writing: from prepareToPut through a door and the inner zone to a name, with the disk plugin behind."""

from __future__ import annotations

import errno
import threading
import uuid
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from peewee import OperationalError

from srm_dicom.broker.views import FileState, PutWish, RequestKind, Wish
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import (
    Aborted,
    AlreadyExists,
    Busy,
    IntegrityError,
    InvalidRequest,
    IsADirectory,
    NotAuthorised,
    NotEmpty,
    NotFound,
    NotSupported,
    Overloaded,
    RequestExpired,
    RequestUnknown,
    SourceUnavailable,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, parse_path
from srm_dicom.rights.acl import Acl, Tag
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry, Kind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RELEASE = Release("heart", "none", "v1")
TOP = "/vo/data"


def who(name: str = "Alice") -> Principal:
    return Principal(f"/CN={name}", (), limited=False, expires=NOW + timedelta(days=1))


def surl(name: str) -> str:
    return f"srm://se.example.org{TOP}/{name}"


def test_a_put_ends_on_the_disk_and_can_be_read(site: Any) -> None:
    view = site.put("a.dat", sizes=(7,))
    assert view.states == (FileState.SPACE_AVAILABLE,)
    site.upload(view, b"content")
    assert not site.on_disk()
    assert [file.failure for file in site.done(view, "a.dat")] == [None]
    assert site.on_disk() == {"uploads/vo/data/a.dat": b"content"}
    assert site.read("a.dat") == b"content"
    entry = site.stores.namespace.find(parse_path(f"{TOP}/a.dat"))
    assert entry is not None
    assert (entry.owner, entry.release) == ("/CN=Alice", RELEASE)
    assert entry.facts is not None
    manifest = Manifest.verify(entry.facts.manifest, site.signing_key.public_key())
    assert (manifest.guid, manifest.size_bytes) == (entry.guid, 7)


def test_the_first_answer_says_how_long_a_put_lasts(site: Any) -> None:
    view = site.put("a.dat", total_s=600)
    assert view.files[0].pin_left_s == view.remaining_s == 615
    again = site.broker.status(who(), view.token, None)
    assert again.files[0].pin_left_s == 615


def test_what_left_scratch_comes_from_the_disk_again(site: Any) -> None:
    """The bytes that users upload are staged like any others once scratch has dropped them."""
    site.store("a.dat")
    (entry,) = site.stores.namespace.find_many([parse_path(f"{TOP}/a.dat")]).values()
    site.stores.staged.remove(entry.guid, "node")
    view = site.broker.submit(who("Reader"), Wish(RequestKind.GET, (surl("a.dat"),)))
    assert view.states == (FileState.QUEUED,)
    assert entry.plugin_ref == b"uploads/vo/data/a.dat"


def test_nothing_has_a_name_before_put_done(site: Any) -> None:
    view = site.put("a.dat")
    site.upload(view, b"content")
    with pytest.raises(NotFound):
        site.read("a.dat", by="Alice")
    assert site.stores.namespace.find(parse_path(f"{TOP}/a.dat")) is None


def test_put_done_needs_the_bytes_and_happens_once(site: Any) -> None:
    view = site.put("a.dat")
    (early,) = site.done(view, "a.dat")
    assert isinstance(early.failure, NotFound)
    site.upload(view, b"")
    assert site.done(view, "a.dat")[0].failure is None
    assert isinstance(site.done(view, "a.dat")[0].failure, AlreadyExists)
    assert site.on_disk() == {"uploads/vo/data/a.dat": b""}


def test_a_turl_is_for_its_owner(site: Any) -> None:
    view = site.put("a.dat")
    with pytest.raises(NotFound):
        site.upload(view, b"mine", by="Bob")
    with pytest.raises(NotFound):
        site.written.create(who(), parse_path("/.upload/" + "0" * 32))


def test_one_name_is_written_once_at_a_time(site: Any) -> None:
    first, second = site.put("a.dat"), site.put("a.dat", by="Bob", overwrite=True)
    assert isinstance(second.files[0].failure, Busy)
    site.broker.abort(who(), first.token)
    assert site.put("a.dat", by="Bob").states == (FileState.SPACE_AVAILABLE,)
    twice = site.put("b.dat", "b.dat")
    assert [type(file.failure) for file in twice.files] == [type(None), Busy]


def test_overwriting_must_be_asked_for_and_takes_the_place_at_the_end(site: Any) -> None:
    site.store("a.dat", b"old")
    assert isinstance(site.put("a.dat").files[0].failure, AlreadyExists)
    view = site.put("a.dat", overwrite=True)
    site.upload(view, b"newer")
    assert site.read("a.dat") == b"old"
    site.done(view)
    assert site.read("a.dat") == b"newer"
    site.work()
    assert list(site.on_disk().values()) == [b"newer"]


def test_who_may_write(site: Any) -> None:
    assert isinstance(site.put("a.dat", by="Reader").files[0].failure, NotAuthorised)
    assert isinstance(site.put("a.dat", by="Nobody").files[0].failure, NotFound)
    assert isinstance(site.put("none/a.dat").files[0].failure, NotFound)
    view = site.broker.puts.submit(who(), PutWish(RequestKind.PUT, ("srm://se.example.org/vo/a",)))
    assert isinstance(view.files[0].failure, NotAuthorised)
    assert isinstance(site.put("big", sizes=(1000_001,)).files[0].failure, TooLarge)


def test_a_put_times_out_and_its_name_is_free(site: Any) -> None:
    view = site.put("a.dat", total_s=10)
    site.upload(view, b"x")
    site.clock.advance(3599)
    assert site.broker.status(who(), view.token, None).states == (FileState.SPACE_AVAILABLE,)
    site.clock.advance(2)
    assert site.broker.status(who(), view.token, None).states == (FileState.TIMED_OUT,)
    assert isinstance(site.done(view)[0].failure, RequestExpired)
    path = parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))
    with pytest.raises(NotFound):
        site.written.create(who(), path)
    assert site.put("a.dat").states == (FileState.SPACE_AVAILABLE,)


def test_the_sweep_keeps_what_is_being_written_and_drops_the_rest(site: Any) -> None:
    kept, lost = site.put("kept"), site.put("lost")
    for view in (kept, lost):
        site.upload(view, b"x")
    site.broker.abort(who(), lost.token)
    site.clock.advance(10 * 24 * 3600)
    site.janitor.sweep()
    names = {path.name for path in (site.area.incoming("0" * 32).parent).iterdir()}
    assert names == {kept.files[0].turl.rpartition("/")[2]}


def test_a_request_is_forgotten_with_everything_that_is_there_for_its_sake(site: Any) -> None:
    site.store("a")
    wish = PutWish(RequestKind.COPY, (surl("b"),), sources=(surl("a"),))
    copy = site.broker.copies.submit(who(), wish)
    site.work()
    assert site.broker.copies.sources(copy.token) == [surl("a")]
    site.clock.advance(timedelta(days=40).total_seconds())
    site.janitor.forget_requests()
    with pytest.raises(RequestUnknown):
        site.broker.status(who(), copy.token, None)
    assert site.broker.copies.sources(copy.token) == []
    assert site.stores.requests.counts() == {}


def test_an_upload_goes_on_where_it_broke_off(site: Any) -> None:
    view = site.put("a.dat")
    path = parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))
    with site.written.create(who(), path) as file:
        file.write(0, b"hello, w")
        with pytest.raises(Busy):
            site.written.create(who(), path)
    assert site.served.stat(who(), path).size_bytes == 8
    with pytest.raises(InvalidRequest):
        site.written.create(who(), path, keep_bytes=9)
    with site.written.create(who(), path, keep_bytes=7) as file:
        file.write(9, b"r")
        file.write(7, b"wo")
        file.write(10, b"ld")
        file.finish()
    assert site.served.stat(who(), path).adler32 == f"{zlib.adler32(b'hello, world'):08x}"
    site.done(view)
    assert site.read("a.dat") == b"hello, world"


def test_a_file_has_no_more_bytes_than_it_may(site: Any) -> None:
    view = site.put("a.dat")
    path = parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))
    with site.written.create(who(), path) as file, pytest.raises(TooLarge):
        file.write(999_999, b"ab")
    assert isinstance(site.done(view)[0].failure, NotFound)


def test_bytes_that_change_in_scratch_are_not_stored(site: Any) -> None:
    view = site.put("a.dat")
    site.upload(view, b"abc")
    site.area.incoming(view.files[0].turl.rpartition("/")[2]).write_bytes(b"abd")
    assert isinstance(site.done(view)[0].failure, IntegrityError)
    assert not site.on_disk()
    assert site.stores.namespace.find(parse_path(f"{TOP}/a.dat")) is None


def test_put_done_waits_no_longer_than_it_may_and_can_be_repeated(site: Any) -> None:
    view = site.put("a.dat")
    site.upload(view, b"abc")
    site.inner_lives = False
    assert isinstance(site.done(view)[0].failure, Overloaded)
    assert site.broker.status(who(), view.token, None).states == (FileState.STORING,)
    site.inner_lives = True
    assert site.done(view)[0].failure is None


def test_who_was_told_to_ask_again_hears_that_the_file_is_stored(site: Any) -> None:
    """A client that hears of a duplicate instead believes that its upload failed, and removes the file."""
    view = site.put("a.dat", "b.dat")
    site.upload(view, b"abc")
    site.inner_lives = False
    assert isinstance(site.done(view, "a.dat")[0].failure, Overloaded)
    site.work()
    assert site.broker.status(who(), view.token, None).files[0].state is FileState.STORED
    site.upload(view, b"more", index=1)
    # Of one call every file is answered together: what is stored meanwhile has not been told of yet.
    assert [type(file.failure) for file in site.done(view)] == [type(None), Overloaded]
    site.work()
    assert [file.failure for file in site.done(view)] == [None, None]
    assert [type(file.failure) for file in site.done(view)] == [AlreadyExists, AlreadyExists]


def test_put_done_is_repeated_after_the_front_was_started_anew(site: Any) -> None:
    view = site.put("a.dat")
    site.upload(view, b"abc")

    def dies(_seconds: float) -> None:
        raise KeyboardInterrupt

    site.clock.sleep, turn = dies, site.clock.sleep
    with pytest.raises(KeyboardInterrupt):
        site.done(view)
    site.clock.sleep = turn
    site.work()
    again = site.restarted()
    assert again.done(view)[0].failure is None
    assert isinstance(again.done(view)[0].failure, AlreadyExists)


def test_a_disk_that_is_away_is_waited_for(site: Any) -> None:
    view = site.put("a.dat")
    site.upload(view, b"abc")
    site.root.rename(site.root.with_name("away"))
    assert isinstance(site.done(view)[0].failure, Overloaded)
    site.root.with_name("away").rename(site.root)
    site.clock.advance(10)
    assert site.done(view)[0].failure is None


def test_an_abort_while_it_is_stored_leaves_nothing(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = site.put("a.dat")
    site.upload(view, b"abc")
    accept = site.plugin.accept

    def accepting(upload: Any) -> Any:
        site.broker.abort(who(), view.token)
        return accept(upload)

    monkeypatch.setattr(site.plugin, "accept", accepting)
    assert isinstance(site.done(view)[0].failure, Aborted)
    site.work()
    assert not site.on_disk()
    assert site.stores.namespace.find(parse_path(f"{TOP}/a.dat")) is None


def test_a_directory_that_moved_away_meanwhile(site: Any) -> None:
    names = site.broker.names
    names.make_directory(who(), parse_path(f"{TOP}/d"), "srmMkdir")
    view = site.put("d/a.dat")
    site.upload(view, b"abc")
    names.rename(who(), parse_path(f"{TOP}/d"), parse_path(f"{TOP}/e"), "srmMv")
    assert isinstance(site.done(view)[0].failure, NotFound)


def test_a_plain_path_is_put_and_done_at_once(site: Any) -> None:
    path = parse_path(f"{TOP}/a.dat")
    with site.written.create(who(), path) as file:
        file.write(0, b"abc")
        file.finish()
    assert site.read("a.dat") == b"abc"
    with pytest.raises(NotAuthorised):
        site.written.create(who("Reader"), path)
    with pytest.raises(IsADirectory):
        site.written.create(who(), parse_path(TOP))


def test_a_plain_path_that_broke_off(site: Any) -> None:
    path = parse_path(f"{TOP}/a.dat")
    with site.written.create(who(), path) as file:
        file.write(0, b"ab")
    with pytest.raises(Busy):
        site.written.create(who("Bob"), path)
    with site.written.create(who(), path, keep_bytes=2) as file:
        file.write(2, b"c")
        file.finish()
    assert site.read("a.dat") == b"abc"
    with site.written.create(who(), parse_path(f"{TOP}/b")) as file:
        file.write(0, b"ab")
    site.written.remove(who(), parse_path(f"{TOP}/b"), directory=False)
    assert site.put("b", by="Bob").states == (FileState.SPACE_AVAILABLE,)


def test_names(site: Any) -> None:
    names = site.broker.names

    def path(text: str) -> Any:
        return parse_path(f"{TOP}/{text}")

    names.make_directory(who(), path("d"), "srmMkdir")
    with pytest.raises(AlreadyExists):
        names.make_directory(who(), path("d"), "srmMkdir")
    with pytest.raises(NotFound):
        names.make_directory(who(), path("none/d"), "srmMkdir")
    site.store("d/a", b"abc")
    site.store("b")
    with pytest.raises(NotEmpty):
        names.remove_directory(who(), path("d"), "srmRmdir")
    with pytest.raises(AlreadyExists):
        names.rename(who(), path("b"), path("d/a"), "srmMv")
    with pytest.raises(InvalidRequest):
        names.rename(who(), path("d"), path("d/e"), "srmMv")
    names.rename(who(), path("d"), path("d"), "srmMv")
    names.rename(who(), path("d"), path("e"), "srmMv")
    assert site.read("e/a") == b"abc"
    names.make_directory(who(), path("d"), "srmMkdir")
    names.rename(who(), path("e"), path("d"), "srmMv")
    assert site.read("d/e/a") == b"abc"
    with pytest.raises(NotAuthorised):
        names.rename(who(), path("d"), parse_path("/vo/d"), "srmMv")
    with pytest.raises(NotAuthorised):
        names.remove_directory(who("Reader"), path("d"), "srmRmdir", recursive=True)
    names.remove_directory(who(), path("d"), "srmRmdir", recursive=True)
    assert names.remove_files(who(), [path("b")], "srmRm") == [None]
    site.work()
    assert not site.on_disk()


def test_removing_ends_puts_and_gets(site: Any) -> None:
    site.store("a", b"abc")
    get = site.broker.submit(who("Reader"), Wish(RequestKind.GET, (surl("a"),)))
    put = site.put("b")
    paths = [parse_path(f"{TOP}/{name}") for name in ("a", "b", "c")]
    failures = site.broker.names.remove_files(who("Bob"), paths, "srmRm")
    assert [type(failure) for failure in failures] == [type(None), type(None), NotFound]
    assert site.broker.status(who("Reader"), get.token, None).states == (FileState.ABORTED,)
    assert site.broker.status(who(), put.token, None).states == (FileState.ABORTED,)
    site.work()
    assert not site.on_disk()


def test_bytes_that_a_disk_does_not_let_go_are_removed_later(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system is read only for a while, which is no error that a plugin knows."""
    site.store("a")

    def read_only(_: Any) -> None:
        raise OSError(errno.EROFS, "read only")

    with monkeypatch.context() as patched:
        patched.setattr(site.plugin, "remove", read_only)
        assert site.broker.names.remove_files(who(), [parse_path(f"{TOP}/a")], "rm") == [None]
        site.inner.remove_due()
    assert site.on_disk()
    site.clock.advance(60)
    site.inner.remove_due()
    assert not site.on_disk()


def test_what_another_process_has_removed_is_not_removed_once_more(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place on the disk may be another file's by then."""
    for name in "ab":
        site.store(name, b"old")
    paths = [parse_path(f"{TOP}/{name}") for name in "ba"]
    assert site.broker.names.remove_files(who(), paths, "rm") == [None, None]
    remove = site.plugin.remove

    def slowly(ref: Any) -> None:
        monkeypatch.setattr(site.plugin, "remove", remove)
        remove(ref)
        site.inner.remove_due()
        site.store("a", b"new")

    monkeypatch.setattr(site.plugin, "remove", slowly)
    site.inner.remove_due()
    site.evict()
    assert site.on_disk() == {"uploads/vo/data/a": b"new"}


def test_what_breaks_while_it_is_stored_is_begun_anew_and_does_not_wait_for_its_lease(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away can be told neither that it failed nor that it has to wait."""
    site.inner_lives = False
    view = site.put("a")
    site.upload(view, b"content")
    site.done(view)

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("the database is away")

    def down(_: Any) -> None:
        raise SourceUnavailable("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(site.inner, "_put_off", away)
        patched.setattr(site.plugin, "accept", down)
        with pytest.raises(OperationalError):
            run_for(site.inner.run, 5.0)
    run_for(site.inner.run, 1.0)
    assert [file.failure for file in site.done(view)] == [None]


def run_for(run: Callable[[threading.Event], None], seconds: float) -> None:
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        run(stop)
    finally:
        timer.cancel()


def test_nobody_writes_outside_the_areas(site: Any) -> None:
    for call in (
        lambda: site.broker.names.remove_directory(who(), parse_path(TOP), "srmRmdir"),
        lambda: site.broker.names.make_directory(who(), parse_path("/vo/other"), "srmMkdir"),
        lambda: site.broker.names.change_acl(who(), parse_path(TOP), lambda acl: acl, "srmSetPermission"),
    ):
        with pytest.raises(NotAuthorised):
            call()


def test_only_the_owner_changes_permissions(site: Any) -> None:
    site.store("a")
    path = parse_path(f"{TOP}/a")
    closed = site.broker.names
    with pytest.raises(NotAuthorised):
        closed.change_acl(who("Bob"), path, lambda acl: acl, "srmSetPermission")
    closed.change_acl(who(), path, lambda acl: acl.granting(Tag.USER, "/CN=Reader", ""), "srmSetPermission")
    with pytest.raises((NotAuthorised, NotFound)):
        site.read("a", by="Reader")
    assert site.read("a", by="Alice") == b"content"


def test_a_name_that_is_being_written_is_listed_as_busy(site: Any) -> None:
    view = site.put("a")
    site.upload(view, b"abc")
    (listing,) = site.broker.entries(who(), [surl("a")], "srmLs")
    assert listing.busy
    assert listing.entry is not None
    assert listing.entry.facts is not None
    assert listing.entry.facts.size_bytes == 3
    children = site.broker.listing(who("Reader"), surl(""), 1, 0, None).children
    assert [(child.path, child.busy) for child in children] == [(f"{TOP}/a", True)]
    assert site.broker.entries(who("Nobody"), [surl("a")], "srmLs")[0].entry is None


def test_two_writers_race_for_a_name(site: Any) -> None:
    """Exactly one of many gets it, whatever the order of their transactions."""
    outcomes: list[Any] = []
    start = threading.Barrier(4)

    def race(number: int) -> None:
        start.wait(10)
        outcomes.append(site.put("a", by=("Alice", "Bob")[number % 2]).states[0])

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(state.name for state in outcomes) == ["FAILED", "FAILED", "FAILED", "SPACE_AVAILABLE"]


def test_a_registered_file_is_copied_by_nobody_where_nobody_carries(site: Any) -> None:
    acl = Acl.parse('user:"/CN=Alice":rx')
    path = parse_path("/vo/registered")
    guid = Guid(str(uuid.uuid4()))
    site.stores.namespace.replace_file(
        Entry(path, Kind.FILE, "", acl, NOW, guid=guid, release=RELEASE, plugin="archive")
    )
    wish = PutWish(RequestKind.COPY, (surl("copy"),), sources=("srm://se.example.org/vo/registered",))
    failure = site.broker.copies.submit(who(), wish).files[0].failure
    assert isinstance(failure, NotSupported)
    assert "writes" not in failure.message


def test_a_name_that_is_being_written_is_busy_to_who_asks_for_it(site: Any) -> None:
    site.store("old")
    site.put("a")
    site.put("old", overwrite=True)
    wish = Wish(RequestKind.GET, (surl("a"), surl("old"), surl("none")))
    codes = {}
    for name in ("Alice", "Reader", "Nobody"):
        view = site.broker.submit(who(name), wish)
        codes[name] = [type(file.failure) for file in view.files]
    # What is there is read until another takes its place; nobody hears of a name who may not see it.
    assert codes["Alice"] == codes["Reader"] == [Busy, type(None), NotFound]
    assert codes["Nobody"] == [NotFound] * 3


def test_who_held_what_was_removed_hears_why_it_is_gone(site: Any) -> None:
    site.store("a")
    read = site.broker.submit(who("Reader"), Wish(RequestKind.GET, (surl("a"),)))
    written = site.put("b")
    paths = [parse_path(f"{TOP}/{name}") for name in ("a", "b")]
    assert site.broker.names.remove_files(who(), paths, "srmRm") == [None, None]
    for name, view in (("Reader", read), ("Alice", written)):
        (file,) = site.broker.status(who(name), view.token, None).files
        assert file.state is FileState.ABORTED
        assert "removed" in file.explanation
