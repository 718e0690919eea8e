"""Images that are handed in: who may, by which protocol, and what becomes of them; a plugin collects them."""

import os
import threading
import zlib
from dataclasses import replace

import pytest

from srm_dicom.broker.listings import Listings
from srm_dicom.broker.views import FileState, PutWish, RequestKind
from srm_dicom.errors import (
    Aborted,
    IntegrityError,
    MdmError,
    NotAuthorised,
    NotFound,
    NotSupported,
    RequestExpired,
    SourceUnavailable,
)
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.scratch.sealeduploads import BLOCK_BYTES
from srm_dicom.testing.waiting import eventually

TOP = "/vo/sealed"
TYPED = "DOE_JANE_19700101.dcm"
CONTENT = b"DOE^JANE^CANARY;" * 10_000 + os.urandom(100)


def surl(name=TYPED):
    return f"srm://se.example.org{TOP}/{name}"


def put(site, *names, by="Physician", protocols=("https",), kind=RequestKind.PUT, **more):
    who = by if not isinstance(by, str) else site.who(by)
    wish = PutWish(kind, tuple(surl(name) for name in names or (TYPED,)), protocols, **more)
    return site.broker.puts.submit(who, wish)


def turl(view):
    return parse_path(view.files[0].turl.removeprefix("https://node:8443"))


def send(site, view, content=CONTENT, by="Physician", **more):
    with site.written.create(site.who(by), turl(view), **more) as file:
        file.write(0, memoryview(content))
        file.finish()


def done(site, view, by="Physician"):
    (file,) = site.broker.puts.done(site.who(by), view.token, None)
    return file


@pytest.fixture
def outer_disk(tmp_path):
    """Everything that the outer zone has on its disk."""

    def everything():
        places = ("scratch", "audit", "names*")
        files = [path for place in places for path in tmp_path.glob(f"{place}/**/*")]
        return b"".join(path.read_bytes() for path in [*files, *tmp_path.glob("names*")] if path.is_file())

    return everything


def test_an_image_goes_to_its_plugin_and_nowhere_else(site, outer_disk):
    view = put(site, sizes=(len(CONTENT),))
    assert view.files[0].failure is None
    assert view.files[0].turl.startswith("https://")
    send(site, view)
    assert TOP.encode() in outer_disk()
    assert CONTENT[:16] not in outer_disk(), "no clear byte"
    assert site.sealed.names()
    assert done(site, view).state is FileState.STORED
    ((upload, content),) = site.archive.has
    assert content == CONTENT
    assert upload.path == ()
    assert (upload.size_bytes, upload.adler32) == (len(CONTENT), f"{zlib.adler32(CONTENT):08x}")
    site.handed_in.look()
    assert not site.sealed.names()
    assert not list(site.area.incoming("0" * 32).parent.iterdir())
    assert CONTENT[:16] not in outer_disk()
    assert site.stores.namespace.find(SitePath(f"{TOP}/{TYPED}")) is None, "its user's name for it is none"


def test_what_its_user_called_it_is_not_audited(site, tmp_path):
    view = put(site)
    send(site, view)
    done(site, view)
    put(site, by="Bob")
    with pytest.raises(MdmError):
        site.written.mkdir(site.who("Physician"), SitePath(f"{TOP}/{TYPED}"))
    audited = b"".join(path.read_bytes() for path in (tmp_path / "audit").rglob("*") if path.is_file())
    assert b"srmPrepareToPut" in audited
    assert TOP.encode() in audited
    assert b"DOE_JANE" not in audited


@pytest.mark.parametrize(
    ("by", "said"),
    [("Bob", "no such file"), ("Reader", "no such file"), ("Stranger", "no such file")],
)
def test_only_who_may_ingest_hands_in(site, by, said):
    """The rights to read and to write files are others; who has none of it does not learn of the place."""
    (file,) = put(site, by=by).files
    assert isinstance(file.failure, NotFound)
    assert said in file.failure.message
    with pytest.raises(NotFound):
        site.written.create(site.who(by), SitePath(f"{TOP}/x"))


