"""What is handed in to a sealed area: kept by its plugin, told to the journal, and nowhere under its name."""

import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.areas import Area, Areas
from srm_dicom.broker.storing import Storing, StoringSettings
from srm_dicom.db.database import Database
from srm_dicom.errors import AlreadyExists, IntegrityError, InternalError, MdmError, SourceUnavailable
from srm_dicom.ids import Guid, SitePath, Token, parse_path
from srm_dicom.plugin.api import Arrived, Discovered, PluginContext, Upload
from srm_dicom.plugin.host import PluginHost
from srm_dicom.registry.journal import Journal
from srm_dicom.registry.registrar import arrivals
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Received
from srm_dicom.store.uploads import Upload as UploadRow
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url
from srm_plugin_disk.plugin import DiskPlugin

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RELEASES = (Release("heart", "basic", "v1"), Release("lung", "basic", "v2"))
TYPED = "CANARY_ALICE.dcm"
CLEAR = b"CANARY the bytes of an image"
TOKEN = Token("00000000-0000-4000-8000-00000000000a")
NAME = "0123456789abcdef0123456789abcdef"


def found(release: Release) -> Discovered:
    """Return what an upload turns out to be in a release."""
    guid = Guid(f"00000000-0000-4000-8000-{RELEASES.index(release):012d}")
    return Discovered(guid, ("patient", "study", "series", "image.dcm.c4gh"), "series", b"ref")


class Archive(DiskPlugin):
    """Takes what is handed in as a test tells it to."""

    before: Callable[[], None] = staticmethod(lambda: None)
    after: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self.kept: list[bytes] = []
        self.paths: list[tuple[str, ...]] = []

    def ingest(self, upload: Upload, arrived: Arrived) -> None:
        self.before()
        content = b"".join(upload.chunks)
        if content not in self.kept:
            self.kept.append(content)
        self.paths.append(upload.path)
        for release, tell in arrived.items():
            tell(found(release))
        self.after()


class Site:
    """The inner zone over rows, with one upload whose owner is waiting for srmPutDone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock(NOW)
        self.stores = Stores.open(database_url(directory, "names"))
        self.scratch = ScratchArea(directory / "scratch")
        self.journal = Journal(Database(database_url(directory, "journal")), b"j" * 32)
        self.audit = AuditLog(directory / "audit", "stager", "host", self.clock)
        (directory / "disk").mkdir()
        context = PluginContext("dicom", {"root": str(directory / "disk")}, directory, self.clock)
        self.plugin = Archive(context)
        self.arrived = {"dicom": arrivals(self.journal, "dicom", RELEASES, self.clock)}
        self.path = parse_path(f"/vo/ingest/{TYPED}")
        self._add(Received(len(CLEAR), f"{zlib.adler32(CLEAR):08x}"))

    def _add(self, received: Received) -> None:
        guid = Guid("00000000-0000-4000-8000-0000000000ff")
        until = NOW + timedelta(days=1)
        self.stores.uploads.add(
            UploadRow(self.path, NAME, TOKEN, "/CN=Alice", "node", guid, overwrite=False, received=received)
        )
        request = Request(TOKEN, RequestKind.PUT, "/CN=Alice", "https", NOW, until, 0)
        file = RequestFile(f"srm://se{self.path}", self.path, guid, FileState.STORING)
        self.stores.requests.add(request, [file])
        self.scratch.incoming(NAME).write_bytes(CLEAR)

    def work(self) -> RequestFile:
        """Let the inner zone come once; returns what became of the file."""
        storing = Storing(
            StoringSettings("worker", "node"),
            {"dicom": PluginHost(self.plugin, name="dicom")},
            self.stores,
            self.scratch,
            Areas([Area(SitePath("/vo/ingest"), "dicom", RELEASES[0], sealed=True)]),
            Ed25519PrivateKey.generate(),
            self.audit,
            self.clock,
            arrived=self.arrived,
        )
        for files in storing.claim(10):
            storing.store(files)
        (file,) = self.stores.requests.files(TOKEN)
        return file

    def registered(self) -> set[Guid]:
        """Return the files that the journal knows of."""
        guids: set[Guid] = set()
        while group := self.journal.claim(self.clock.now(), self.clock.now(), 60.0):
            guids |= {each.found.guid for each in self.journal.arrivals(group, 10)}
        return guids

    def sum_is(self, adler32: str) -> None:
        """Have the door say that it took in other bytes."""
        self.stores.uploads.received(NAME, Received(len(CLEAR), adler32))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_it_is_kept_and_arrives_for_every_release(site: Site) -> None:
    assert site.work().state is FileState.STORED
    assert site.plugin.kept == [CLEAR]
    assert site.registered() == {found(release).guid for release in RELEASES}


def test_nothing_has_the_name_that_was_typed(site: Site) -> None:
    site.work()
    assert site.plugin.paths == [()]
    assert site.stores.namespace.find(site.path) is None
    assert site.stores.uploads.find_path(site.path) is None
    assert not list(site.scratch.names())
    assert site.stores.staged.find([found(release).guid for release in RELEASES]) == {}


def test_the_audit_event_has_the_files_and_not_the_name(site: Site) -> None:
    site.work()
    logged = b"".join(path.read_bytes() for path in (site.directory / "audit").rglob("*") if path.is_file())
    assert TYPED.encode() not in logged
    assert all(found(release).guid.encode() in logged for release in RELEASES)


def test_other_bytes_than_the_door_took_in_never_reach_the_plugin_whole(site: Site) -> None:
    site.sum_is("00000001")
    file = site.work()
    assert isinstance(file.failure, IntegrityError)
    assert not site.plugin.kept
    assert not site.registered()


@pytest.mark.parametrize("error", [AlreadyExists("another object"), InternalError("a defect")])
def test_what_is_refused_ends_the_put_and_says_why(site: Site, error: MdmError) -> None:
    def refuse() -> None:
        raise error

    site.plugin.before = refuse
    file = site.work()
    assert file.state is FileState.FAILED
    assert file.failure is not None
    assert file.failure.message == error.message
    assert site.stores.uploads.find_path(site.path) is None
    assert not site.registered()


def test_an_archive_that_is_down_is_asked_again(site: Site) -> None:
    def down() -> None:
        raise SourceUnavailable("main does not answer")

    site.plugin.before = down
    file = site.work()
    assert file.state is FileState.STORING
    assert file.explanation == "main does not answer"
    site.plugin.before = lambda: None
    site.clock.advance(60)
    assert site.work().state is FileState.STORED


def test_what_broke_off_after_the_plugin_kept_it_is_walked_again(site: Site) -> None:
    def cut() -> None:
        raise KeyboardInterrupt

    site.plugin.after = cut
    with pytest.raises(KeyboardInterrupt):
        site.work()
    site.plugin.after = lambda: None
    site.clock.advance(7 * 3600)
    assert site.work().state is FileState.STORED
    assert site.plugin.kept == [CLEAR]
    assert site.registered() == {found(release).guid for release in RELEASES}


def test_an_area_whose_plugin_feeds_no_project_takes_nothing(site: Site) -> None:
    site.arrived = {}
    file = site.work()
    assert file.state is FileState.FAILED
    assert not site.plugin.kept


def test_a_plugin_that_does_not_say_what_it_took_has_failed(site: Site) -> None:
    site.plugin.ingest = lambda upload, arrived: None  # type: ignore[method-assign]
    assert isinstance(site.work().failure, InternalError)


def test_a_put_that_was_aborted_is_not_stored(site: Site) -> None:
    site.stores.uploads.end(TOKEN, [site.path])
    site.work()
    assert not site.plugin.kept
