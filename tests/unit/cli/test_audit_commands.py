"""What an administrator asks of the logs and of the rights, on a site that has released one file."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from lxml import etree

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.line import decode
from srm_dicom.audit.log import AuditLog
from srm_dicom.cli.admin import main
from srm_dicom.clock import SystemClock
from srm_dicom.demo.site import DemoSite
from srm_dicom.ids import Guid, SitePath, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry, Kind, Namespace
from srm_dicom.store.stores import Stores

FILE = SitePath("/biomed/mdm/hospital/demo-v1/patient1/study1/series1/i1.dcm.c4gh")
GUID = Guid("5c2a1a9e-6f3e-4f0e-9b5c-0d1f6a1f8a11")
KEY = "031dc078d1fc66caa4ee8d3ea18cf512f3e807bc"
RULE = 'user:"/DC=test/DC=mdm/CN=researcher":r'
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    made = DemoSite(tmp_path_factory.mktemp("site"))
    made.write()
    stores = Stores.open(f"sqlite:///{made.directory}/outer/srm-dicom.db")
    fill(stores.namespace, made)
    stores.database.close()
    return made


def fill(names: Namespace, site: DemoSite) -> None:
    acl = Acl.parse(f'user:"{site.pki.dn(site.users["researcher"])}":rx')
    now, release = datetime.now(UTC), Release("demo", "basic", "v1")
    names.make_directory(parent(FILE), acl, now, release)
    names.add_file(Entry(FILE, Kind.FILE, "", acl, now, GUID, release, key_id=KEY, public_key=b"k" * 32))


@pytest.fixture
def logs(site: DemoSite) -> Iterator[tuple[Path, Path]]:
    """The site's logs and a key server's, fresh for every test."""
    ours, theirs = site.directory / "audit", site.directory / "keys-1" / "audit"
    released = Event(
        action=Action.BYTES_RELEASED, outcome=Outcome.ALLOWED, dn="/CN=r", objects=(FILE, GUID), rule=RULE
    )
    key = Event(action=Action.KEY_RELEASED, outcome=Outcome.ALLOWED, dn="/CN=r", objects=(KEY,), rule=RULE)
    staged = Event(action=Action.STAGING, outcome=Outcome.ALLOWED, objects=(GUID,))
    for directory, role, events in ((ours, "transfer", (staged, released)), (theirs, "keys", (key,))):
        log = AuditLog(directory, role, "here", SystemClock())
        for event in events:
            log.record(event)
        log.close()
    yield ours, theirs
    for path in (*ours.glob("*"), *theirs.glob("*")):
        path.unlink()


@pytest.fixture
def run(site: DemoSite) -> Iterator[Command]:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--config", str(site.config)])

    yield invoke
    structlog.reset_defaults()


@pytest.mark.parametrize("name", ["patient1", "series1", GUID, KEY, FILE, parent(FILE)])
def test_who_got_it_follows_a_name_to_the_key_servers(
    run: Command, logs: tuple[Path, Path], name: str
) -> None:
    result = run("audit", "who", name, "--json", "--directory", str(logs[1]))
    told = [json.loads(line) for line in result.output.splitlines()]
    assert [(one["action"], one["who"], one["rule"]) for one in told] == [
        ("bytes_released", "/CN=r", RULE),
        ("key_released", "/CN=r", RULE),
    ]


def test_staging_is_told_when_everything_is_asked_for(run: Command, logs: tuple[Path, Path]) -> None:
    assert "staging" not in run("audit", "who", GUID).output
    assert "staging allowed  the site itself" in run("audit", "who", GUID, "--all").output


def test_who_asks_is_written_down(run: Command, logs: tuple[Path, Path]) -> None:
    run("audit", "who", "patient1")
    run("audit", "verify")
    [admin] = logs[0].glob("admin-*@*.jsonl")
    events = [decode(raw)[0].event for raw in admin.read_bytes().splitlines()]
    assert [(event.operation, event.objects) for event in events] == [
        ("audit who", ("patient1",)),
        ("audit verify", ()),
    ]
    assert all(event.dn.startswith("user:") for event in events)


@pytest.mark.parametrize("name", ["Doe John", "1.2.840.113619.2.55.3.604688119.971"])
def test_a_name_that_may_be_a_patients_is_neither_sought_nor_written(
    run: Command, logs: tuple[Path, Path], name: str
) -> None:
    result = run("audit", "who", name)
    assert result.exit_code == 15
    assert not [path for path in logs[0].glob("*") if name in path.read_text()]


def test_a_changed_log_is_found_by_every_command(run: Command, logs: tuple[Path, Path]) -> None:
    path = logs[0] / "transfer@here.jsonl"
    path.write_bytes(path.read_bytes().replace(b"/CN=r", b"/CN=x"))
    assert run("audit", "verify").exit_code == 1
    who = run("audit", "who", GUID)
    assert who.exit_code == 1
    assert "is not as it was written" in who.output


@pytest.mark.parametrize("key", ["zz", "00"])
def test_a_key_that_is_none_is_refused(
    run: Command, logs: tuple[Path, Path], tmp_path: Path, key: str
) -> None:
    (tmp_path / "heads.json").write_bytes(b"\xff")
    refused = run("audit", "verify", "--heads", str(tmp_path / "heads.json"), "--key", key)
    assert (refused.exit_code, refused.output) == (15, "error: a public key is 64 hexadecimal digits\n")
    assert run("audit", "verify", "--heads", str(tmp_path / "heads.json")).exit_code == 33


def test_signed_heads_show_what_was_cut_off(run: Command, logs: tuple[Path, Path], tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    assert run("audit", "head", "--sign", "-o", str(heads)).exit_code == 0
    assert run("audit", "verify", "--heads", str(heads)).exit_code == 0
    path = logs[0] / "transfer@here.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines(keepends=True)[0])
    assert run("audit", "verify").exit_code == 0
    assert "known from elsewhere" in run("audit", "verify", "--heads", str(heads)).output
    path.unlink()
    assert "the log is gone" in run("audit", "verify", "--heads", str(heads)).output
    heads.write_text(heads.read_text().replace('"seq":2', '"seq":1'))
    assert run("audit", "verify", "--heads", str(heads)).exit_code == 33


def test_signed_heads_reach_a_second_party_who_can_hold_them_against_us(
    run: Command, logs: tuple[Path, Path], site: DemoSite, tmp_path: Path
) -> None:
    host = site.pki.host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.certificate, host.key)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def take() -> None:
            with context.wrap_socket(listener.accept()[0], server_side=True) as tls:
                while piece := tls.recv(65536):
                    received.append(piece)
                tls.unwrap()

        thread = threading.Thread(target=take)
        thread.start()
        sent = run("audit", "head", "--sign", "--to", f"localhost:{listener.getsockname()[1]}")
        thread.join(20)
    assert sent.exit_code == 0, sent.output
    message = etree.fromstring(b"".join(received).partition(b"\xef\xbb\xbf")[2])
    (detail,) = message.findall(".//ParticipantObjectDetail[@type='heads']")
    heads = tmp_path / "heads"
    heads.write_bytes(base64.b64decode(detail.get("value")))
    assert run("audit", "verify", "--heads", str(heads)).exit_code == 0
    path = logs[0] / "transfer@here.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert run("audit", "verify", "--heads", str(heads)).exit_code == 1


def test_a_receiver_that_is_down_is_told(run: Command, logs: tuple[Path, Path]) -> None:
    assert run("audit", "head", "--sign", "--to", "localhost:1").exit_code == 1
    assert run("audit", "forward", "--to", "localhost:1", "--once").exit_code == 1
    assert run("audit", "forward", "--to", ":", "--once").exit_code == 15


# --- explain-access ------------------------------------------------------------------------------


def explained(result: Result) -> dict[str, tuple[str, str]]:
    assert result.exit_code == 0, result.output
    words = (line.split(maxsplit=2) for line in result.output.splitlines())
    return {right: (verdict, rule) for right, verdict, rule in words}


def test_every_right_is_explained(run: Command, site: DemoSite, logs: tuple[Path, Path]) -> None:
    dn = site.pki.dn(site.users["researcher"])
    answers = explained(run("explain-access", dn, FILE))
    assert {right: verdict for right, (verdict, _) in answers.items()} == {
        "door": "allowed",
        "file": "allowed",
        "key": "allowed",
        "search": "allowed",
        "nominative": "denied",
    }
    assert answers["key"][1] == f'user:"{dn}":g'


def test_a_limited_proxy_is_explained(run: Command, site: DemoSite, logs: tuple[Path, Path]) -> None:
    dn = site.pki.dn(site.users["physician"])
    answers = explained(run("explain-access", dn, FILE, "--limited"))
    assert "allows no jobs" in answers["key"][1]
    assert answers["nominative"] == ("denied", "a limited proxy may only search")


def test_the_end_of_a_project_is_explained(run: Command, site: DemoSite, logs: tuple[Path, Path]) -> None:
    dn = site.pki.dn(site.users["researcher"])
    project = site.directory / "etc" / "projects.d" / "demo.toml"
    text = project.read_text()
    lines = [
        f"valid_until = {(datetime.now(UTC) - timedelta(days=1)).isoformat(timespec='seconds')}"
        if line.startswith("valid_until")
        else line
        for line in text.splitlines()
    ]
    project.write_text("\n".join(lines) + "\n")
    try:
        answers = explained(run("explain-access", dn, FILE))
    finally:
        project.write_text(text)
    rights = {right: answers[right] for right in ("file", "key", "search", "nominative")}
    assert set(rights.values()) == {("denied", "the project has ended")}