def test_who_may_ingest_writes_nowhere_else(site):
    wish = PutWish(RequestKind.PUT, ("srm://se.example.org/vo/data/x",))
    (file,) = site.broker.puts.submit(site.who("Physician"), wish).files
    assert isinstance(file.failure, NotFound)


def test_a_limited_credential_hands_in_nothing(site, tmp_path):
    limited = replace(site.who("Physician"), limited=True)
    (file,) = put(site, by=limited).files
    assert isinstance(file.failure, NotAuthorised)
    assert "limited" in file.failure.message
    view = put(site)
    with pytest.raises(NotAuthorised, match="limited"):
        site.written.create(limited, turl(view))
    audited = b"".join(path.read_bytes() for path in (tmp_path / "audit").rglob("*") if path.is_file())
    assert audited.count(b'"denied"') == 2


def test_whose_right_has_gone_sends_no_more(site):
    view = put(site)
    namespace = site.stores.namespace
    acl = namespace.find(SitePath(TOP)).acl
    kept = tuple(entry for entry in acl.entries if entry.qualifier != "/CN=Physician")
    namespace.set_acl(SitePath(TOP), replace(acl, entries=kept))
    with pytest.raises(NotFound):
        site.written.create(site.who("Physician"), turl(view))


@pytest.mark.parametrize("protocols", [(), ("https",), ("gsiftp", "https"), ("HTTPS",), ("file", "https")])
def test_the_turl_is_one_that_encrypts(site, protocols):
    assert put(site, protocols=protocols).files[0].turl.startswith("https://node:8443/.upload/")


def test_who_has_no_protocol_that_encrypts_hears_why(site):
    with pytest.raises(NotSupported, match="https only") as told:
        put(site, protocols=("gsiftp",))
    assert "https" in told.value.advice
    assert put(site, by="Bob", protocols=("gsiftp",)).files[0].failure.message == "no such file or directory"


def test_there_are_no_directories_and_no_other_names(site):
    physician = site.who("Physician")
    put(site)
    with pytest.raises(NotSupported):
        site.written.mkdir(physician, SitePath(f"{TOP}/dir"))
    for source, target in ((f"{TOP}/{TYPED}", f"{TOP}/b"), ("/vo/data/a", f"{TOP}/b"), (f"{TOP}/a", "/vo/x")):
        with pytest.raises(NotSupported):
            site.written.rename(site.who("Alice"), SitePath(source), SitePath(target))
    with pytest.raises(NotFound):
        site.written.mkdir(site.who("Bob"), SitePath(f"{TOP}/dir"))


def test_nothing_is_copied_there(site):
    """A copy's bytes would lie in scratch as they are."""
    site.store("a.dat")
    wish = PutWish(RequestKind.COPY, (surl(),), sources=("srm://se.example.org:8446/vo/data/a.dat",))
    (file,) = site.broker.copies.submit(site.who("Alice"), wish).files
    assert isinstance(file.failure, NotSupported)
    assert "not copied" in file.failure.message


def test_one_lists_ones_own(site):
    """While an image is being handed in its user's name for it is there, for that user alone."""
    view = put(site)
    send(site, view)
    listings = Listings(site.broker.surls, site.access, site.stores)
    for by, there in (("Physician", True), ("Alice", False)):
        (listing,) = listings.entries(site.who(by), [surl()], "srmLs")
        assert (listing.entry is not None) is there
        assert listing.busy is there


def test_it_is_gone_on_with_where_it_broke_off(site):
    view = put(site)
    with site.written.create(site.who("Physician"), turl(view)) as file:
        file.write(0, memoryview(CONTENT)[: BLOCK_BYTES + 100])
    keep = BLOCK_BYTES + 50
    with site.written.create(site.who("Physician"), turl(view), keep_bytes=keep) as file:
        file.write(keep, memoryview(CONTENT)[keep:])
        file.finish()
    assert done(site, view).failure is None
    assert site.archive.has[0][1] == CONTENT


def test_no_other_node_writes_a_part_of_it(site):
    view = put(site)
    with site.written.create(site.who("Physician"), turl(view)), pytest.raises(NotSupported):
        site.written.join(site.who("Physician"), turl(view))


