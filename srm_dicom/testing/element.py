"""A whole read-write storage element in the threads of one process: SRM, doors, inner zone, a directory.

What clients' tests and conformance suites run against. Everything from the socket to the disk is what a
site runs; only the processes are threads, and ports are any free ones.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.admission import BrokerSettings
from srm_dicom.broker.areas import Area, Areas
from srm_dicom.broker.broker import Broker
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.storing import Storing, StoringSettings
from srm_dicom.clock import SystemClock, coarse
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import parse_path
from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.srm.service import application
from srm_dicom.srm.v1.service import PATH as V1_PATH
from srm_dicom.srm.v1.service import application as v1_application
from srm_dicom.store.stores import Stores
from srm_dicom.testing.databases import database_url
from srm_dicom.testing.issuer import TestIssuer
from srm_dicom.testing.pki import TestPki
from srm_dicom.transfer.carrying import Carrying, CarryingSettings
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.delegations import PATH as DELEGATION_PATH
from srm_dicom.transfer.delegations import Delegations, DelegationService
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.hosts import CopyHosts
from srm_dicom.transfer.mover import Mover
from srm_dicom.transfer.ownside import OwnSide
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.transfer.written import WrittenFilesOfNode
from srm_dicom.web.limits import Limits
from srm_dicom.web.routes import routed
from srm_dicom.web.server import WebServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = "/vo/data"
"""Where members of the project write."""

NODE = "node"
_ANY_BYTES = 2**63 - 1


class _Worker(Protocol):
    def run(self, stop: threading.Event, /) -> None:
        """Work until `stop` is set."""


class StorageElement:
    """One of them below `directory`.

    Attributes:
        alice: a proxy that may read and write.
        bob: another.
        reader: one that may only read.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "localhost",
        protocols: Sequence[str] = ("gsiftp", "https"),
        pki: TestPki | None = None,
        issuer: TestIssuer | None = None,
    ) -> None:
        """Compose it.

        Args:
            directory: where everything of it goes.
            pki: of another element, whose users this one then has too.
            issuer: whose tokens for ``alice`` the https door takes, as hers.
            host: its name; in the certificate and every URL.
            protocols: which doors the SRM sends clients to, the preferred one first.
        """
        self.directory = directory
        self._protocols = protocols
        self.clock = SystemClock()
        self.pki = pki or TestPki(directory / "pki")
        self.alice, self.bob, self.reader = (
            self.pki.proxy(self.pki.user(name)) for name in ("Alice", "Bob", "Reader")
        )
        self.root = directory / "disk"
        for path in (self.root, directory / "spool"):
            path.mkdir(parents=True)
        self.stores = Stores.open(database_url(directory, "names"))
        self.area = ScratchArea(directory / "scratch")
        self._host = host
        self._issuer = issuer
        self._stop = threading.Event()
        self._compose()

    def _compose(self) -> None:
        projects = {"heart": self._project()}
        audit = AuditLog(self.directory / "audit", "all", "host", self.clock)
        access = FileAccess(self.stores.namespace, projects, audit, self.clock)
        areas = Areas([Area(parse_path(ROOT), "disk", Release("heart", "none", "v1"))])
        areas.prepare(self.stores.namespace, projects, coarse(self.clock.now()))
        gate = Gate(TrustSettings(self.pki.trust_dir), self.pki.host(self._host), self.clock)
        served = StagedFilesOfNode(NODE, self.area, self.stores, access, audit, self.clock)
        ftp = GridFtpSettings(port=0, data_ports=(0, 0), data_connect_s=10.0)
        # The doors have the broker's own parts, and only then a port: the broker names them last.
        urls: dict[str, str] = {}
        self.srm = self._srm_server(gate)
        settings = BrokerSettings(f"{self._host}:{self.srm.port}", {NODE: urls})
        self.broker = Broker(settings, self.stores, access, self.clock, areas)
        self.written = WrittenFilesOfNode(self.area, self.broker.puts, self.broker.names)
        self.gridftp = GridFtpDoor(served, gate, ftp, self.clock, writing=self.written)
        self.gridftp.start()
        self.webdav = WebServer(
            WebDavDoor(served, more=Writes(served, self.written).handlers),
            gate,
            host=self._host,
            port=0,
            limits=Limits(body_bytes=_ANY_BYTES),
            name="webdav",
            tokens=self._issuer.verifier({"alice": self.pki.dn(self.alice)}) if self._issuer else None,
        )
        self.webdav.start()
        doors = {
            "gsiftp": f"gsiftp://{self._host}:{self.gridftp.port}",
            "https": f"https://{self._host}:{self.webdav.port}",
        }
        urls.update((protocol, doors[protocol]) for protocol in self._protocols)
        delegations = Delegations(self.clock)
        below: dict[str, WSGIApplication] = {V1_PATH: v1_application(self.broker)}
        below[DELEGATION_PATH] = DelegationService(delegations)
        self._app = routed(application(self.broker), below)
        self.carrying = Carrying(
            CarryingSettings("front", self.pki.trust_dir, look_s=0.05),
            self.broker.copies,
            OwnSide(self.broker, served, self.clock),
            self.written,
            Mover(CopyHosts.parse({"*": ("localhost",)}, ("127.0.0.0/8", "::1/128"), ())),
            delegations,
            gate,
            self.clock,
        )
        self.broker.copies.employ(self.carrying)
        self._inner = [*self._inner_zone(areas, audit), self._thread(self.carrying)]

    def _srm_server(self, gate: Gate) -> WebServer:
        """Make the server before what answers in it: its port is part of the broker's SURLs."""
        return WebServer(
            self._answer,
            gate,
            host=self._host,
            port=0,
            maximum_tls=ssl.TLSVersion.TLSv1_2,
            limits=Limits(body_bytes=8 * 2**20, idle_s=330.0),
            name="srm",
        )

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def _thread(self, worker: _Worker) -> threading.Thread:
        return threading.Thread(target=worker.run, args=(self._stop,), daemon=True)

    def _project(self) -> Project:
        rights = {self.alice: {"file", "write"}, self.bob: {"file", "write"}, self.reader: {"file"}}
        members = tuple(
            Member(Tag.USER, self.pki.dn(who), frozenset(granted))  # type: ignore[arg-type]
            for who, granted in rights.items()
        )
        until = datetime.now(UTC) + timedelta(days=9)
        return Project("heart", "permit", "test", "none", "consent", until, members)

    def _inner_zone(self, areas: Areas, audit: AuditLog) -> list[threading.Thread]:
        settings = {"root": str(self.root)}
        context = PluginContext("disk", settings, self.directory / "secrets", self.clock, seals=False)
        host = PluginHost.load("disk", context)
        signing_key = Ed25519PrivateKey.generate()
        stager = Stager(
            StagerSettings("stager"),
            {"disk": host},
            self.stores,
            Publisher(NODE, self.area, self.stores, signing_key, self.clock),
            Sealing(b"s" * 32, SlotSettings(self.directory / "spool")),
            audit,
            self.clock,
        )
        storing = Storing(
            StoringSettings("storing", NODE, idle_s=0.02),
            {"disk": host},
            self.stores,
            self.area,
            areas,
            signing_key,
            audit,
            self.clock,
        )
        return [self._thread(worker) for worker in (stager, storing)]

    def start(self) -> None:
        """Open the SRM and let the inner zone work."""
        self.srm.start()
        for thread in self._inner:
            thread.start()

    def end_inner_zone(self) -> None:
        """Leave the doors alone, as where the inner zone is another process; nothing new is staged."""
        self._stop.set()
        for thread in self._inner:
            thread.join(10)

    def stop(self) -> None:
        """Stop everything, and wait a bounded time for it."""
        self._stop.set()
        for service in (self.srm, self.webdav, self.gridftp):
            service.stop()
        self.end_inner_zone()

    def surl(self, name: str = "") -> str:
        """Return the full SURL of a name below `ROOT`."""
        return f"srm://{self._host}:{self.srm.port}/srm/managerv2?SFN={ROOT}/{name}".rstrip("/")
