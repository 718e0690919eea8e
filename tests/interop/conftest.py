"""One storage element that every client's tests share: the SRM, its stager and the GridFTP door, in threads.

Files come from a plugin in memory whose slowness a test sets, so that a client's patience can be tried;
everything from the slot to the socket is what a site runs.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.clock import SystemClock
from srm_dicom.daemon.outer import SRM_IDLE_S
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.plugin.api import Batch, PluginContext, StoragePlugin
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.srm.service import application
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.requests import FileState, Request
from srm_dicom.store.stores import Stores
from srm_dicom.testing.issuer import TestIssuer
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.nearline import Nearline, NearlineSettings
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.tape import TapeApi, TapeSettings
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.routes import routed
from srm_dicom.web.server import WebServer
from srm_dicom.wire.tape import BASE, DISCOVERY

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

SHOWN = datetime(2026, 11, 1, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")
VO = "biomed.test"
ROOT = "/biomed.test/mdm/site/heart-v1"


CREDENTIALS = (
    *("proxy", "limited", "proxy of a proxy", "limited proxy of a proxy", "user certificate"),
    *("voms", "voms, a proxy of it"),
)
"""Kinds of credential that people read with; `Grid.credential` makes one of each."""


class SlowMemory(StoragePlugin):
    """Bytes by GUID, brought after as many seconds as a file's name in `slow_s` says."""

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self.bytes: dict[Guid, bytes] = {}
        self.slow_s: dict[Guid, float] = {}
        self.visits = 0

    def discover(self, selector: str, release: Release) -> Iterator[Any]:
        yield from ()

    def plan(self, files: Sequence[Any]) -> Sequence[Batch]:
        slow = tuple(ref for ref in files if ref.guid in self.slow_s)
        fast = tuple(ref for ref in files if ref.guid not in self.slow_s)
        return [Batch("memory", key, part) for key, part in (("slow", slow), ("fast", fast)) if part]

    def stage(self, batch: Batch, sink: Any, deadline_s: float) -> None:
        self.visits += 1
        for ref in batch.files:
            time.sleep(self.slow_s.get(ref.guid, 0.0))
            slot = sink.open(ref)
            slot.write(self.bytes[ref.guid])
            slot.commit()


