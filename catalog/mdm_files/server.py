"""The file catalogue: its names over HTTPS."""

from __future__ import annotations

from mdm_files.application import FileCatalogueApplication
from mdm_files.settings import FileCatalogueSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.db.database import Database
from srm_dicom.identity.gate import Gate
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

__all__ = ["FileCatalogue", "FileCatalogueSettings"]


class FileCatalogue:
    """Listens from `start` to `stop`; `port` is known before.

    Args:
        settings: what the configuration says.
        gate: verifies callers and holds the host credential.
        audit: every decision is in it before it is answered.
        clock: deadlines and the ends of credentials.

    Raises:
        ConfigError: the database URL is not one.
        OSError: the address is not to be had.
    """

    def __init__(self, settings: FileCatalogueSettings, gate: Gate, audit: AuditLog, clock: Clock) -> None:
        self._database = Database(settings.database)
        self._web = WebServer(
            FileCatalogueApplication(settings, self._database, audit, clock),
            gate,
            host=settings.host,
            port=settings.port,
            limits=Limits(body_bytes=settings.body_bytes),
            name="files",
            clock=clock,
            audit=audit,
        )
        self.port = self._web.port

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._web.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop listening and end the connections."""
        self._web.stop(timeout_s)
        self._database.close()
