"""What the scopes of a WLCG token leave its user at the https door, by its profile, v1.3 (2.2.1).

The user of every token here may read and write what it is about: whatever is refused, the scope refuses.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from srm_dicom.broker.views import FileState, PutWish, RequestKind, Wish
from srm_dicom.errors import MdmError, NotAuthorised
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import parse
from srm_dicom.ids import parse_path
from srm_dicom.rights.evaluate import OUT_OF_SCOPE
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.nearline import Nearline, NearlineSettings
from srm_dicom.transfer.tape import TapeApi, TapeSettings
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.environ import CHAIN, PRINCIPAL
from srm_dicom.wire.tape import BASE

TOP = "/vo/data"
FILE = f"{TOP}/a.dat"
STAT = ["storage.read", "storage.create", "storage.modify", "storage.stage"]
Ask = Callable[..., int]


def bearer(site: Any, scope: str, name: str = "Alice") -> Principal:
    return replace(site.who(name), limited=True, scopes=parse(scope, "/"))


@pytest.fixture
def nobody_moves() -> Any:
    """A mover that is never reached by what is refused."""
    return SimpleNamespace(check=lambda _: None)


@pytest.fixture
def ask(site: Any, nobody_moves: Any, tmp_path: Any) -> Ask:
    """Ask the door with a token of Alice's (or with no token: ""); its status."""
    nearline = Nearline(site.broker, NearlineSettings("se.example.org:8446", wait_s=1.0), site.clock)
    settings = CopySettings("https://node:8443", tmp_path)
    copies = Copies(site.served, nobody_moves, None, settings, site.clock, site.written)  # type: ignore[arg-type]
    more = {**Writes(site.served, site.written).handlers, **copies.handlers}
    door = WebDavDoor(site.served, more=more, nearline=nearline)
    api = TapeApi(site.broker, TapeSettings("se", "https://se.example.org:8446"))
    site.store("a.dat", b"old")

    def asked(
        method: str, path: str, scope: str, body: bytes = b"", *, by: str = "Alice", **headers: str
    ) -> int:
        statuses: list[str] = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "HTTP_HOST": "node:8443",
            CHAIN: (),
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
            PRINCIPAL: bearer(site, scope, by) if scope else site.who(by),
        }
        app = api if path.startswith(BASE) else door
        found = app(environ, lambda status, _headers: statuses.append(status))  # type: ignore[arg-type]
        asked.body = b"".join(found)  # type: ignore[attr-defined]
        return int(statuses[0].split()[0])

    return asked


def there(site: Any, path: str) -> bool:
    return site.stores.namespace.find(parse_path(path)) is not None


# --- create uploads and changes nothing that is there


def test_create_replaces_nothing(site: Any, ask: Ask) -> None:
    assert ask("PUT", FILE, "storage.create:/vo/data", b"new") == 403
    assert site.read("a.dat") == b"old"
    assert ask("PUT", FILE, "storage.modify:/vo/data", b"new") == 200
    assert site.read("a.dat") == b"new"


@pytest.mark.parametrize("more", ["", " storage.read:/vo/data", " storage.modify:/vo/other"])
def test_create_removes_nothing(site: Any, ask: Ask, more: str) -> None:
    site.broker.names.make_directory(site.who(), parse_path(f"{TOP}/dir"), "mkdir")
    for path in (FILE, f"{TOP}/dir"):
        assert ask("DELETE", path, f"storage.create:/vo/data{more}") == 403
        assert there(site, path)
        assert ask("DELETE", path, "storage.modify:/vo/data") == 204
        assert not there(site, path)


def test_create_uploads_and_makes_directories(site: Any, ask: Ask) -> None:
    assert ask("MKCOL", f"{TOP}/dir", "storage.create:/vo/data") == 201
    assert ask("PUT", f"{TOP}/dir/new", "storage.create:/vo/data", b"new") == 201
    assert site.read("dir/new") == b"new"