def test_a_plain_path_is_one_call(site):
    with site.written.create(site.who("Physician"), SitePath(f"{TOP}/x.dcm")) as file:
        file.write(0, memoryview(CONTENT))
        file.finish()
    assert site.archive.has[0][1] == CONTENT


@pytest.mark.parametrize("end", ["abort", "expiry", "removal"])
def test_however_a_put_ends_its_bytes_and_key_go(site, end):
    view = put(site)
    send(site, view)
    physician = site.who("Physician")
    if end == "abort":
        site.broker.abort(physician, view.token)
    elif end == "expiry":
        site.clock.advance(24 * 3600)
        site.janitor.tidy()
    else:
        assert site.broker.names.remove_files(physician, [SitePath(f"{TOP}/{TYPED}")], "srmRm") == [None]
    site.handed_in.look()
    assert not site.sealed.names()
    assert not list(site.area.incoming("0" * 32).parent.iterdir())
    with pytest.raises((NotFound, RequestExpired)):
        site.written.create(physician, turl(view))


def test_an_archive_that_does_not_answer_is_asked_again(site):
    def closed(_upload, _arrived):
        raise SourceUnavailable("the archive does not answer")

    view = put(site)
    send(site, view)
    site.archive.ingest = closed
    waiting = done(site, view)
    assert waiting.state is FileState.STORING
    site.handed_in.look()
    assert site.sealed.names(), "it waits, sealed"
    del site.archive.ingest
    site.clock.advance(60)
    site.work()
    assert site.archive.has[0][1] == CONTENT


@pytest.mark.parametrize("when", ["before putDone", "while it waits to be stored"])
def test_a_restart_loses_it_and_says_so(site, when):
    view = put(site)
    send(site, view)
    if when != "before putDone":
        site.inner_lives = False
        assert done(site, view).state is FileState.STORING
    later = site.restarted()
    failure = done(later, view).failure
    assert isinstance(failure, IntegrityError)
    assert "started anew" in failure.message
    assert "upload it again" in failure.message
    later.work()
    assert not later.archive.has
    again = put(later)
    send(later, again)
    assert done(later, again).failure is None
    assert later.archive.has[0][1] == CONTENT


def test_a_restart_before_it_was_complete_leaves_the_turl(site):
    view = put(site)
    with site.written.create(site.who("Physician"), turl(view)) as file:
        file.write(0, memoryview(CONTENT)[:100_000])
    later = site.restarted()
    failure = done(later, view).failure
    assert "not all of them" in failure.message
    send(later, view)
    assert done(later, view).failure is None
    assert later.archive.has[0][1] == CONTENT


def test_a_put_that_is_aborted_while_it_is_sent_stops_its_door(site):
    view = put(site)
    with site.written.create(site.who("Physician"), turl(view)) as file:
        file.write(0, memoryview(CONTENT))
        site.broker.abort(site.who("Physician"), view.token)
        site.handed_in.look()
        with pytest.raises(Aborted):
            file.write(len(CONTENT), memoryview(CONTENT))
        with pytest.raises(Aborted):
            file.finish()


def test_an_archive_that_hangs_keeps_no_other_uploads_waiting(site, monkeypatch):
    site.inner_lives = False
    for number in range(6):
        view = put(site, f"{number}.dcm")
        send(site, view)
        site.broker.puts.done(site.who("Physician"), view.token, None)
    plain = site.put("plain")
    site.upload(plain, b"content")
    over, stop, hung = threading.Event(), threading.Event(), []
    ingest = site.archive.ingest

    def hangs(upload, arrived):
        hung.append(upload)
        assert over.wait(30)
        ingest(upload, arrived)

    monkeypatch.setattr(site.archive, "ingest", hangs)
    site.done(plain)
    inner = threading.Thread(target=site.inner.run, args=(stop,))
    inner.start()
    try:
        assert eventually(site.on_disk)
        assert 1 <= len(hung) < 4
    finally:
        over.set()
    assert eventually(lambda: len(site.archive.has) == 6)
    stop.set()
    inner.join()
