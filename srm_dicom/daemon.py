"""The composition root: configuration in, running services out.

Each role is one process and one builder below; this is the only module that names catalogues. Outer
roles (front, transfer) are built from ``srm-dicom.toml`` and never open the inner zone's secrets or
``plugins.d``; inner roles (stager, registrar) do; a catalogue has a file of its own, because it may
stand on somebody else's machine.
"""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mdm_files.server import FileCatalogue, FileCatalogueSettings
from mdm_keys.server import KeyServer, KeyServerSettings
from mdm_metadata.server import MetadataServer, MetadataSettings
from srm_dicom import config as configuration
from srm_dicom import telemetry
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.spending import Spending
from srm_dicom.broker.stager import Stager, StagerSettings
from srm_dicom.client.files import FileCatalogueClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.client.scratch import RemoteScratch
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.config import CatalogueFile, Inner, PluginFile, ProjectFile
from srm_dicom.crypto.signing import trusting
from srm_dicom.db.database import Database
from srm_dicom.db.usage import Ledger
from srm_dicom.errors import ConfigError, InvalidRequest
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.tokens import Issuer, TokenSettings, TokenVerifier
from srm_dicom.plugin.host import PluginHost
from srm_dicom.registry.journal import Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.registrar import Feed, Registrar, RegistrarSettings
from srm_dicom.registry.saga import Catalogues, Saga
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.budget import Budget
from srm_dicom.rights.project import Member, Project
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.node import ScratchNode
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.srm.service import application as srm_application
from srm_dicom.store.stores import Stores
from srm_dicom.transfer.files import ServedFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.intake import Intake
from srm_dicom.transfer.intake import application as intake_application
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

ADMIN = "admin"
"""The role of an administrator's commands; several may run, one at a time writes the audit log."""

ADMIN_WAIT_S = 10.0

STOP_S = 10.0
"""How long a child may take to end."""

SOAP_BODY_BYTES = 8 * 2**20
"""A request for 50,000 files; what is larger is refused before it is read."""

SRM_IDLE_S = 330.0
"""gfal2 sleeps up to 300 s between two polls, and then has only the connection that it had before."""

ANY_BYTES = 2**63 - 1
"""Of a body that is never read whole: who uploads to a door for reading is to hear just that."""


class Service(Protocol):
    """Something that runs until it is told to stop."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End, and wait a bounded time for it."""
        ...


