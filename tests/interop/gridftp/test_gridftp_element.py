"""Real clients write to a whole storage element over gsiftp: rows, scratch, the inner zone, a disk behind."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Area, Areas
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.storing import Storing, StoringSettings
from srm_dicom.broker.views import PutWish, RequestKind
from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import parse_path
from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.sealeduploads import SealedUploads
from srm_dicom.store.stores import Stores
from srm_dicom.testing.handingin import Archive, OneProcess
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.stripelink import StripeNodes
from srm_dicom.transfer.stripenode import NodeServices, StripeNode
from srm_dicom.transfer.written import WrittenFilesOfNode
from srm_dicom.wire.gridftp.addresses import Address
from srm_plugin_disk.plugin import DiskPlugin

GUC = pytest.mark.interop("globus-url-copy")
GFAL = pytest.mark.interop("gfal-copy")
ARC = pytest.mark.interop("arccp")
RELEASE = Release("heart", "none", "v1")
TOP = "/vo/data"


class Element:
    """Alice may write below `TOP`, Bob may read there, Carol may do nothing."""

    def __init__(self, directory: Path, site: Any) -> None:
        self.site = site
        self.clock = SystemClock()
        self.alice = site.alice
        self.bob, self.carol = (site.pki.proxy(site.pki.user(name)) for name in ("Bob", "Carol"))
        self.disk = directory / "disk"
        self.disk.mkdir()
        self.stores = Stores.open(f"sqlite:///{directory}/names.db")
        self._stop = threading.Event()
        self._compose(directory)

    def _compose(self, directory: Path) -> None:
        members = (
            Member(Tag.USER, self.site.pki.dn(self.alice), frozenset({"file", "write", "ingest"})),
            Member(Tag.USER, self.site.pki.dn(self.bob), frozenset({"file"})),
        )
        until = datetime.now(UTC) + timedelta(days=9)
        projects = {"heart": Project("heart", "permit", "test", "none", "consent", until, members)}
        area = ScratchArea(directory / "scratch")
        audit = AuditLog(directory / "audit", "all", "host", self.clock)
        areas = Areas(
            [
                Area(parse_path(TOP), "disk", RELEASE),
                Area(parse_path("/vo/sealed"), "archive", RELEASE, sealed=True),
            ]
        )
        access = FileAccess(self.stores.namespace, projects, audit, self.clock, areas=areas)
        areas.prepare(self.stores.namespace, projects, self.clock.now())
        settings = BrokerSettings(
            "localhost",
            {"node": {"gsiftp": "gsiftp://localhost", "https": "https://localhost"}},
            put_done_s=30.0,
        )
        self.broker = Broker(settings, self.stores, access, self.clock, areas)
        files = StagedFilesOfNode("node", area, self.stores, access, audit, self.clock)
        sealed = SealedUploads(area)
        written = WrittenFilesOfNode(area, self.broker.puts, self.broker.names, sealed)
        ftp = GridFtpSettings(port=0, data_ports=(0, 0), data_connect_s=10.0)
        host = self.site.pki.host()
        door_dn = "/DC=test/DC=mdm/CN=localhost"
        services = NodeServices(
            files, written, self.site.gate, self.clock, ftp.data, ftp.policy,
            frozenset({door_dn}), DoorLog(audit, "stripes", self.clock),
        )  # fmt: skip
        self.node = StripeNode(services, "127.0.0.2", 0)
        self.node.start()
        shown = Credential(host.certificate, host.key, self.site.pki.trust_dir)
        nodes = StripeNodes([Address("127.0.0.2", self.node.port)], shown)
        self.door = GridFtpDoor(files, self.site.gate, ftp, self.clock, audit, written, nodes)
        context = PluginContext("disk", {"root": str(self.disk)}, directory, self.clock, seals=False)
        self.archive = Archive(replace(context, name="archive", seals=True))
        hosts = {
            "disk": PluginHost(DiskPlugin(context), name="disk"),
            "archive": PluginHost(self.archive, name="archive"),
        }
        inner = Storing(
            StoringSettings("worker", "node"),
            hosts,
            self.stores,
            OneProcess(area, sealed),
            areas,
            Ed25519PrivateKey.generate(),
            audit,
            self.clock,
            arrived={"archive": {RELEASE: lambda found: None}},
        )
        self._inner = threading.Thread(target=inner.run, args=(self._stop,), daemon=True)

    def start(self) -> None:
        self.door.start()
        self._inner.start()

    def stop(self) -> None:
        self._stop.set()
        self.door.stop()
        self.node.stop()
        self._inner.join(30)

    @property
    def url(self) -> str:
        return f"gsiftp://localhost:{self.door.port}"

    def read(self, path: str, target: Path, credential: Any = None) -> bytes:
        self.site.succeed(
            "globus-url-copy", f"{self.url}{TOP}/{path}", f"file://{target}", credential=credential
        )
        return target.read_bytes()

    def put(self, name: str) -> tuple[str, str]:
        """Prepare a put of Alice's; return its token and TURL."""
        principal = self.site.principal(self.alice)
        wish = PutWish(RequestKind.PUT, (f"srm://localhost{TOP}/{name}",), ("gsiftp",))
        view = self.broker.puts.submit(principal, wish)
        turl = view.files[0].turl
        assert turl is not None
        return view.token, turl.replace("gsiftp://localhost", self.url)


