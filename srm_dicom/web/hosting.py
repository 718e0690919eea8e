"""A process around services: what it is made of, and its life until it is told to stop."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from srm_dicom import config, telemetry, tomlfile
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.config import CatalogueFile
from srm_dicom.errors import ConfigError
from srm_dicom.identity.credential import HostCredential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.metrics import Gauge, MetricsFile, certificate_ends
from srm_dicom.tuning import keep_what_is_loaded

S = TypeVar("S", bound=msgspec.Struct)


class Service(Protocol):
    """Something that runs until it is told to stop."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End, and wait a bounded time for it."""
        ...


class Activity:
    """Writes the start and the stop of a role into its audit log (DICOM: Application Activity)."""

    def __init__(self, audit: AuditLog, role: str) -> None:
        self._audit = audit
        self._role = role

    def start(self) -> None:
        """Say that the role starts."""
        self._record("start")

    def stop(self) -> None:
        """Say that the role stops, and close the log; of a role's services this one stops last."""
        self._record("stop")
        self._audit.close()

    def _record(self, operation: str) -> None:
        self._audit.record(
            Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, operation=operation, rule=self._role)
        )


def measuring(
    directory: Path | None, name: str, trust: config.Trust, gauges: Iterable[Gauge] = ()
) -> list[Service]:
    """Make what writes a process's metrics into a directory, where there is one."""
    if directory is None:
        return []
    return [MetricsFile(directory, name, [certificate_ends(trust.host_certificate), *gauges])]


def make_gate(trust: config.Trust, clock: Clock) -> Gate:
    """Make a gate from a ``[trust]`` table."""
    settings = TrustSettings(
        certificates=trust.certificates,
        crl=trust.crl,
        ban_file=trust.ban_file,
        admission_file=trust.admission_file,
        vomsdir=trust.vomsdir,
        voms_on_bad_ac=trust.voms_on_bad_ac,
        emergency_role=trust.emergency_role,
        tls=trust.tls,
    )
    return Gate(settings, HostCredential(trust.host_certificate, trust.host_key), clock)


def settings_of(path: Path, kind: type[S]) -> tuple[CatalogueFile, S]:
    """Read the file of a catalogue and the settings of its server.

    Raises:
        ConfigError: it is not usable.
    """
    file = tomlfile.read(path, CatalogueFile)
    try:
        return file, msgspec.convert(file.server, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: [server]: {error}") from error


def catalogue(
    path: Path, kind: type[S], make: Callable[[S, Gate, AuditLog, Clock], Service]
) -> list[Service]:
    """Make a catalogue from its own file.

    Args:
        path: of ``catalog.d``.
        kind: the settings of the server.
        make: the server.

    Raises:
        ConfigError: it is not usable.
    """
    file, settings = settings_of(path, kind)
    clock = SystemClock()
    audit = AuditLog(file.audit, path.stem, socket.gethostname(), clock)
    return [
        Activity(audit, file.role),
        *measuring(file.metrics, path.stem, file.trust),
        make(settings, make_gate(file.trust, clock), audit, clock),
    ]


def run(build: Callable[[], Sequence[Service]], role: str) -> None:
    """Run services until SIGTERM or SIGINT.

    Raises:
        ConfigError: the configuration is not usable; nothing was started.
    """
    telemetry.configure(role)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    services = build()
    keep_what_is_loaded()
    log = telemetry.logger("daemon")
    for service in services:
        service.start()
    log.info("ready", role=role)
    stop.wait()
    for service in reversed(services):
        service.stop()
    log.info("stopped", role=role)
