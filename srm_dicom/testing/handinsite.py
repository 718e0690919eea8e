"""A site to which users hand in images, with its outer zone in processes of its own.

Front and doors are what a site runs. The inner zone is a thread of this process, which fetches through the
node's intake as the stager does, so that a test sees what reaches the plugin.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.broker.storing import Storing, StoringSettings
from srm_dicom.client.scratch import RemoteScratch
from srm_dicom.daemon.common import Common, host_credential
from srm_dicom.demo.processes import Processes, Unit
from srm_dicom.identity.credential import Credential
from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.project import Release
from srm_dicom.testing.handingin import Archive
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_ports
from srm_dicom.tomlfile import dump

HOST = "localhost"
ROOT = "/vo/ingest"
ARCHIVE = "archive"
_OUTER = ("outer", "audit", "log", "etc")


class HandInSite:
    """Below `directory`; a physician hands in, Bob may not.

    Attributes:
        archive: what has been handed in.
    """

    def __init__(self, directory: Path, *, scratch: Mapping[str, int] | None = None) -> None:
        self.directory = directory
        self.ports = free_ports(("srm", "gridftp", "webdav", "intake"))
        self.pki = TestPki(directory / "pki")
        self.host = self.pki.host(HOST)
        self.physician, self.bob = (self.pki.proxy(self.pki.user(name)) for name in ("Physician", "Bob"))
        self.processes = Processes(directory / "log")
        self.config = directory / "etc" / "srm-dicom.toml"
        self._write("srm-dicom.toml", self._site(scratch or {}))
        self._write("projects.d/heart.toml", self._project())
        common = Common(self.config, "stager")
        (directory / "inner").mkdir()
        self.archive = Archive(PluginContext(ARCHIVE, {}, directory / "inner", common.clock))
        self._stop = threading.Event()
        self.node = RemoteScratch(
            f"https://{HOST}:{self.ports['intake']}", host_credential(common.config.trust)
        )
        self._storing = Storing(
            StoringSettings("storing", common.node, idle_s=0.02, pause_s=0.2),
            {ARCHIVE: PluginHost(self.archive, name=ARCHIVE)},
            common.stores,
            self.node,
            common.areas(),
            Ed25519PrivateKey.generate(),
            common.audit,
            common.clock,
            arrived={ARCHIVE: {Release("heart", "none", "v1"): lambda _: None}},
        )
        self._inner: threading.Thread | None = None

    def start(self, *, inner: bool = True) -> None:
        """Start front and doors, and the inner zone unless it is to come later."""
        self.processes.start(*(Unit(role, role, self.config) for role in ("front", "transfer")))
        if inner:
            self.start_inner()

    def start_inner(self) -> None:
        """Let the inner zone come for what is handed in."""
        self._stop.clear()
        self._inner = threading.Thread(target=self._storing.run, args=(self._stop,), daemon=True)
        self._inner.start()

    def stop_inner(self) -> None:
        """Let it come no more."""
        self._stop.set()
        if self._inner is not None:
            self._inner.join(10)

    def stop(self) -> None:
        """Stop everything."""
        self.stop_inner()
        self.processes.stop_all()
        self.node.close()

    def surl(self, name: str) -> str:
        """Return the full SURL of a name that somebody hands an image in by."""
        return f"srm://{HOST}:{self.ports['srm']}/srm/managerv2?SFN={ROOT}/{name}"

    def url(self, name: str, scheme: str = "https") -> str:
        """Return its URL at a door."""
        port = self.ports["gridftp" if scheme == "gsiftp" else "webdav"]
        return f"{scheme}://{HOST}:{port}{ROOT}/{name}"

    def outer_disk(self) -> dict[Path, bytes]:
        """Return all that the outer zone has on its disk: scratch, database, audit, logs, configuration."""
        files = [path for place in _OUTER for path in (self.directory / place).rglob("*")]
        found = {}
        for path in files:
            try:
                found[path] = path.read_bytes()
            except (IsADirectoryError, FileNotFoundError):
                continue
        return found

    def waiting(self) -> list[Path]:
        """Return the files in scratch that are being handed in."""
        return sorted((self.directory / "outer" / "scratch" / "incoming").iterdir())

    def _write(self, name: str, table: Mapping[str, Any]) -> None:
        path = self.directory / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(table) + "\n")

    def _site(self, scratch: Mapping[str, int]) -> dict[str, Any]:
        def listen(name: str) -> dict[str, Any]:
            return {"host": HOST, "port": self.ports[name]}

        (self.directory / "outer").mkdir()
        dn = self.pki.dn(Credential(self.host.certificate, self.host.key, self.pki.trust_dir))
        area = {"path": ROOT, "project": "heart", "plugin": ARCHIVE, "sealed": True}
        return {
            "database": f"sqlite:///{self.directory}/outer/srm-dicom.db",
            "audit": self.directory / "audit",
            "projects": self.directory / "etc" / "projects.d",
            "site": {"name": "site", "vo": "vo", "host": HOST},
            "trust": {
                "certificates": self.pki.trust_dir,
                "host_certificate": self.host.certificate,
                "host_key": self.host.key,
            },
            "scratch": {"directory": self.directory / "outer" / "scratch", **scratch},
            "srm": listen("srm"),
            "gridftp": {"data_ports": [20000, 24999], "listen": listen("gridftp")},
            "webdav": {"listen": listen("webdav")},
            "intake": {"stagers": [dn], "listen": listen("intake")},
            "areas": [area],
            "catalogues": {"keys": [], "files": "", "metadata": []},
        }

    def _project(self) -> dict[str, Any]:
        return {
            "id": "heart",
            "permit": "permit",
            "purpose": "test",
            "profile": "none",
            "basis": "consent",
            "valid_until": datetime.now(UTC).replace(microsecond=0) + timedelta(days=9),
            "members": [
                {"user": self.pki.dn(self.physician), "rights": ["ingest"]},
                {"user": self.pki.dn(self.bob), "rights": ["file", "write"]},
            ],
        }