def test_create_renames_files_to_free_names(site: Any, ask: Ask) -> None:
    site.store("b.dat")
    site.broker.names.make_directory(site.who(), parse_path(f"{TOP}/dir"), "mkdir")
    create = "storage.create:/vo/data"
    assert ask("MOVE", FILE, create, destination=f"{TOP}/b.dat", overwrite="F") == 412
    assert ask("MOVE", FILE, create, destination=f"{TOP}/b.dat") == 403
    assert ask("MOVE", FILE, create, destination=f"{TOP}/c.dat") == 201
    assert ask("MOVE", f"{TOP}/dir", create, destination=f"{TOP}/other") == 403
    assert ask("MOVE", f"{TOP}/dir", "storage.modify:/vo/data", destination=f"{TOP}/other") == 201
    elsewhere = "storage.create:/vo/data/c.dat storage.read:/vo/data"
    assert ask("MOVE", f"{TOP}/c.dat", elsewhere, destination=f"{TOP}/d.dat") == 403


def test_modify_moves_over_files(site: Any, ask: Ask) -> None:
    site.store("b.dat", b"other")
    for scope in (f"storage.modify:{FILE}", f"storage.modify:{FILE} storage.create:{TOP}/b.dat"):
        assert ask("MOVE", FILE, scope, destination=f"{TOP}/b.dat") == 403
    assert site.read("b.dat") == b"other"
    assert ask("MOVE", FILE, "storage.modify:/vo/data", destination=f"{TOP}/b.dat") == 204
    assert site.read("b.dat") == b"old"


def test_a_copy_to_another_name_here_takes_both_rights(site: Any, ask: Ask) -> None:
    read, create, modify = (f"storage.{word}:/vo/data" for word in ("read", "create", "modify"))
    for scope in (
        read,
        create,
        modify,
        f"{create} storage.read:/vo/data/b",
        f"{read} storage.create:/vo/data/b",
    ):
        assert ask("COPY", FILE, scope, destination=f"{TOP}/copy") == 403
    assert ask("COPY", FILE, f"{read} {create}", destination=f"{TOP}/copy") == 201
    assert ask("COPY", FILE, f"{read} {create}", destination=f"{TOP}/copy") == 403
    assert ask("COPY", FILE, f"{read} {modify}", destination=f"{TOP}/copy") == 204
    assert site.read("copy") == b"old"


def test_a_directory_on_the_way_to_a_scope_is_made_if_it_is_not_there(site: Any, ask: Ask) -> None:
    for word in ("create", "modify"):
        scope, lead = f"storage.{word}:/vo/data/{word}/two", f"{TOP}/{word}"
        assert ask("PUT", lead, scope, b"a file") == 403
        assert ask("MKCOL", f"{lead}2", scope) == 403
        assert ask("MKCOL", lead, scope) == 201
        assert ask("MKCOL", lead, scope) == 405
        assert ask("MKCOL", f"{lead}/twofold", scope) == 403
        assert ask("PUT", f"{lead}/file", scope, b"a file") == 403
        assert ask("DELETE", lead, scope) == 403
        assert ask("MOVE", lead, scope, destination=f"{TOP}/moved") == 403
        assert ask("MKCOL", f"{lead}/two", scope) == 201
        assert ask("PUT", f"{lead}/two/file", scope, b"a file") == 201
    assert ask("MKCOL", f"{TOP}/read", "storage.read:/vo/data/read/two") == 403


def test_a_scope_that_ends_with_a_slash_is_a_directorys(ask: Ask) -> None:
    assert ask("PUT", f"{TOP}/new", "storage.create:/vo/data/new/", b"a file") == 403
    assert ask("MKCOL", f"{TOP}/new", "storage.create:/vo/data/new/") == 201
    assert ask("PUT", f"{TOP}/new/file", "storage.create:/vo/data/new/", b"a file") == 201


# --- the audit has what a scope has refused


READS = "storage.read:/vo/data"
FILES = msgspec.json.encode({"files": [{"path": FILE}, {"path": f"{TOP}/none"}]})