class Grid:
    """The storage element, the users around it and what they run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = SystemClock()
        self.pki = TestPki(directory / "pki")
        self.vo = TestVo(self.pki, VO)
        self.alice = self.pki.proxy(self.pki.user("Alice"))
        self._credentials: dict[str, Credential] = {}
        self.home = directory / "home"
        for path in (self.home, directory / "spool", directory / "out"):
            path.mkdir()
        self.stores = Stores.open(f"sqlite:///{directory}/names.db")
        self.area = ScratchArea(directory / "scratch")
        self.plugin = SlowMemory(PluginContext("memory", {}, directory, self.clock))
        self._stop = threading.Event()
        self._public_key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        self._compose()

    def _compose(self) -> None:
        members = (
            Member(Tag.USER, self.pki.dn(self.alice), frozenset({"file"})),
            Member(Tag.GROUP, f"/{VO}/radiology", frozenset({"file"})),
        )
        until = datetime.now(UTC) + timedelta(days=9)
        self.project = Project("heart", "permit", "test", "basic", "consent", until, members)
        projects = {"heart": self.project}
        audit = AuditLog(self.directory / "audit", "all", "host", self.clock)
        access = FileAccess(self.stores.namespace, projects, audit, self.clock)
        gate = Gate(TrustSettings(self.pki.trust_dir, vomsdir=self.vo.vomsdir), self.pki.host(), self.clock)
        files = StagedFilesOfNode("node", self.area, self.stores, access, audit, self.clock)
        ftp = GridFtpSettings(port=0, data_ports=(0, 0), data_connect_s=10.0)
        self.door = GridFtpDoor(files, gate, ftp, self.clock)
        self.door.start()
        nodes = {"node": {"gsiftp": f"gsiftp://localhost:{self.door.port}"}}
        self.broker = Broker(BrokerSettings("localhost", nodes), self.stores, access, self.clock)
        self.server = WebServer(
            application(self.broker), gate, host="localhost", port=0,
            maximum_tls=ssl.TLSVersion.TLSv1_2, limits=Limits(idle_s=SRM_IDLE_S), name="srm",
        )  # fmt: skip
        self.tokens = TestIssuer(self.directory / "issuer")
        apps: dict[str, Any] = {}
        nearline = Nearline(self.broker, NearlineSettings("localhost", wait_s=3.0), self.clock)
        self.web = WebServer(
            routed(WebDavDoor(files, nearline=nearline), apps), gate, host="localhost", port=0, name="webdav",
            tokens=self.tokens.verifier({"alice": self.pki.dn(self.alice)}),
        )  # fmt: skip
        tape = TapeApi(self.broker, TapeSettings("localhost", f"https://localhost:{self.web.port}"))
        apps.update(dict.fromkeys((DISCOVERY, BASE), tape))
        publisher = Publisher("node", self.area, self.stores, Ed25519PrivateKey.generate(), self.clock)
        stager = Stager(
            StagerSettings("worker"),
            {"memory": PluginHost(self.plugin, name="memory")},
            self.stores,
            publisher,
            Sealing(b"s" * 32, SlotSettings(self.directory / "spool")),
            audit,
            self.clock,
        )
        self._stager = threading.Thread(target=stager.run, args=(self._stop,), daemon=True)

    def start(self) -> None:
        self.server.start()
        self.web.start()
        self._stager.start()

    def stop(self) -> None:
        self._stop.set()
        self.server.stop()
        self.web.stop()
        self.door.stop()
        self._stager.join(10)

    def series(self, name: str, count: int, *, slow_s: float = 0.0, size_bytes: int = 3000) -> list[str]:
        """Register files that nobody has staged yet; returns their SURLs."""
        directory = parse_path(f"{ROOT}/{name}")
        self.stores.namespace.make_directory(directory, self.project.directory_acl(), SHOWN, RELEASE)
        paths = [SitePath(f"{directory}/{number:04d}.dcm.c4gh") for number in range(count)]
        with self.stores.database.transaction():
            for path in paths:
                guid = Guid(str(uuid.uuid5(uuid.NAMESPACE_URL, path)))
                self.plugin.bytes[guid] = os.urandom(size_bytes)
                if slow_s:
                    self.plugin.slow_s[guid] = slow_s
                self.stores.namespace.add_file(
                    Entry(
                        path, Kind.FILE, "", self.project.file_acl(), SHOWN, guid, release=RELEASE,
                        key_id="k", public_key=self._public_key, plugin="memory", plugin_ref=b"ref",
                    )
                )  # fmt: skip
        return [self.surl(path) for path in paths]

    def surl(self, path: str) -> str:
        return f"srm://localhost:{self.server.port}/srm/managerv2?SFN={path}"

    def davs(self, surl: str) -> str:
        """Return the URL at the HTTPS door of a file of `series`."""
        return f"davs://localhost:{self.web.port}{surl.partition('SFN=')[2]}"

    def sealed(self, surl: str) -> bytes:
        """Return the ciphertext of a staged file."""
        entry = self.stores.namespace.find(parse_path(surl.partition("SFN=")[2]))
        assert entry is not None
        assert entry.guid is not None
        return self.area.path(StagedName(entry.guid, entry.generation)).read_bytes()

    def evict(self, surl: str) -> None:
        """Drop a staged file as the janitor does."""
        entry = self.stores.namespace.find(parse_path(surl.partition("SFN=")[2]))
        assert entry is not None
        assert entry.guid is not None
        self.stores.staged.remove(entry.guid, "node")
        self.area.remove(StagedName(entry.guid, entry.generation))

    def adler32(self, surl: str) -> str:
        return f"{zlib.adler32(self.sealed(surl)):08x}"

    def requests(self) -> list[Request]:
        """Return Alice's requests, the newest first."""
        return self.stores.requests.of_owner(self.pki.dn(self.alice), None, 100)

    def pins(self) -> int:
        return self.stores.requests.counts().get(FileState.PINNED, 0)

    def credential(self, kind: str) -> Credential:
        """Return a credential that may read, of a kind of `CREDENTIALS`."""
        if kind not in self._credentials:
            alice, group = self.pki.user("Alice"), f"/{self.vo.name}/radiology"
            make = {
                "proxy": lambda: self.pki.proxy(alice),
                "limited": lambda: self.pki.proxy(alice, limited=True),
                "proxy of a proxy": lambda: self.pki.proxy(self.pki.proxy(self.pki.proxy(alice))),
                "limited proxy of a proxy": lambda: self.pki.proxy(self.pki.proxy(alice), limited=True),
                "user certificate": lambda: alice,
                "voms": lambda: self.vo.proxy(self.pki.user("Bob"), group, f"/{self.vo.name}"),
                "voms, a proxy of it": lambda: self.pki.proxy(self.vo.proxy(self.pki.user("Bob"), group)),
            }
            self._credentials[kind] = make[kind]()
        return self._credentials[kind]

    def environment(self, credential: Credential | None = None) -> dict[str, str]:
        return {
            "PATH": PATH,
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            **self.pki.environment(credential or self.alice),
        }

    def run(
        self,
        *command: Any,
        credential: Credential | None = None,
        timeout_s: float = 90.0,
        text: str = "",
        **variables: str,
    ) -> Any:
        """Run a client as its user does."""
        program = shutil.which(command[0], path=PATH) or command[0]
        options = ["-D", "BDII:ENABLED=false"] if Path(program).name.startswith("gfal-") else []
        done = subprocess.run(
            [program, *options, *map(str, command[1:])], env=self.environment(credential) | variables,
            input=text.encode(), capture_output=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        return SimpleNamespace(
            code=done.returncode,
            out=done.stdout.decode(errors="replace"),
            bytes=done.stdout,
            said=said,
        )


@pytest.fixture(params=CREDENTIALS)
def credential(grid: Grid, request: pytest.FixtureRequest) -> Credential:
    """Every kind of credential that reads."""
    return grid.credential(request.param)


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    made = Grid(tmp_path_factory.mktemp("grid"))
    made.start()
    yield made
    made.stop()
