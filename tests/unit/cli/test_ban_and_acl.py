"""``srm-dicom ban`` and ``acl``: what an administrator changes, on the record, and what doors then say."""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from srm_dicom.audit import segments
from srm_dicom.audit.event import Action, Event
from srm_dicom.audit.line import decode
from srm_dicom.cli import ban
from srm_dicom.cli.admin import main
from srm_dicom.cli.ban import ban_add
from srm_dicom.client.files import FileCatalogueClient, FileRecord
from srm_dicom.clock import SystemClock
from srm_dicom.config import load
from srm_dicom.daemon.catalogues import catalogue
from srm_dicom.daemon.common import Common, host_credential
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.bans import BanList
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.evaluate import decide
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.stores import Stores

ALICE, BOB = "/DC=test/DC=mdm/CN=Alice Example", "/DC=test/DC=mdm/CN=Bob"
FILE = SitePath("/biomed/mdm/hospital/demo-v1/p/s/r/i1.dcm.c4gh")
OTHER = SitePath("/biomed/mdm/hospital/demo-v1/p/s/r/i2.dcm.c4gh")
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    made = DemoSite(tmp_path_factory.mktemp("site"))
    made.write()
    (made.config.parent / "ban.list").write_text(f'# known to be bad\n"{BOB}"\n')
    return made


@pytest.fixture
def bans(site: DemoSite) -> Path:
    path = load(site.config).trust.ban_file
    assert path is not None
    return path


@pytest.fixture
def run(site: DemoSite) -> Iterator[Command]:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--config", str(site.config)])

    yield invoke
    structlog.reset_defaults()


def last_event(site: DemoSite, uid: int | None = None) -> Event:
    logs = segments.logs([load(site.config).audit])
    log = f"admin-{os.geteuid() if uid is None else uid}@"
    (files,) = (files for name, files in logs.items() if name.startswith(log))
    return decode(files[-1].read_bytes().splitlines()[-1])[0].event


def entering(path: Path, name: str) -> bool:
    try:
        BanList(path).check(name)
    except NotAuthenticated:
        return False
    return True


def test_a_ban_is_in_force_at_once_and_on_the_record(run: Command, site: DemoSite, bans: Path) -> None:
    before = (bans.read_text(), bans.stat().st_mode)
    assert entering(bans, ALICE)
    assert run("ban", "add", ALICE).exit_code == 0
    assert not entering(bans, ALICE)
    event = last_event(site)
    assert (event.action, event.operation) == (Action.RIGHTS_CHANGED, "ban add")
    assert (event.rule, event.dn.startswith("user:")) == (f'"{ALICE}"', True)
    assert bans.read_text() == f'{before[0]}"{ALICE}"\n'
    assert run("ban", "list").output.splitlines() == [f'"{BOB}"', f'"{ALICE}"']
    assert run("ban", "remove", ALICE).exit_code == 0
    assert (bans.read_text(), bans.stat().st_mode) == before


def test_the_same_name_in_another_spelling_is_the_same_ban(run: Command, bans: Path) -> None:
    text = bans.read_text()
    assert run("ban", "add", BOB).exit_code == 0
    assert bans.read_text() == text
    assert run("ban", "remove", "/DC=test/DC=mdm/CN=nobody").exit_code == 1


def test_groups_and_authorities(run: Command, bans: Path) -> None:
    text = bans.read_text()
    for words in (("/biomed/x/*",), ("/DC=broken/CN=CA", "--authority"), ("token:https://i.org/#7",)):
        assert run("ban", "add", *words).exit_code == 0, words
        assert run("ban", "remove", *words).exit_code == 0
    assert bans.read_text() == text