@pytest.mark.parametrize(
    ("method", "path", "body", "operation"),
    [
        ("POST", f"{BASE}/stage", FILES, "stage"),
        ("POST", f"{BASE}/stage/TOKEN/cancel", msgspec.json.encode({"paths": [FILE]}), "cancel"),
        ("POST", f"{BASE}/release/TOKEN", msgspec.json.encode({"paths": [FILE]}), "release"),
        ("GET", f"{BASE}/stage/TOKEN", b"", "poll"),
        ("DELETE", f"{BASE}/stage/TOKEN", b"", "delete"),
        ("GET", FILE, b"", "srmBringOnline"),
    ],
)
def test_what_a_scope_has_refused_is_audited_once(
    site: Any, ask: Ask, staging: str, method: str, path: str, body: bytes, operation: str
) -> None:
    if operation == "srmBringOnline":
        site.stores.staged.remove(site.stores.namespace.find(parse_path(FILE)).guid, "node")
    scope = "storage.read:/vo/data/b" if operation == "poll" else READS
    before = len(site.audited())
    assert ask(method, path.replace("TOKEN", staging), scope, body) == 403
    (event,) = [event for event in site.audited()[before:] if event["outcome"] == "denied"]
    assert (event["operation"], event["objects"], event["dn"]) == (operation, [FILE], "/CN=Alice")
    assert OUT_OF_SCOPE in event["rule"]


def test_who_asks_the_srm_to_replace_what_a_scope_does_not_cover_is_audited(site: Any, ask: Ask) -> None:
    wish = PutWish(RequestKind.PUT, (site.surl("a.dat"),), ("gsiftp",), overwrite=True)
    view = site.broker.puts.submit(bearer(site, "storage.create:/vo/data"), wish)
    assert isinstance(view.files[0].failure, NotAuthorised)
    assert site.audited()[-1]["rule"] == OUT_OF_SCOPE


# --- whoever may do anything there may stat


@pytest.mark.parametrize("word", STAT)
def test_stat(ask: Ask, word: str) -> None:
    assert ask("HEAD", FILE, f"{word}:/vo/data") == 200
    assert ask("HEAD", FILE, f"{word}:{FILE}") == 200
    assert ask("PROPFIND", FILE, f"{word}:/vo/data", depth="0") == 207
    assert ask("PROPFIND", TOP, f"{word}:/vo/data", depth="1") == 207
    assert ask("HEAD", f"{TOP}/none", f"{word}:/vo/data") == 404


@pytest.mark.parametrize("word", STAT)
def test_a_scope_does_not_let_see_what_the_acl_hides(site: Any, ask: Ask, word: str) -> None:
    for method in ("HEAD", "GET", "DELETE"):
        assert ask(method, FILE, f"{word}:/", by="Stranger") == 404
    assert ask("PUT", FILE, f"{word}:/", b"new", by="Stranger") in (403, 404)
    assert site.read("a.dat") == b"old"


def test_a_directory_is_hidden_from_a_put_too(ask: Ask) -> None:
    assert ask("PUT", TOP, "", b"new", by="Stranger") == 404
    assert ask("PUT", TOP, "", b"new") == 405


def test_modify_alone_is_enough_to_change(site: Any, ask: Ask) -> None:
    modify = "storage.modify:/vo/data"
    assert ask("PUT", FILE, modify, b"new", if_none_match="*") == 412
    assert ask("COPY", FILE, modify, source="https://x/y", overwrite="F", credential="none") == 412
    assert site.read("a.dat") == b"old"
    assert ask("MOVE", FILE, modify, destination=f"{TOP}/b.dat") == 201
    assert ask("DELETE", f"{TOP}/b.dat", modify) == 204
    assert ask("DELETE", f"{TOP}/b.dat", modify) == 404


