"""New settings of plugins without a restart: their files are looked at, and what changed is told them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from srm_dicom import tomlfile
from srm_dicom.config import PluginFile
from srm_dicom.errors import MdmError
from srm_dicom.plugin.host import PluginHost
from srm_dicom.telemetry import logger

LOOK_S = 2.0

log = logger("plugin")


class PluginFiles:
    """The files of ``plugins.d`` that plugins were loaded from."""

    def __init__(self, directory: Path, hosts: Mapping[str, PluginHost]) -> None:
        self._hosts = {directory / f"{name}.toml": host for name, host in hosts.items()}
        self._seen = {path: tomlfile.written(path) for path in self._hosts}

    def run(self, stop: threading.Event) -> None:
        """Look now and then until `stop` is set."""
        while not stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Tell each plugin whose file has changed; what it cannot use it does not take."""
        for path, host in self._hosts.items():
            written = tomlfile.written(path)
            if written == self._seen[path]:
                continue
            self._seen[path] = written
            try:
                host.reconfigure(tomlfile.read(path, PluginFile).settings)
                log.info("settings_taken", plugin=host.name)
            except MdmError as error:
                log.warning("settings_not_taken", plugin=host.name, reason=error.message)
