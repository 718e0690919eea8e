"""The HTTPS door over a site that users write to: what becomes of names when something goes wrong."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.broker.views import RequestKind, Wish
from srm_dicom.errors import AlreadyExists, Busy, NotDelivered, NotFound
from srm_dicom.ids import parse_path
from srm_dicom.rights.acl import Tag
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.copyinghere import CopiesHere
from srm_dicom.transfer.davmessage import Handlers
from srm_dicom.transfer.davopening import Opening
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.mover import Moved
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.stream import PeerGone
from srm_dicom.wire.dav.conditions import entity_tag

TOP = "/vo/data"
WRONG = "adler32=00000001"


class Lost(io.BytesIO):
    """A body whose sender goes away in the middle of it."""

    def readinto(self, buffer: Any) -> int:
        if self.tell():
            raise PeerGone
        return super().readinto(buffer[:3])


class Elsewhere:
    """A mover whose other servers break off."""

    def check(self, remote: Any) -> None:
        pass

    def push(self, file: Any, remote: Any, progress: Any) -> Moved:
        return Moved(file.size_bytes, "", verified=True)

    def pull(self, remote: Any, file: Any, progress: Any) -> None:
        file.write(0, memoryview(b"con"))
        raise NotDelivered("the other server is gone")


@pytest.fixture
def ask(site: Any) -> Any:
    settings = CopySettings("https://se.example.org:8443", Path("/none"))
    copies: Any = Copies(site.served, Elsewhere(), None, settings, site.clock, site.written)  # type: ignore[arg-type]
    return asking(site, copies.handlers)


@pytest.fixture
def local(site: Any) -> Any:
    return asking(site, CopiesHere(site.served, site.written, Opening(site.served, None)).handlers)


def asking(site: Any, copies: Handlers) -> Any:
    more = {**Writes(site.served, site.written).handlers, **copies}
    door = WebDavDoor(site.served, more=more)

    def asked(
        method: str, name: str, body: bytes | io.BytesIO = b"", by: str = "Alice", **headers: str
    ) -> int:
        told: list[str] = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": name if name.startswith("/") else f"{TOP}/{name}",
            "wsgi.input": io.BytesIO(body) if isinstance(body, bytes) else body,
            PRINCIPAL: site.who(by),
            **{f"HTTP_{header.upper()}": value for header, value in headers.items()},
        }
        list(door(environ, lambda status, _: told.append(status)))  # type: ignore[arg-type]
        return int(told[0][:3])

    return asked


@pytest.fixture(params=["a sum that does not match", "a lost connection", "a failed pull"])
def fail(request: Any, ask: Any) -> Any:
    """Break a PUT off."""

    def wrong(name: str) -> None:
        assert ask("PUT", name, b"content", Digest=WRONG) == 400

    def lost(name: str) -> None:
        with pytest.raises(PeerGone):
            ask("PUT", name, Lost(b"content"))

    def pull(name: str) -> None:
        assert ask("COPY", name, Source="https://other.example/x", Credential="none") == 202

    return {"a sum": wrong, "a lost": lost, "a failed": pull}[" ".join(request.param.split()[:2])]


def test_what_failed_leaves_the_name_free(site: Any, ask: Any, fail: Any) -> None:
    assert ask("MKCOL", "d") == 201
    fail("d/a")
    assert not list(site.stores.uploads.on_node("node"))
    assert ask("GET", "d/a") == 404
    assert ask("PUT", "d/a", b"another's", by="Bob") == 201
    fail("d/b")
    assert ask("MOVE", "d/a", Destination=f"{TOP}/d/b") == 201
    assert site.read("d/b") == b"another's"
    assert ask("DELETE", "d/b") == 204
    fail("d/a")
    assert ask("DELETE", "d") == 204


def test_a_pull_to_a_name_that_cannot_be(ask: Any) -> None:
    source = {"Source": "https://other.example/x", "Credential": "none"}
    assert ask("COPY", "a+b", **source) == 400
    assert ask("COPY", "a+b", Destination="https://other.example/x", Credential="none") == 404


def test_what_failed_leaves_the_file_that_was_there(site: Any, ask: Any, fail: Any) -> None:
    site.store("a", b"before")
    fail("a")
    assert site.read("a") == b"before"
    assert ask("PUT", "a", b"after", by="Bob") == 200
    assert site.read("a") == b"after"


def test_what_another_connection_writes_is_not_given_up(site: Any, ask: Any) -> None:
    with site.written.create(site.who(), parse_path(f"{TOP}/a"), resumable=False) as file:
        file.write(0, memoryview(b"first"))
        assert ask("PUT", "a", b"second") == 423
        file.finish()
    assert site.read("a") == b"first"


def test_what_is_being_stored_is_not_given_up(site: Any, ask: Any) -> None:
    site.inner_lives = False
    assert ask("PUT", "a", b"content") == 503
    site.inner_lives = True
    site.work()
    assert site.read("a") == b"content"


def test_a_put_of_the_srm_goes_on_after_a_failure(site: Any, ask: Any, fail: Any) -> None:
    view = site.put("a")
    fail(view.files[0].turl.removeprefix("gsiftp://node:2811"))
    site.upload(view, b"content")
    assert [file.failure for file in site.done(view)] == [None]


def test_gridftp_goes_on_where_it_broke_off(site: Any) -> None:
    path = parse_path(f"{TOP}/a")
    with site.written.create(site.who(), path) as file:
        file.write(0, memoryview(b"con"))
    with site.written.create(site.who(), path, keep_bytes=3) as file:
        file.write(3, memoryview(b"tent"))
        file.finish()
    assert site.read("a") == b"content"


def test_what_was_begun_is_deleted(site: Any, ask: Any) -> None:
    """Over GridFTP, so that it stays; https frees its name too."""
    with site.written.create(site.who(), parse_path(f"{TOP}/a")) as file:
        file.write(0, memoryview(b"con"))
    with pytest.raises(Busy):
        site.written.create(site.who("Bob"), parse_path(f"{TOP}/a"))
    assert ask("DELETE", "a", by="Nobody") == 404
    assert ask("DELETE", "a", by="Reader") in (403, 404)
    assert ask("DELETE", "a") == 204
    assert ask("DELETE", "a") == 404
    assert ask("PUT", "a", b"content", by="Bob") == 201


@pytest.mark.parametrize(
    ("method", "name", "headers"),
    [
        ("PUT", "new", {"If_None_Match": "*"}),
        ("PUT", "old", {"If_Match": entity_tag(f"{zlib.adler32(b'content'):08x}", 7)}),
        ("COPY", "new", {"Source": "https://other.example/x", "Credential": "none", "Overwrite": "F"}),
        ("COPY", "old", {"Destination": f"{TOP}/new", "Overwrite": "F"}),
    ],
)
def test_a_condition_holds_when_the_name_is_taken(
    site: Any, ask: Any, monkeypatch: pytest.MonkeyPatch, method: str, name: str, headers: dict[str, str]
) -> None:
    """Of two who write a name on one condition, however close together, one is told that it is not met."""
    site.store("old", b"content")
    real, changed = site.broker.puts.open, name if method == "PUT" else "new"

    def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        assert ask("PUT", changed, b"first") in (200, 201)
        return real(*arguments, **options)

    monkeypatch.setattr(site.broker.puts, "open", late)
    assert ask(method, name, b"second", **headers) == 412
    assert site.read(changed) == b"first"
    assert not list(site.stores.uploads.on_node("node"))


# --- COPY from name to name


HERE = {"Host": "SE.example.org:8443"}


def here(name: str, host: str = "se.example.org:8443") -> dict[str, str]:
    return {**HERE, "Destination": f"https://{host}{TOP}/{name}"}


def test_a_copy_to_another_name_here(site: Any, ask: Any) -> None:
    site.store("a", b"content")
    assert ask("COPY", "a", **here("b")) == 201
    assert (site.read("a"), site.read("b")) == (b"content", b"content")
    site.store("c", b"other")
    assert ask("COPY", "c", **here("b"), Overwrite="F") == 412
    assert site.read("b") == b"content"
    assert ask("COPY", "c", **here("b"), Overwrite="T") == 204
    assert site.read("b") == b"other"
    assert ask("COPY", "c", **HERE, Destination=f"{TOP}/d") == 201


def test_a_copy_here_keeps_conditions_and_names(site: Any, ask: Any) -> None:
    site.store("a", b"content")
    assert ask("MKCOL", "d") == 201
    assert ask("COPY", "a", **here("b"), If_Match='"x"') == 412
    assert ask("COPY", "a", **here("a")) == 403
    assert ask("COPY", "none", **here("none")) == 404
    assert ask("COPY", "none", **here("b")) == 404
    assert ask("COPY", "a", **here("none/b")) == 404
    assert ask("COPY", "a", **here("a+b")) == 400
    assert ask("COPY", "a", **here("d")) == 409
    assert ask("COPY", "d", **here("e")) == 409
    assert sorted(site.on_disk()) == ["uploads/vo/data/a"]


def test_a_copy_here_asks_for_the_rights_of_both_names(site: Any, ask: Any) -> None:
    site.store("a", b"content")
    assert ask("COPY", "a", by="Reader", **here("b")) == 403
    assert ask("COPY", "a", by="Nobody", **here("b")) == 404
    assert ask("COPY", "a", **HERE, Destination="https://se.example.org:8443/vo/b") == 403
    assert ask("COPY", "a", **HERE, Destination="https://se.example.org:8443/vo/sealed/b") == 501
    assert sorted(site.on_disk()) == ["uploads/vo/data/a"]
    assert not list(site.stores.uploads.on_node("node"))


def test_a_copy_here_that_fails_leaves_the_name_free(site: Any, ask: Any) -> None:
    site.store("a", b"content")
    (staged,) = site.area.names()
    site.area.path(staged).write_bytes(b"CONTENT")
    assert ask("COPY", "a", **here("b")) == 500
    assert not list(site.stores.uploads.on_node("node"))


def test_a_copy_that_shows_something_goes_the_long_way(site: Any, ask: Any) -> None:
    """The other name of this server may be its own gateway: who hands a token on means that."""
    site.store("a", b"content")
    assert ask("COPY", "a", **here("b"), Credential="none") == 202
    assert ask("COPY", "a", **here("b", "other.example")) in (302, 501)


def test_a_site_that_copies_to_no_other_servers(site: Any, local: Any) -> None:
    site.store("a", b"content")
    assert local("COPY", "a", **here("b")) == 201
    assert local("COPY", "a", **here("b", "other.example")) == 501
    assert local("COPY", "c", Source="https://other.example/x") == 501
    assert site.read("b") == b"content"


# --- MOVE


@pytest.mark.parametrize("host", ["SE.EXAMPLE.ORG:8443", "se.example.org.:8443"])
def test_a_host_is_one_however_it_is_written(site: Any, ask: Any, host: str) -> None:
    site.store("a", b"content")
    assert ask("MOVE", "a", **here("b", host)) == 201
    assert ask("MOVE", "b", Host="Se.Example.org", Destination=f"https://se.example.org:443{TOP}/c") == 201
    assert ask("MOVE", "c", Host="se.example.org:443", Destination=f"davs://SE.example.org{TOP}/d") == 201
    assert ask("MOVE", "d", **here("e", "se.example.org:8444")) == 502
    assert ask("MOVE", "d", **here("e", "other.example:8443")) == 502
    assert ask("MOVE", "d", **here("e", "se.example.org:x")) == 400


def test_a_name_is_not_moved_onto_itself(site: Any, ask: Any) -> None:
    site.store("a", b"content")
    assert ask("MOVE", "a", **here("a")) == 403
    assert ask("MOVE", "none", **here("none")) == 404
    assert site.read("a") == b"content"


def test_a_move_takes_the_place_of_a_file(site: Any, ask: Any) -> None:
    site.store("a", b"moved")
    site.store("b", b"there")
    assert ask("MOVE", "a", **here("b"), Overwrite="F") == 412
    assert (site.read("a"), site.read("b")) == (b"moved", b"there")
    assert ask("MOVE", "a", **here("b")) == 204
    assert site.read("b") == b"moved"
    with pytest.raises(NotFound):
        site.read("a", by="Alice")
    site.work()
    assert list(site.on_disk().values()) == [b"moved"]
    site.evict()
    site.broker.submit(site.who("Reader"), Wish(RequestKind.GET, (site.surl("b"),)))
    site.stage()
    assert site.read("b") == b"moved"


def test_a_move_replaces_nothing_but_a_file_by_a_file(site: Any, ask: Any) -> None:
    site.store("a", b"file")
    assert ask("MKCOL", "d") == 201
    assert ask("MOVE", "d", **here("a")) == 409
    assert ask("MKCOL", "e") == 201
    assert ask("MKCOL", "e/a") == 201
    assert ask("MOVE", "a", **here("e")) == 409, "into the directory, where a directory has the name"
    assert ask("MOVE", "none", **here("a")) == 404
    site.store("b", b"there")
    with site.written.create(site.who(), parse_path(f"{TOP}/b")):
        assert ask("MOVE", "a", **here("b")) == 423
    assert (site.read("a"), site.read("b")) == (b"file", b"there")


def test_who_may_not_replace_a_file_moves_nothing_onto_it(site: Any, ask: Any) -> None:
    site.store("a", b"file")
    site.store("b", b"there")
    path = parse_path(f"{TOP}/b")
    deny = lambda acl: acl.granting(Tag.USER, "/CN=Bob", "r")  # noqa: E731
    site.broker.names.change_acl(site.who(), path, deny, "srmSetPermission")
    assert ask("PUT", "b", b"x", by="Bob") == 403
    assert ask("MOVE", "a", by="Bob", **here("b")) == 403
    assert (site.read("a"), site.read("b")) == (b"file", b"there")


def test_other_doors_move_nothing_onto_a_file(site: Any) -> None:
    site.store("a")
    site.store("b")
    with pytest.raises(AlreadyExists):
        site.written.rename(site.who(), *(parse_path(f"{TOP}/{name}") for name in "ab"))