class Loop:
    """A service that is one thread around a function of a stop event."""

    def __init__(self, name: str, body: Callable[[threading.Event], None]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=body, args=(self._stop,), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Set the event and wait for the thread."""
        self._stop.set()
        self._thread.join(timeout_s)


class Activity:
    """Writes the start and the stop of a role into its audit log (DICOM: Application Activity)."""

    def __init__(self, audit: AuditLog, role: str) -> None:
        self._audit = audit
        self._role = role

    def start(self) -> None:
        """Say that the role starts."""
        self._record("start")

    def stop(self) -> None:
        """Say that the role stops."""
        self._record("stop")

    def _record(self, operation: str) -> None:
        self._audit.record(
            Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, operation=operation, rule=self._role)
        )


class Common:
    """What the roles of a storage server are made with; each part is opened when it is first wanted."""

    def __init__(self, path: Path, role: str) -> None:
        """Read the configuration.

        Raises:
            ConfigError: it is not usable.
        """
        self.config = configuration.load(path)
        self.clock: Clock = SystemClock()
        self.projects = load_projects(self.config.projects)
        self._role = role

    @cached_property
    def stores(self) -> Stores:
        """The outer zone's database."""
        return Stores.open(self.config.database)

    @cached_property
    def audit(self) -> AuditLog:
        """The role's audit log; one process of a role and host has it open."""
        wait_s = ADMIN_WAIT_S if self._role == ADMIN else 0.0
        return AuditLog(self.config.audit, self._role, socket.gethostname(), self.clock, lock_wait_s=wait_s)

    @property
    def node(self) -> str:
        """The name of this machine's scratch area."""
        return self.config.site.host

    def gate(self) -> Gate:
        """Make the process's gate."""
        return make_gate(self.config.trust, self.clock)

    def access(self) -> FileAccess:
        """Make the decider about files."""
        return FileAccess(self.stores.namespace, self.projects, self.audit, self.clock)

    def spending(self) -> Spending:
        """Make what charges the daily budgets."""
        budgets = self.config.budgets
        ledger = Ledger(self.stores.database, self.audit, self.clock, alarm_at=budgets.alarm_at)
        return Spending(ledger, Budget(budgets.caller.bytes, budgets.caller.objects), self.projects)

    def inner(self) -> Inner:
        """Return the inner zone's table.

        Raises:
            ConfigError: this machine has none.
        """
        if self.config.inner is None:
            raise ConfigError("the configuration has no [inner] table", advice="Inner roles run where it is.")
        return self.config.inner


def load_projects(directory: Path) -> dict[str, Project]:
    """Read ``projects.d``."""
    files = configuration.load_directory(directory, ProjectFile)
    return {file.id: _project(file) for file in files.values()}


def _project(file: ProjectFile) -> Project:
    members = tuple(
        Member(Tag.USER if member.user else Tag.GROUP, member.user or member.group, frozenset(member.rights))
        for member in file.members
    )
    return Project(
        file.id,
        file.permit,
        file.purpose,
        file.profile,
        file.basis,
        file.valid_until,
        members,
        file.jobs,
        Budget(file.daily.bytes, file.daily.objects),
    )


def make_gate(trust: configuration.Trust, clock: Clock) -> Gate:
    """Make a gate from a ``[trust]`` table."""
    settings = TrustSettings(
        certificates=trust.certificates,
        crl=trust.crl,
        ban_file=trust.ban_file,
        admission_file=trust.admission_file,
        vomsdir=trust.vomsdir,
        voms_on_bad_ac=trust.voms_on_bad_ac,
    )
    return Gate(settings, HostCredential(trust.host_certificate, trust.host_key), clock)


def host_credential(trust: configuration.Trust) -> Credential:
    """Return this host's certificate as a client's credential."""
    return Credential(trust.host_certificate, trust.host_key, trust.certificates)


# --- outer zone ----------------------------------------------------------------------------------


def front(path: Path) -> list[Service]:
    """The SRM."""
    common = Common(path, "front")
    config = common.config
    bounds = config.requests
    settings = BrokerSettings(
        host=f"{config.site.host}:{config.srm.port}",
        nodes={common.node: transfer_urls(config)},
        max_files=bounds.max_files,
        max_total_s=bounds.max_total_s,
        default_total_s=bounds.default_total_s,
        max_pin_s=bounds.max_pin_s,
        default_pin_s=bounds.default_pin_s,
    )
    broker = Broker(settings, common.stores, common.access(), common.clock)
    server = WebServer(
        srm_application(broker),
        common.gate(),
        host=config.srm.host,
        port=config.srm.port,
        maximum_tls=ssl.TLSVersion.TLSv1_2,
        limits=Limits(body_bytes=SOAP_BODY_BYTES, idle_s=SRM_IDLE_S),
        name="srm",
        audit=common.audit,
    )
    return [Activity(common.audit, "front"), server]


def transfer_urls(config: configuration.Config) -> dict[str, str]:
    """Return where the doors are, by protocol; the site prefers what comes first."""
    host = config.site.host
    return {
        "gsiftp": f"gsiftp://{host}:{config.gridftp.listen.port}",
        "https": f"https://{host}:{config.webdav.listen.port}",
    }


def transfer(path: Path) -> list[Service]:
    """The doors over this machine's scratch, its janitor, and the intake if stagers push into it."""
    common = Common(path, "transfer")
    config = common.config
    area = ScratchArea(config.scratch.directory)
    space = SpaceSettings(config.scratch.high_bytes, config.scratch.low_bytes)
    janitor = Janitor(common.node, area, common.stores, space, common.clock)
    files = StagedFilesOfNode(
        common.node,
        area,
        common.stores,
        common.access(),
        common.audit,
        common.clock,
        common.spending(),
    )
    settings = GridFtpSettings(
        host=config.gridftp.listen.host,
        port=config.gridftp.listen.port,
        data_ports=config.gridftp.data_ports,
    )
    services: list[Service] = [Activity(common.audit, "transfer"), Loop("janitor", janitor.run)]
    if config.intake is not None:
        services.append(make_intake(common, area, config.intake))
    gridftp = GridFtpDoor(files, common.gate(), settings, common.clock, common.audit)
    return [*services, gridftp, make_webdav(common, files)]


def make_webdav(common: Common, files: ServedFiles) -> WebServer:
    """Make the HTTPS/WebDAV door."""
    listen = common.config.webdav.listen
    return WebServer(
        WebDavDoor(files),
        common.gate(),
        host=listen.host,
        port=listen.port,
        limits=Limits(body_bytes=ANY_BYTES),
        name="webdav",
        audit=common.audit,
        tokens=make_tokens(common.config.webdav.tokens, common.clock),
    )


def make_tokens(tokens: configuration.Tokens | None, clock: Clock) -> TokenVerifier | None:
    """Make what reads the bearer tokens of a door; None where none are taken.

    Raises:
        ConfigError: the table contradicts itself.
    """
    if tokens is None:
        return None
    issuers = tuple(Issuer(**msgspec.structs.asdict(issuer)) for issuer in tokens.issuers)
    settings = TokenSettings(issuers, tokens.map_file, tokens.skew_s, tokens.lifetime_s)
    try:
        return TokenVerifier(settings, clock)
    except InvalidRequest as error:
        raise ConfigError(f"[webdav.tokens]: {error.message}") from error


def make_intake(common: Common, area: ScratchArea, settings: configuration.Intake) -> WebServer:
    """Make the port that stagers push to."""
    return WebServer(
        intake_application(Intake(area, settings.stagers, common.audit)),
        common.gate(),
        host=settings.listen.host,
        port=settings.listen.port,
        limits=Limits(body_bytes=settings.max_file_bytes),
        name="intake",
        audit=common.audit,
    )


# --- inner zone ----------------------------------------------------------------------------------


def stager(path: Path) -> list[Service]:
    """The stager."""
    common = Common(path, "stager")
    inner = common.inner()
    secrets = InnerSecrets.load(inner.secrets)
    inner.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    slots = SlotSettings(inner.spool, inner.spool_above_bytes, inner.max_object_bytes)
    worker = Stager(
        StagerSettings(f"{common.node}/stager", visits=inner.visits, visit_s=inner.visit_s),
        load_plugins(common),
        common.stores,
        Publisher(common.node, scratch_node(common), common.stores, secrets.signing_key, common.clock),
        Sealing(secrets.seal_key, slots),
        common.audit,
        common.clock,
    )
    return [Activity(common.audit, "stager"), Loop("stager", worker.run)]


def scratch_node(common: Common) -> ScratchNode:
    """Return where the stager puts what it has sealed: a node that it calls, or this machine."""
    node = common.inner().node
    if node:
        return RemoteScratch(node, host_credential(common.config.trust))
    return ScratchArea(common.config.scratch.directory)


def registrar(path: Path) -> list[Service]:
    """The registrar."""
    common = Common(path, "registrar")
    return [Activity(common.audit, "registrar"), Loop("registrar", make_registrar(common).run)]


def make_registrar(common: Common) -> Registrar:
    """Make the registrar with its journal, saga and feeds."""
    config, inner = common.config, common.inner()
    secrets = InnerSecrets.load(inner.secrets)
    journal = Journal(Database(inner.database), secrets.journal_key)
    credential = host_credential(config.trust)
    catalogues = Catalogues(
        keys=KeyServers(config.catalogues.keys, credential, sites=trusting(secrets.signing_key.public_key())),
        files=FileCatalogueClient(config.catalogues.files, credential),
        metadata=[MetadataClient(endpoint, credential) for endpoint in config.catalogues.metadata],
        threshold=config.catalogues.threshold,
    )
    saga = Saga(
        Places(config.site.vo, config.site.name, f"{config.site.host}:{config.srm.port}"),
        common.projects,
        journal,
        common.stores.namespace,
        catalogues,
        secrets.signing_key,
        common.clock,
    )
    settings = RegistrarSettings(**msgspec.structs.asdict(config.registrar))
    return Registrar(
        settings, load_feeds(common), journal, saga, common.stores.requests, common.audit, common.clock
    )


def load_plugins(common: Common) -> dict[str, PluginHost]:
    """Load every plugin of ``plugins.d``."""
    inner = common.inner()
    files = configuration.load_directory(inner.plugins, PluginFile)
    return {name: _load_plugin(common, name, file) for name, file in files.items()}


def load_feeds(common: Common) -> dict[str, Feed]:
    """Load every plugin with the projects that it feeds."""
    files = configuration.load_directory(common.inner().plugins, PluginFile)
    return {
        name: Feed(
            _load_plugin(common, name, file),
            tuple(_known(common.projects, project, name) for project in file.projects),
            file.sealed,
        )
        for name, file in files.items()
    }


def _load_plugin(common: Common, name: str, file: PluginFile) -> PluginHost:
    return PluginHost.load(
        file.plugin,
        name=name,
        settings=file.settings,
        secrets=common.inner().secrets / name,
        clock=common.clock,
        seals=file.sealed,
    )


def _known(projects: Mapping[str, Project], project: str, plugin: str) -> Project:
    if project not in projects:
        raise ConfigError(f"plugins.d/{plugin}.toml names the project {project}, which projects.d has not")
    return projects[project]


# --- catalogues ----------------------------------------------------------------------------------


def catalogue(path: Path) -> list[Service]:
    """A key, file or metadata server, from its own file."""
    file = configuration.read(path, CatalogueFile)
    clock = SystemClock()
    audit = AuditLog(file.audit, path.stem, socket.gethostname(), clock)
    gate = make_gate(file.trust, clock)
    makers: dict[str, tuple[type[Any], Callable[..., Service]]] = {
        "keys": (KeyServerSettings, KeyServer),
        "files": (FileCatalogueSettings, FileCatalogue),
        "metadata": (MetadataSettings, MetadataServer),
    }
    kind, make = makers[file.role]
    try:
        settings = msgspec.convert(file.server, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: [server]: {error}") from error
    return [Activity(audit, file.role), make(settings, gate, audit, clock)]


# --- processes -----------------------------------------------------------------------------------

ROLES: Mapping[str, Callable[[Path], list[Service]]] = {
    "front": front,
    "transfer": transfer,
    "stager": stager,
    "registrar": registrar,
    "keys": catalogue,
    "files": catalogue,
    "metadata": catalogue,
}


def serve(path: Path, role: str) -> None:
    """Run one role until SIGTERM or SIGINT.

    Raises:
        ConfigError: the configuration is not usable; nothing was started.
    """
    telemetry.configure(role)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    services = ROLES[role](path)
    log = telemetry.logger("daemon")
    for service in services:
        service.start()
    log.info("ready", role=role)
    stop.wait()
    for service in reversed(services):
        service.stop()
    log.info("stopped", role=role)


def serve_all(path: Path) -> None:
    """Run every role of a machine as children; if one ends, all end.

    Raises:
        ConfigError: a role ended by itself.
    """
    catalogues = sorted((path.parent / "catalog.d").glob("*.toml"))
    roles = ["front", "transfer", *(["stager", "registrar"] if configuration.load(path).inner else [])]
    units = [(role, path) for role in roles]
    units += [(configuration.read(file, CatalogueFile).role, file) for file in catalogues]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children = [subprocess.Popen(command(role, file)) for role, file in units]
    try:
        while not stop.wait(0.5):
            for (role, _), child in zip(units, children, strict=True):
                if child.poll() is not None:
                    raise ConfigError(f"{role} ended with {child.returncode}", advice="Its log says why.")
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(STOP_S)


def command(role: str, path: Path) -> list[str]:
    """Return the command that runs one role."""
    return [sys.executable, "-m", "srm_dicom.cli.admin", "serve", "--role", role, "--config", str(path)]
