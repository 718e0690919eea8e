"""What every role is made with: configuration, stores, audit, gate; and what a service is."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from srm_dicom import config as configuration
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Area, Areas
from srm_dicom.broker.spending import Spending
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.config import Inner
from srm_dicom.daemon.projects import Projects
from srm_dicom.db.usage import Ledger
from srm_dicom.errors import ConfigError, NotFound
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.metrics import Gauge
from srm_dicom.rights.budget import Budget
from srm_dicom.rights.project import Project, Release
from srm_dicom.store.stores import Stores
from srm_dicom.telemetry import logger
from srm_dicom.web.hosting import Activity, Service, make_gate, measuring

ADMIN, REGISTER, CHECK = "admin", "register", "check"
"""The roles of an administrator's commands; several may run, one at a time writes the audit log."""

ADMIN_WAIT_S = 10.0
LOOP_PAUSE_S = 5.0

log = logger("daemon")


class Loop:
    """A service that is one thread around a function of a stop event.

    What breaks the function does not end the service: a database that was away comes back, and what had
    been claimed is free again when its lease has ended. So the function begins anew after a pause.
    """

    def __init__(
        self, name: str, body: Callable[[threading.Event], None], *, pause_s: float = LOOP_PAUSE_S
    ) -> None:
        self._name = name
        self._body = body
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Tell whether the thread has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Set the event and wait for the thread."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._body(self._stop)
            except Exception as error:
                log.exception("service_broke", operation=self._name, error=type(error).__name__)
                self._stop.wait(self._pause_s)
            else:
                return


class Common:
    """What the roles of a storage server are made with; each part is opened when it is first wanted."""

    def __init__(self, path: Path, role: str) -> None:
        """Read the configuration.

        Raises:
            ConfigError: it is not usable.
        """
        self.config = configuration.load(path)
        self.clock: Clock = SystemClock()
        self.projects: Mapping[str, Project] = Projects(self.config.projects, self.clock)
        self._role = role

    @cached_property
    def stores(self) -> Stores:
        """The outer zone's database."""
        return Stores.open(self.config.database)

    @cached_property
    def audit(self) -> AuditLog:
        """The role's audit log; one process of a role and host has it open.

        Of commands each user of the machine has one: nobody writes into what another has begun.
        """
        role, wait_s = self._role, 0.0
        if role in {ADMIN, REGISTER, CHECK}:
            role, wait_s = f"{role}-{os.geteuid()}", ADMIN_WAIT_S
        return AuditLog(self.config.audit, role, socket.gethostname(), self.clock, lock_wait_s=wait_s)

    def worker(self, work: str) -> str:
        """Return under what name this machine has work in hand: its own, and the same after a restart."""
        return f"{socket.gethostname()}/{work}"

    @property
    def node(self) -> str:
        """The name of this machine's scratch area."""
        return self.config.site.host

    def gate(self) -> Gate:
        """Make the process's gate."""
        return make_gate(self.config.trust, self.clock)

    def access(self) -> FileAccess:
        """Make the decider about files."""
        return FileAccess(self.stores.namespace, self.projects, self.audit, self.clock, areas=self.areas())

    def areas(self) -> Areas:
        """Return where users write."""
        return Areas(
            Area(
                parse_path(area.path),
                area.plugin,
                Release(area.project, self._profile(area.project), area.version),
                area.max_file_bytes,
                area.sealed,
            )
            for area in self.config.areas
        )

    def _profile(self, project: str) -> str:
        if project not in self.projects:
            raise ConfigError(f"[[areas]] names the project {project}, which projects.d has not")
        return self.projects[project].profile

    def spending(self) -> Spending:
        """Make what charges the daily budgets."""
        budgets = self.config.budgets
        ledger = Ledger(self.stores.database, self.audit, self.clock, alarm_at=budgets.alarm_at)
        return Spending(ledger, Budget(budgets.caller.bytes, budgets.caller.objects), self.projects)

    def path_of(self, name: str) -> SitePath:
        """Read what an administrator calls a name: its path, or a SURL of this site.

        Raises:
            InvalidRequest: it is neither.
            NotFound: it is a SURL of another storage element.
        """
        if not name.startswith("srm:"):
            return parse_path(name)
        site = self.config.site
        surl = OwnSurls(f"{site.host}:{self.config.srm.port}", site.aliases).parse(name)
        if isinstance(surl, NotFound):
            raise surl
        return surl.path

    def reporting(self, *gauges: Gauge) -> list[Service]:
        """Make what tells of the role: in its audit log, and for Prometheus where that is wanted."""
        config = self.config
        activity = Activity(self.audit, self._role)
        return [activity, *measuring(config.metrics, self._role, config.trust, gauges)]

    def inner(self) -> Inner:
        """Return the inner zone's table.

        Raises:
            ConfigError: this machine has none.
        """
        if self.config.inner is None:
            raise ConfigError("the configuration has no [inner] table", advice="Inner roles run where it is.")
        return self.config.inner


def host_credential(trust: configuration.Trust) -> Credential:
    """Return this host's certificate as a client's credential."""
    return Credential(trust.host_certificate, trust.host_key, trust.certificates)