def test_a_command_that_does_not_end_keeps_no_other_waiting_for_ever(
    run: Command, bans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ban, "ADMIN_WAIT_S", 0.1)
    before = bans.read_text()
    with bans.with_name(f".{bans.name}.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = run("ban", "add", ALICE)
    assert refused.exit_code == 30
    assert "another command changes" in refused.output
    assert bans.read_text() == before


def test_of_several_at_once_none_is_lost(site: DemoSite, bans: Path) -> None:
    text = bans.read_text()
    names = [f"/CN=intruder {number}" for number in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        add = ban_add.callback
        assert add is not None
        list(pool.map(lambda name: add(config=site.config, name=name, authority=False), names))
    assert sorted(bans.read_text().removeprefix(text).splitlines()) == [f'"{name}"' for name in names]
    bans.write_text(text)


def test_a_list_that_a_careful_root_begins_is_read_by_the_doors(run: Command, bans: Path) -> None:
    text = bans.read_text()
    bans.unlink()
    careful = os.umask(0o077)
    try:
        assert run("ban", "add", ALICE).exit_code == 0
        assert bans.stat().st_mode & 0o777 == 0o644, "one that cannot be read bans everybody"
    finally:
        os.umask(careful)
        bans.write_text(text)


@pytest.mark.parametrize("name", ["Alice", "", "/CN=a\nb", '/CN=a"b'])
def test_what_names_nobody_is_refused_and_the_list_left_alone(run: Command, bans: Path, name: str) -> None:
    text = bans.read_text()
    assert run("ban", "add", name).exit_code == 15
    assert run("ban", "add", "/biomed/x", "--authority").exit_code == 15
    assert bans.read_text() == text


# --- acl -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names(site: DemoSite) -> Iterator[FileCatalogueClient]:
    """The site's file catalogue, which knows one of two files of the storage."""
    stores = Stores.open(f"sqlite:///{site.directory}/outer/srm-dicom.db")
    acl, now, release = Acl.parse(f'user:"{BOB}":rx'), datetime.now(UTC), Release("demo", "basic", "v1")
    stores.namespace.make_directory(parent(FILE), acl, now, release)
    for number, path in enumerate((FILE, OTHER)):
        guid = Guid(f"00000000-0000-4000-8000-00000000000{number}")
        stores.namespace.add_file(Entry(path, Kind.FILE, "", acl, now, guid, release))
    stores.database.close()
    services = catalogue(site.directory / "etc" / "catalog.d" / "files.toml")
    for service in services:
        service.start()
    config = load(site.config)
    client = FileCatalogueClient(config.catalogues.files, host_credential(config.trust))
    record = FileRecord(f"/grid{FILE}", Guid("00000000-0000-4000-8000-000000000000"), ("srm://x/y",))
    client.register([record])
    yield client
    client.close()
    for service in services:
        service.stop()


def may_read(site: DemoSite, path: SitePath, dn: str) -> bool:
    entry = Common(site.config, "test").stores.namespace.find(path)
    assert entry is not None
    caller = Principal(dn, (), False, SystemClock().now())
    return decide(entry.acl, entry.owner, caller, "r").allowed


def test_an_entry_is_set_and_dropped_at_the_storage_and_in_the_catalogue(
    run: Command, site: DemoSite, names: FileCatalogueClient
) -> None:
    assert run("acl", str(FILE)).output.splitlines()[-1] == f'user:"{BOB}":rx'
    assert run("acl", f"srm://localhost{FILE}", "-m", f'user:"{ALICE}":r').exit_code == 0
    assert (may_read(site, FILE, ALICE), may_read(site, OTHER, ALICE)) == (True, False)
    assert f'user:"{ALICE}":r' in str(names.acl(f"/grid{FILE}"))
    event = last_event(site)
    assert (event.action, event.objects, event.rule) == (
        Action.RIGHTS_CHANGED, (FILE,), f'user:"{ALICE}":r',
    )  # fmt: skip
    assert run("acl", str(FILE), "-d", f'user:"{ALICE}":').exit_code == 0
    assert not may_read(site, FILE, ALICE)
    assert ALICE not in str(names.acl(f"/grid{FILE}"))


def test_what_somebody_else_changes_meanwhile_stays_changed(
    run: Command, site: DemoSite, names: FileCatalogueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands wait for one another, at the audit log: the second has read what the first changes."""
    del names
    namespace = Common(site.config, "test").stores.namespace
    before = namespace.find(FILE)
    assert before is not None

    def meanwhile(*_: object, **__: object) -> None:
        namespace.set_acl(FILE, Acl())

    with monkeypatch.context() as patched:
        patched.setattr("srm_dicom.cli.acl.note", meanwhile)
        assert run("acl", str(FILE), "-m", f'user:"{ALICE}":r').exit_code == 0
    assert may_read(site, FILE, ALICE)
    assert not may_read(site, FILE, BOB), "who was taken out is out"
    namespace.set_acl(FILE, before.acl)


def test_everything_below(run: Command, site: DemoSite, names: FileCatalogueClient) -> None:
    del names
    assert run("acl", "/biomed/mdm/hospital/demo-v1/p", "-R", "-m", f'user:"{ALICE}":rx').exit_code == 0
    assert may_read(site, FILE, ALICE)
    assert may_read(site, OTHER, ALICE)
    assert run("acl", "/biomed/mdm/hospital/demo-v1/p", "-R", "-d", f'user:"{ALICE}":').exit_code == 0
    assert not may_read(site, OTHER, ALICE)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("/biomed/nothing",), 12),
        ((f"srm://se.elsewhere.org{FILE}",), 12),
        ((str(FILE), "-m", 'user:"/CN=a":g'), 15),
        ((str(FILE), "-m", 'user:"/CN=a":'), 15),
        ((str(FILE), "-d", 'user:"/CN=a":r'), 15),
        ((str(FILE), "-m", "nonsense"), 15),
    ],
)
def test_what_cannot_be_set(
    run: Command, names: FileCatalogueClient, words: tuple[str, ...], code: int
) -> None:
    del names
    assert run("acl", *words).exit_code == code


def test_each_user_of_the_machine_has_a_log_for_commands(
    run: Command, site: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uid in (os.geteuid(), 64501):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert run("acl", "/biomed").exit_code == 0
        assert last_event(site, uid).operation == "acl"
    assert run("audit", "verify").exit_code == 0


def test_an_event_tells_who_gave_a_command_and_not_who_the_environment_says(
    run: Command, site: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert run("acl", "/biomed").exit_code == 0
    assert last_event(site).dn == f"user:{pwd.getpwuid(os.geteuid()).pw_name}"
