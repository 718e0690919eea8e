"""A site that users write to, in one process: both zones over one database, driven step by step."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Area, Areas
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.storing import Storing, StoringSettings
from srm_dicom.broker.views import PutWish, RequestKind
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import parse_path
from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.node import ScratchNode
from srm_dicom.scratch.sealeduploads import SealedUploads
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.store.stores import Stores
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url
from srm_dicom.testing.handingin import Archive, OneProcess
from srm_dicom.transfer.handedin import HandedIn
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.written import WrittenFilesOfNode
from srm_plugin_disk.plugin import DiskPlugin

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RELEASE = Release("heart", "none", "v1")
TOP = "/vo/data"


def who(name: str = "Alice") -> Principal:
    return Principal(f"/CN={name}", (), limited=False, expires=NOW + timedelta(days=1))


def surl(name: str) -> str:
    return f"srm://se.example.org{TOP}/{name}"


class Site:
    """The outer zone's rows, scratch and doors, and the inner zone beside them, driven step by step."""

    who = staticmethod(who)
    surl = staticmethod(surl)

    def __init__(
        self, directory: Path, now: datetime = NOW, signing_key: Ed25519PrivateKey | None = None
    ) -> None:
        self._directory = directory
        self.clock = FakeClock(now)
        self.root = directory / "disk"
        self.root.mkdir(exist_ok=True)
        members = (
            Member(Tag.USER, "/CN=Alice", frozenset({"file", "write", "ingest"})),
            Member(Tag.USER, "/CN=Bob", frozenset({"file", "write"})),
            Member(Tag.USER, "/CN=Reader", frozenset({"file"})),
            Member(Tag.USER, "/CN=Physician", frozenset({"ingest"})),
        )
        until = NOW + timedelta(days=100)
        projects = {"heart": Project("heart", "permit", "test", "none", "consent", until, members)}
        self.stores = Stores.open(database_url(directory, "names"))
        self.area = ScratchArea(directory / "scratch")
        self.audit = AuditLog(directory / "audit", "front", "host", self.clock)
        areas = Areas(
            [
                Area(parse_path(TOP), "disk", RELEASE, max_file_bytes=1000_000),
                Area(parse_path("/vo/sealed"), "archive", RELEASE, max_file_bytes=1000_000, sealed=True),
            ]
        )
        access = FileAccess(self.stores.namespace, projects, self.audit, self.clock, areas=areas)
        areas.prepare(self.stores.namespace, projects, NOW)
        doors = {"gsiftp": "gsiftp://node:2811", "https": "https://node:8443"}
        settings = BrokerSettings("se.example.org:8446", {"node": doors}, put_done_s=5.0)
        self.settings, self.areas = settings, areas
        self.access = access
        self.broker = Broker(settings, self.stores, access, self.clock, areas)
        self.sealed = SealedUploads(self.area)
        self.written = WrittenFilesOfNode(self.area, self.broker.puts, self.broker.names, self.sealed)
        self.handed_in = HandedIn(self.sealed, self.stores.uploads, self.broker.puts, "node")
        self.served = StagedFilesOfNode(
            "node", self.area, self.stores, access, self.audit, self.clock, areas=areas
        )
        self.signing_key = signing_key or Ed25519PrivateKey.generate()
        context = PluginContext("disk", {"root": str(self.root)}, directory, self.clock, seals=False)
        self.plugin = DiskPlugin(context)
        self.archive = Archive(replace(context, name="archive", seals=True))
        hosts = {
            "disk": PluginHost(self.plugin, name="disk"),
            "archive": PluginHost(self.archive, name="archive"),
        }
        self._hosts, self._areas = hosts, areas
        self.inner = self.storing(OneProcess(self.area, self.sealed))
        (directory / "spool").mkdir(exist_ok=True)
        self.stager = Stager(
            StagerSettings("stager", visit_s=5.0),
            hosts,
            self.stores,
            Publisher("node", self.area, self.stores, self.signing_key, self.clock),
            Sealing(b"s" * 32, SlotSettings(directory / "spool", spool_above_bytes=1000)),
            self.audit,
            self.clock,
        )
        self.janitor = Janitor("node", self.area, self.stores, SpaceSettings(grace_s=60), self.clock)
        # The inner zone comes whenever somebody waits: the fake clock's sleep is where it gets its turn.
        self.clock.sleep = self._turn  # type: ignore[method-assign]
        self.inner_lives = True

    def storing(self, scratch: ScratchNode) -> Storing:
        """Return the inner zone's side of writing, over a node's scratch."""
        return Storing(
            StoringSettings("worker", "node"),
            self._hosts,
            self.stores,
            scratch,
            self._areas,
            self.signing_key,
            self.audit,
            self.clock,
            arrived={"archive": {RELEASE: lambda _: None}},
        )

    def restarted(self) -> Site:
        """Return the same site as its next processes find it: what was in memory is gone."""
        self.audit.close()
        return Site(self._directory, self.clock.now(), self.signing_key)

    def _turn(self, seconds: float) -> None:
        self.clock.advance(seconds)
        if self.inner_lives:
            self.work()

    def work(self) -> None:
        for files in self.inner.claim(1):
            self.inner.store(files)
        self.inner.remove_due()

    def stage(self) -> None:
        while visits := self.stager.claim():
            for visit in visits:
                self.stager.visit(visit)

    def evict(self) -> None:
        """Drop from scratch what nobody holds."""
        full = SpaceSettings(high_bytes=1, low_bytes=0)
        Janitor("node", self.area, self.stores, full, self.clock).tidy()

    def put(self, *names: str, by: str = "Alice", **more: Any) -> Any:
        wish = PutWish(RequestKind.PUT, tuple(surl(name) for name in names), ("gsiftp",), **more)
        return self.broker.puts.submit(who(by), wish)

    def upload(self, view: Any, content: bytes, *, by: str = "Alice", index: int = 0) -> None:
        path = parse_path(view.files[index].turl.removeprefix("gsiftp://node:2811"))
        with self.written.create(who(by), path) as file:
            file.write(0, memoryview(content))
            file.finish()

    def done(self, view: Any, *names: str, by: str = "Alice") -> Any:
        return self.broker.puts.done(who(by), view.token, [surl(name) for name in names] or None)

    def store(self, name: str, content: bytes = b"content", **more: Any) -> None:
        view = self.put(name, **more)
        self.upload(view, content)
        assert [file.failure for file in self.done(view)] == [None]

    def read(self, name: str, by: str = "Reader") -> bytes:
        with self.served.open(who(by), parse_path(f"{TOP}/{name}")) as file:
            extents = file.extents(0, file.size_bytes)
            return b"".join(os.pread(one.fd, one.end - one.start, one.start) for one in extents)

    def audited(self) -> list[Any]:
        """Return the events that the audit has."""
        lines = self.audit.path.read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    def on_disk(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def make_site() -> type[Site]:
    """For who needs a site of its own for each of many runs."""
    return Site