@pytest.mark.parametrize("word", [*STAT[1:], "storage.poll"])
def test_only_read_reads(ask: Ask, word: str) -> None:
    assert ask("GET", FILE, f"{word}:/vo/data") == 403
    assert (b"storage.read" in ask.body) is (word in STAT)  # type: ignore[attr-defined]
    assert ask("GET", FILE, f"{word}:/vo/data storage.read:{FILE}") == 200


@pytest.mark.parametrize("scope", ["openid", "storage.read:/vo/dat", "storage.poll:/vo/data/b"])
def test_outside_of_the_scope_the_answer_is_one_for_all_names(site: Any, ask: Ask, scope: str) -> None:
    site.broker.names.make_directory(site.who(), parse_path(f"{TOP}/dir"), "mkdir")
    for path in (FILE, f"{TOP}/dir", f"{TOP}/none", f"{TOP}/none/none"):
        assert ask("HEAD", path, scope) == 403
        assert ask("GET", path, scope) == 403
        assert ask("PROPFIND", path, scope, depth="1") == 403
        assert ask("DELETE", path, scope) == 403
        assert ask("MKCOL", path, scope) == 403
        assert ask("PUT", path, scope, b"new") == 403
        assert ask("PUT", path, scope, b"new", if_none_match="*") == 403
        assert ask("MOVE", path, scope, destination=f"{TOP}/moved") == 403


# --- an upload is for who may write there, whoever began it


def turl(site: Any, name: str, **more: Any) -> str:
    view = site.put(name, **more)
    return str(view.files[0].turl).removeprefix("gsiftp://node:2811")


@pytest.mark.parametrize(
    ("scope", "put", "head"),
    [
        ("storage.read:/vo/data/d1", 403, 404),
        ("storage.read:/vo/data", 403, 200),
        ("storage.stage:/vo/data", 403, 200),
        ("storage.modify:/vo/data/p", 403, 404),
        ("storage.create:/vo/data/p2", 201, 200),
        ("storage.modify:/vo/data", 201, 200),
    ],
)
def test_an_upload_at_a_turl(site: Any, ask: Ask, scope: str, put: int, head: int) -> None:
    path = turl(site, "p2")
    assert ask("PUT", path, scope, b"bytes") == put
    assert ask("HEAD", path, scope) == head


def test_an_upload_that_replaces(site: Any, ask: Ask) -> None:
    path = turl(site, "a.dat", overwrite=True)
    assert ask("PUT", path, "storage.create:/vo/data", b"bytes") == 403
    assert ask("PUT", path, "storage.modify:/vo/data", b"bytes") == 201


def test_an_upload_that_was_broken_off_is_not_gone_on_with_by_who_may_not(site: Any, ask: Ask) -> None:
    for name in ("a.dat", "new"):
        site.written.create(site.who(), parse_path(f"{TOP}/{name}")).__exit__(None, None, None)
        assert ask("PUT", f"{TOP}/{name}", "storage.read:/vo/data", b"bytes") == 403
    assert ask("PUT", FILE, "storage.create:/vo/data", b"bytes") == 403
    assert ask("PUT", f"{TOP}/new", "storage.create:/vo/data", b"bytes") == 201


def test_what_create_uploads_replaces_nothing_that_came_meanwhile(site: Any) -> None:
    wish = PutWish(RequestKind.PUT, (site.surl("late"),), ("gsiftp",), overwrite=True)
    for scope, overwrites in (("storage.create:/vo/data", False), ("storage.modify:/vo/data", True)):
        site.broker.puts.submit(bearer(site, scope), wish)
        upload = site.stores.uploads.find_path(parse_path(f"{TOP}/late"))
        assert upload.overwrite is overwrites
        site.broker.puts.give_up(upload)


# --- staging is for who may stage


@pytest.fixture
def staging(site: Any, ask: Ask) -> str:
    """A stage request that Alice made with her certificate."""
    wish = Wish(RequestKind.BRING_ONLINE, (f"srm://se.example.org:8446{FILE}",))
    return str(site.broker.submit(site.who(), wish).token)


def states(site: Any, token: str) -> set[FileState]:
    return {file.state for file in site.stores.requests.files(token)}


