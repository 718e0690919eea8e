"""The catalogues: key, file and metadata servers, each from a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from srm_dicom import tomlfile
from srm_dicom.config import CatalogueFile
from srm_dicom.web import hosting
from srm_dicom.web.hosting import Service

_SERVERS: Mapping[str, tuple[str, str, str]] = {
    "keys": ("mdm_keys.server", "KeyServerSettings", "KeyServer"),
    "files": ("mdm_files.server", "FileCatalogueSettings", "FileCatalogue"),
    "metadata": ("mdm_metadata.server", "MetadataSettings", "MetadataServer"),
}
"""Module, settings and server of each role; a process loads those of its own."""


def catalogue(path: Path) -> list[Service]:
    """A key, file or metadata server, from its own file."""
    module, settings, server = _SERVERS[tomlfile.read(path, CatalogueFile).role]
    loaded = import_module(module)
    return hosting.catalogue(path, getattr(loaded, settings), getattr(loaded, server))
