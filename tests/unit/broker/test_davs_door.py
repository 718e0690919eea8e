"""The HTTPS door over a site that users write to: what becomes of names when something goes wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.errors import Busy, NotDelivered
from srm_dicom.ids import parse_path
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.stream import PeerGone

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

    def pull(self, remote: Any, file: Any, progress: Any) -> None:
        file.write(0, memoryview(b"con"))
        raise NotDelivered("the other server is gone")


@pytest.fixture
def ask(site: Any) -> Any:
    settings = CopySettings("https://se.example.org:8443", Path("/none"))
    copies: Any = Copies(site.served, Elsewhere(), None, settings, site.clock, site.written)  # type: ignore[arg-type]
    more = {**Writes(site.served, site.written).handlers, **copies.handlers}
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
