"""The catalogues: key, file and metadata servers, each from a file of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mdm_files.server import FileCatalogue, FileCatalogueSettings
from mdm_keys.server import KeyServer, KeyServerSettings
from mdm_metadata.server import MetadataServer, MetadataSettings
from srm_dicom import config as configuration
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import SystemClock
from srm_dicom.config import CatalogueFile
from srm_dicom.daemon.common import Activity, Service, make_gate
from srm_dicom.errors import ConfigError


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
