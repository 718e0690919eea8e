"""Running roles: one in this process, or all of a machine as children."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from srm_dicom import config as configuration
from srm_dicom import tomlfile
from srm_dicom.config import CatalogueFile
from srm_dicom.errors import ConfigError
from srm_dicom.web import hosting
from srm_dicom.web.hosting import Service

STOP_S = 30.0
"""How long children may take to end, as their units say."""

ROLES: Mapping[str, str] = {
    "front": "outer:front",
    "transfer": "outer:transfer",
    "stripe": "outer:stripe",
    "stager": "inner:stager",
    "registrar": "inner:registrar",
    "keys": "catalogues:catalogue",
    "files": "catalogues:catalogue",
    "metadata": "catalogues:catalogue",
}
"""Where the builder of each role is: a process loads the code of its own zone and no other."""


def builder(role: str) -> Callable[[Path], list[Service]]:
    """Return what builds a role."""
    module, _, name = ROLES[role].partition(":")
    build: Callable[[Path], list[Service]] = getattr(import_module(f"srm_dicom.daemon.{module}"), name)
    return build


def serve(path: Path, role: str) -> None:
    """Run one role until SIGTERM or SIGINT.

    Raises:
        ConfigError: the configuration is not usable; nothing was started.
    """
    hosting.run(lambda: builder(role)(path), role)


def serve_all(path: Path) -> None:
    """Run every role of a machine as children; if one ends, all end.

    Raises:
        ConfigError: a role ended by itself.
    """
    catalogues = sorted((path.parent / "catalog.d").glob("*.toml"))
    roles = ["front", "transfer", *(["stager", "registrar"] if configuration.load(path).inner else [])]
    units = [(role, path) for role in roles]
    units += [(tomlfile.read(file, CatalogueFile).role, file) for file in catalogues]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children: list[subprocess.Popen[bytes]] = []
    try:
        for role, file in units:
            children.append(subprocess.Popen(command(role, file)))
        while not stop.wait(0.5):
            for (role, _), child in zip(units, children, strict=True):
                if child.poll() is not None:
                    raise ConfigError(f"{role} ended with {child.returncode}", advice="Its log says why.")
    finally:
        _end(children)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Have children end, and leave none behind that does not."""
    until_s = time.monotonic() + STOP_S
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def command(role: str, path: Path) -> list[str]:
    """Return the command that runs one role."""
    return [sys.executable, "-m", "srm_dicom.cli.admin", "serve", "--role", role, "--config", str(path)]
