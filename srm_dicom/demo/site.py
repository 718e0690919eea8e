"""A whole site in one directory: certificates, configuration, projects, users, processes.

What an administrator spreads over machines and users stands here side by side on loopback, every
service in a process of its own and the two zones apart. The authority, the users and the patients are
made up on the spot.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from mdm_keys.server import public_key
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.client.site import SiteDescription
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.demo.processes import Processes, Unit
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import are_free, free_ports
from srm_dicom.tomlfile import dump

HOST = "localhost"
PROJECT = "demo"
INGEST = "/biomed/ingest"
"""Where the physician hands in images, if that is opened."""

KEY_SERVERS = 3
THRESHOLD = 2
GRANTS: Mapping[str, tuple[str, ...]] = {
    "physician": ("file", "key", "search", "nominative"),
    "researcher": ("file", "key", "search"),
    "replica-manager": ("file",),
    "stranger": (),
}
"""Users of the demo and their rights; none of the three implies another."""

_PORTS = (
    "srm",
    "gridftp",
    "intake",
    "webdav",
    "files",
    "metadata",
    "moves",
    "arrivals",
    "pacs",
    "keys-1",
    "keys-2",
    "keys-3",
)


PORTS_FILE = "ports.json"
"""Which ones a site has, for when it is opened again: the SURLs that are in its catalogues have them."""


class DemoSite:
    """One site below `directory`; `write` makes it, `start` runs it."""

    def __init__(
        self,
        directory: Path,
        *,
        archive: Archive | None = None,
        plugins: Mapping[str, Any] | None = None,
        push: bool = True,
        handing_in: bool = False,
    ) -> None:
        """Describe a site.

        Args:
            directory: where everything goes.
            archive: the PACS; by default one that the demo runs on a port of its own.
            plugins: ``plugins.d`` files by name; by default ``dicom`` over the archive.
            push: let the stager push into the node over https, as between two machines; otherwise it
                writes into scratch itself.
            handing_in: let the physician hand in images, which go into the archive.
        """
        self.directory = directory
        self.ports = _ports(directory / PORTS_FILE)
        self.archive = archive or Archive("PACS", HOST, self.ports["pacs"])
        self.processes = Processes(directory / "log")
        self._plugins = plugins
        self._push = push
        self._handing_in = handing_in

    @cached_property
    def pki(self) -> TestPki:
        """The site's own authority."""
        return TestPki(self.directory / "pki")

    @cached_property
    def host(self) -> HostCredential:
        """The one host certificate of the machine."""
        return self.pki.host(HOST)

    @cached_property
    def users(self) -> Mapping[str, Credential]:
        """Every user's proxy by name."""
        return {name: self.pki.proxy(self.pki.user(name)) for name in GRANTS}

    @property
    def config(self) -> Path:
        """Where ``srm-dicom.toml`` is."""
        return self.directory / "etc" / "srm-dicom.toml"

    @cached_property
    def description(self) -> SiteDescription:
        """What a user's tools need to know of the site."""
        secrets = InnerSecrets.load(self.directory / "inner" / "secrets")
        return SiteDescription(
            name=PROJECT,
            srm=f"httpg://{HOST}:{self.ports['srm']}/srm/managerv2",
            files=f"https://{HOST}:{self.ports['files']}",
            metadata=(f"{HOST}:{self.ports['metadata']}",),
            keys=tuple(f"https://{HOST}:{self.ports[name]}" for name in self.key_servers),
            signing_keys=(secrets.signing_key.public_key().public_bytes_raw().hex(),),
            gridftp=f"gsiftp://{HOST}:{self.ports['gridftp']}",
        )

    @property
    def key_servers(self) -> Sequence[str]:
        """Names of the key servers' units."""
        return [f"keys-{number}" for number in range(1, KEY_SERVERS + 1)]

    def write(self) -> None:
        """Make certificates, secrets and every configuration file."""
        secrets = InnerSecrets.create(self.directory / "inner" / "secrets")
        (self.directory / PORTS_FILE).write_text(json.dumps(self.ports) + "\n")
        self._write("srm-dicom.toml", self._site())
        (self.directory / "etc" / "ban.list").touch()
        self._write(f"projects.d/{PROJECT}.toml", self._project())
        for name, table in (self._plugins or {"dicom": self._dicom()}).items():
            self._write(f"plugins.d/{name}.toml", table)
        signing_key = secrets.signing_key.public_key().public_bytes_raw().hex()
        own = {name: public_key(self._database("keys", name)).hex() for name in self.key_servers}
        for name in self.key_servers:
            server = {"creators": [self._host_dn()], "sites": [signing_key], "port": self.ports[name]}
            server["peers"] = [key for other, key in own.items() if other != name]
            self._write(f"catalog.d/{name}.toml", self._catalogue("keys", name, server))
        for role in ("files", "metadata"):
            server = {"registrars": [self._host_dn()], "port": self.ports[role]}
            self._write(f"catalog.d/{role}.toml", self._catalogue(role, role, server))

    def units(self) -> list[Unit]:
        """Return every process of the site."""
        catalogues = self.directory / "etc" / "catalog.d"
        return [
            *(Unit(name, "keys", catalogues / f"{name}.toml") for name in self.key_servers),
            Unit("files", "files", catalogues / "files.toml"),
            Unit("metadata", "metadata", catalogues / "metadata.toml"),
            *(Unit(role, role, self.config) for role in ("front", "transfer", "stager", "registrar")),
        ]

    def start(self) -> None:
        """Start every process and wait until all are ready."""
        self.processes.start(*self.units())

    def stop(self) -> None:
        """Stop every process."""
        self.processes.stop_all()

    def describe(self, samples: Mapping[str, Any]) -> None:
        """Write ``site.json`` (for programs) and ``env.sh`` (for the next terminal)."""
        proxies = {name: str(credential.certificate) for name, credential in self.users.items()}
        site = {
            **self.description.to_json(),
            "proxies": proxies,
            "certificates": str(self.pki.trust_dir),
            "config": str(self.config),
            **samples,
        }
        (self.directory / "site.json").write_text(json.dumps(site, indent=2) + "\n")
        exports = {
            "MDM_SITE": self.directory / "site.json",
            "X509_USER_PROXY": proxies["researcher"],
            "X509_CERT_DIR": self.pki.trust_dir,
            **{name.upper(): value for name, value in samples.get("samples", {}).items()},
        }
        lines = [f"export {name}={shlex.quote(str(value))}" for name, value in exports.items()]
        # Debian's gfal programs are for Debian's Python, whatever other one stands first on the path.
        lines.append('export GFAL_PYTHONBIN="${GFAL_PYTHONBIN:-/usr/bin/python3}"')
        lines.append(f'export PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}')
        (self.directory / "env.sh").write_text("\n".join(lines) + "\n")

    # --- configuration files ---------------------------------------------------------------------

    def _write(self, name: str, table: Mapping[str, Any]) -> None:
        path = self.directory / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(table) + "\n", encoding="utf-8")

    def _trust(self) -> dict[str, Any]:
        return {
            "certificates": self.pki.trust_dir,
            "host_certificate": self.host.certificate,
            "host_key": self.host.key,
            "ban_file": self.directory / "etc" / "ban.list",
        }

    def _host_dn(self) -> str:
        return self.pki.dn(Credential(self.host.certificate, self.host.key, self.pki.trust_dir))

    def _site(self) -> dict[str, Any]:
        here = self.directory
        intake = {"stagers": [self._host_dn()], "listen": {"host": HOST, "port": self.ports["intake"]}}
        return {
            "database": f"sqlite:///{here}/outer/srm-dicom.db",
            "audit": here / "audit",
            "metrics": self._metrics(),
            "projects": here / "etc" / "projects.d",
            "site": {"name": "hospital", "vo": "biomed", "host": HOST},
            "trust": self._trust(),
            "scratch": {"directory": here / "outer" / "scratch"},
            "srm": {"host": HOST, "port": self.ports["srm"]},
            "gridftp": {
                "data_ports": [20000, 24999],
                "listen": {"host": HOST, "port": self.ports["gridftp"]},
            },
            "webdav": {"listen": {"host": HOST, "port": self.ports["webdav"]}},
            **({"intake": intake} if self._push else {}),
            **({"areas": [self._area()]} if self._handing_in else {}),
            "inner": {
                "node": f"https://{HOST}:{self.ports['intake']}" if self._push else "",
                "secrets": here / "inner" / "secrets",
                "database": f"sqlite:///{here}/inner/journal.db",
                "spool": here / "inner" / "spool",
                "plugins": here / "etc" / "plugins.d",
                "visit_s": 120.0,
            },
            "registrar": {"settle_s": 1.0, "publish_s": 1.0, "level": "index"},
            "catalogues": {
                "keys": [f"https://{HOST}:{self.ports[name]}" for name in self.key_servers],
                "threshold": THRESHOLD,
                "one_machine": True,
                "files": f"https://{HOST}:{self.ports['files']}",
                "metadata": [f"{HOST}:{self.ports['metadata']}"],
            },
        }

    def _project(self) -> dict[str, Any]:
        return {
            "id": PROJECT,
            "permit": "throw-away",
            "purpose": "showing how it works",
            "profile": "basic",
            "basis": "synthetic images",
            "valid_until": datetime.now(UTC).replace(microsecond=0) + timedelta(days=30),
            "members": [
                {"user": self.pki.dn(self.users[name]), "rights": [*rights, *self._more(name)]}
                for name, rights in GRANTS.items()
                if rights
            ],
        }

    def _more(self, user: str) -> Sequence[str]:
        return ("ingest",) if self._handing_in and user == "physician" else ()

    def _area(self) -> dict[str, Any]:
        return {"path": INGEST, "project": PROJECT, "plugin": "dicom", "sealed": True}

    def _dicom(self) -> dict[str, Any]:
        archive, more = self.archive, {"uploads_to": "archive"} if self._handing_in else {}
        source = {"name": "archive", "ae_title": archive.ae_title, "host": archive.host, "port": archive.port}
        return {
            "plugin": "dicom",
            "projects": [PROJECT],
            "settings": {
                "sources": [source],
                "moves": {"ae_title": "MDM1", "port": self.ports["moves"]},
                "arrivals": {"ae_title": "MDMIN", "port": self.ports["arrivals"]},
                **more,
            },
        }

    def _catalogue(self, role: str, name: str, server: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "role": role,
            "audit": self.directory / name / "audit",
            "metrics": self._metrics(),
            "trust": self._trust(),
            "server": {"host": HOST, "database": self._database(role, name), **server},
        }

    def _metrics(self) -> Path:
        directory = self.directory / "metrics"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _database(self, role: str, name: str) -> str:
        return f"sqlite:///{self.directory}/{name}/{role}.db"


def _ports(known: Path) -> dict[str, int]:
    """Return the ports of an earlier run, if they are free still, or others."""
    with suppress(OSError, ValueError):
        ports: dict[str, int] = json.loads(known.read_text())
        if ports.keys() == set(_PORTS) and are_free(ports.values()):
            return ports
    return free_ports(_PORTS)