PATHS = msgspec.json.encode({"paths": [FILE]})
OTHERS = [
    *("storage.read:/vo/data/d1", "storage.read:/vo/data", "storage.modify:/vo/data"),
    *("storage.poll:/vo/data", "storage.stage:/vo/data/b"),
]


@pytest.mark.parametrize("scope", OTHERS)
def test_what_a_stage_request_holds_is_let_go_by_stage_alone(
    site: Any, ask: Ask, staging: str, scope: str
) -> None:
    assert states(site, staging) == {FileState.PINNED}
    assert ask("POST", f"{BASE}/stage/{staging}/cancel", scope, PATHS) == 403
    assert ask("POST", f"{BASE}/release/{staging}", scope, PATHS) == 403
    assert ask("POST", f"{BASE}/release/all", scope, PATHS) == 403
    assert ask("DELETE", f"{BASE}/stage/{staging}", scope) == 403
    assert ask("POST", f"{BASE}/stage", scope, msgspec.json.encode({"files": [{"path": FILE}]})) == 403
    assert states(site, staging) == {FileState.PINNED}


def test_stage_lets_go(site: Any, ask: Ask, staging: str) -> None:
    stage = f"storage.stage:{FILE}"
    assert ask("POST", f"{BASE}/release/{staging}", stage, PATHS) == 200
    assert states(site, staging) == {FileState.RELEASED}
    assert ask("POST", f"{BASE}/stage", stage, msgspec.json.encode({"files": [{"path": FILE}]})) == 201
    token = msgspec.json.decode(ask.body)["requestId"]  # type: ignore[attr-defined]
    assert ask("GET", f"{BASE}/stage/{token}", stage) == 200
    assert ask("POST", f"{BASE}/stage/{token}/cancel", stage, PATHS) == 200
    assert states(site, token) == {FileState.ABORTED}
    assert ask("DELETE", f"{BASE}/stage/{token}", stage) == 200
    assert ask("DELETE", f"{BASE}/stage/{staging}", stage) == 200


@pytest.mark.parametrize("word", [*STAT, "storage.poll"])
def test_poll(ask: Ask, staging: str, word: str) -> None:
    assert ask("GET", f"{BASE}/stage/{staging}", f"{word}:/vo/data") == 200
    assert ask("GET", f"{BASE}/stage/{staging}", f"{word}:/vo/data/b") == 403
    for scope, told in ((f"{word}:/vo/data", b"DISK"), (f"{word}:/vo/data/b", b"scope")):
        assert ask("POST", f"{BASE}/archiveinfo", scope, PATHS) == 200
        assert told in ask.body  # type: ignore[attr-defined]


def test_staging_is_asked_for_by_who_may_stage_and_read_by_who_may_read(site: Any, ask: Ask) -> None:
    entry = site.stores.namespace.find(parse_path(FILE))
    site.stores.staged.remove(entry.guid, "node")
    assert ask("GET", FILE, f"storage.read:{FILE}") == 403
    assert b"storage.stage" in ask.body  # type: ignore[attr-defined]
    assert ask("GET", FILE, f"storage.stage:{FILE}") == 403
    assert b"storage.read" in ask.body  # type: ignore[attr-defined]
    assert not site.stores.requests.counts().get(FileState.QUEUED)
    assert ask("GET", FILE, f"storage.stage:{FILE} storage.read:{FILE}") == 503
    assert site.stores.requests.counts()[FileState.QUEUED] == 1


def test_a_stage_request_of_what_may_not_be_staged_fails_for_each_file(site: Any) -> None:
    wish = Wish(RequestKind.BRING_ONLINE, (site.surl("a.dat"),))
    site.store("a.dat")
    view = site.broker.submit(bearer(site, "storage.read:/vo/data"), wish)
    assert isinstance(view.files[0].failure, MdmError)
    view = site.broker.submit(bearer(site, "storage.stage:/vo/data"), wish)
    assert view.files[0].failure is None