@pytest.fixture(scope="module")
def element(site, tmp_path_factory):
    element = Element(tmp_path_factory.mktemp("element"), site)
    element.start()
    yield element
    element.stop()


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine"
    path.write_bytes(os.urandom(3_000_001))
    return path


@GUC
@pytest.mark.parametrize("options", ["", "-p 4", "-dcpriv", "-stripe -sbs 1000000"])
def test_a_file_is_put_at_a_plain_path_and_read_back(element, site, mine, tmp_path, options):
    name = f"plain{options.replace(' ', '')}"
    site.succeed("globus-url-copy", *options.split(), f"file://{mine}", f"{element.url}{TOP}/{name}")
    assert element.read(name, tmp_path / "back", element.bob) == mine.read_bytes()


@GUC
def test_a_file_is_put_at_a_turl_and_has_its_name_after_put_done(element, site, mine, tmp_path):
    token, turl = element.put("by-turl")
    stranger = site.run("globus-url-copy", f"file://{mine}", turl, credential=element.bob)
    assert "No such file" in stranger.stdout + stranger.stderr
    site.succeed("globus-url-copy", f"file://{mine}", turl)
    assert element.stores.namespace.find(parse_path(f"{TOP}/by-turl")) is None
    (view,) = element.broker.puts.done(site.principal(element.alice), token, None)
    assert view.failure is None
    assert element.read("by-turl", tmp_path / "back") == mine.read_bytes()
    late = site.run("globus-url-copy", f"file://{mine}", turl)
    assert late.returncode != 0


@GUC
@pytest.mark.parametrize("who", ["bob", "carol"])
def test_who_may_not_write_hears_so_and_changes_nothing(element, site, mine, who):
    credential = getattr(element, who)
    done = site.run("globus-url-copy", f"file://{mine}", f"{element.url}{TOP}/no", credential=credential)
    assert done.returncode != 0
    assert ("Permission denied" if who == "bob" else "No such file") in done.stdout + done.stderr
    assert element.stores.namespace.find(parse_path(f"{TOP}/no")) is None


@GUC
def test_nobody_writes_outside_of_an_area(element, site, mine):
    for path in ("/vo/file", "/file", f"{TOP}/../file"):
        assert site.run("globus-url-copy", f"file://{mine}", element.url + path).returncode != 0


@GUC
def test_into_a_sealed_area_only_over_encrypted_connections(element, site, mine):
    target = f"{element.url}/vo/sealed/file"
    for options in ([], ["-p", "2"], ["-nodcau"]):
        clear = site.run("globus-url-copy", *options, f"file://{mine}", target)
        assert clear.returncode != 0
        assert "534" in clear.stderr
        assert "PROT P" in clear.stderr
    assert element.stores.uploads.find_path(parse_path("/vo/sealed/file")) is None
    site.succeed("globus-url-copy", "-dcpriv", f"file://{mine}", target)
    assert element.archive.contents == [mine.read_bytes()]
    striped = site.run("globus-url-copy", "-dcpriv", "-stripe", "-p", "2", f"file://{mine}", f"{target}2")
    assert striped.returncode != 0
    assert "-stripe" in striped.stderr
    parallel = f"{target}3"
    site.succeed("globus-url-copy", "-dcpriv", "-p", "4", "-bs", "100000", f"file://{mine}", parallel)
    assert element.archive.contents == [mine.read_bytes()] * 2


@GFAL
def test_gfal_copies_makes_renames_sums_and_removes(element, site, mine):
    url = f"{element.url}{TOP}/gfal"
    site.succeed("gfal-mkdir", "-p", f"{url}/a/b")
    site.succeed("gfal-copy", "-K", "ADLER32", f"file://{mine}", f"{url}/a/b/file")
    assert "3000001" in site.succeed("gfal-stat", f"{url}/a/b/file")
    site.succeed("gfal-rename", f"{url}/a/b/file", f"{url}/a/other")
    assert "other" in site.succeed("gfal-ls", f"{url}/a")
    full = site.run("gfal-rm", f"{url}/a")
    assert full.returncode != 0
    site.succeed("gfal-rm", "-r", url)
    assert element.stores.namespace.find(parse_path(f"{TOP}/gfal")) is None


@ARC
def test_arc_copies_lists_renames_and_removes(element, site, mine):
    url = f"{element.url}{TOP}/arc"
    site.succeed("arccp", mine, f"{url}/file")
    assert "file" in site.succeed("arcls", "-l", f"{url}/")
    site.succeed("arcrename", f"{url}/file", f"{url}/other")
    site.succeed("arcrm", f"{url}/other")
    assert element.stores.namespace.find(parse_path(f"{TOP}/arc/other")) is None


@GUC
@pytest.mark.interop("globus-gridftp-server")
def test_a_copy_from_globus(element, site, globus, tmp_path):
    site.succeed("globus-url-copy", "-p", "4", f"{globus}{site.root}/large", f"{element.url}{TOP}/third")
    assert element.read("third", tmp_path / "back") == (site.root / "large").read_bytes()
