"""The files of a new site, from a few answers; what they do not say has its default.

<home>/srm-dicom.toml, ban.list, projects.d/        the outer zone; the projects are both zones'
<home>/inner/srm-dicom.toml, plugins.d/dicom.toml   the inner zone
<home>/catalog.d/{keys,files,metadata}.toml         for the machines where these run
<home>/site.json                                    for the users
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from srm_dicom.client.site import SiteDescription
from srm_dicom.tomlfile import dump

SRM_PORT, GRIDFTP_PORT, INTAKE_PORT = 8446, 2811, 8445
MOVES, ARRIVALS = ("MDM1", 11112), ("MDMIN", 11110)
"""Our AEs: the title and port of each."""

_HEAD = "# {what}\n# What is not here has its default; docs/admin/configuration.md has every key.\n\n"


@dataclass(frozen=True, slots=True)
class Archive:
    """The PACS, as a DICOM node."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answers:
    """What is to be known of a site.

    Attributes:
        home: where the files go.
        data: where the services keep what they have.
        registrar: name of the inner zone's host certificate.
        keys: URLs of the key servers.
        files: URL of the file catalogue.
        metadata: ``host:port``.
        project: id of the first project; `permit` and the rest are its.
    """

    home: Path
    data: Path
    registrar: str
    name: str
    vo: str
    host: str
    pacs: Archive
    keys: tuple[str, ...]
    files: str
    metadata: str
    project: str
    permit: str
    purpose: str
    basis: str
    ends: datetime

    @property
    def threshold(self) -> int:
        """How many key servers a key needs, by Hydra's rule: one of one, two of three, three of five."""
        return len(self.keys).bit_length()


def files(answers: Answers, signing_key: str) -> Mapping[str, str]:
    """Return the content of every file, by its name below `home`.

    Args:
        answers: the site.
        signing_key: the public half, hexadecimal.
    """
    a, common = answers, _common(answers)
    own = {"host_certificate": "hostcert.pem", "host_key": "hostkey.pem", "ban_file": "../ban.list"}
    outer = {
        **common,
        "projects": "projects.d",
        "trust": {"ban_file": "ban.list"},
        "intake": {"stagers": [a.registrar]},
    }
    inner = {**common, "projects": "../projects.d", "trust": own, "inner": _inner(a)}
    keys, names, metadata = (urlsplit(url).port for url in (a.keys[0], a.files, f"//{a.metadata}"))
    registering = {"registrars": [a.registrar]}
    creating = {"creators": [a.registrar], "sites": [signing_key]}
    return {
        "srm-dicom.toml": _text(f"The outer zone of {a.name}.", outer),
        "ban.list": "",
        f"projects.d/{a.project}.toml": _project(a),
        "inner/srm-dicom.toml": _text(f"The inner zone of {a.name}.", inner),
        "inner/plugins.d/dicom.toml": _text("The PACS.", _plugin(a)),
        "catalog.d/keys.toml": _catalogue(a, "keys", keys, creating),
        "catalog.d/files.toml": _catalogue(a, "files", names, registering),
        "catalog.d/metadata.toml": _catalogue(a, "metadata", metadata, registering),
        "site.json": json.dumps(_description(a, signing_key).to_json(), indent=2) + "\n",
    }


def _text(what: str, table: Mapping[str, Any]) -> str:
    return _HEAD.format(what=what) + dump(table) + "\n"


def _common(a: Answers) -> dict[str, Any]:
    """Return what the two zones' files have in common."""
    return {
        "database": f"sqlite:///{a.data}/outer/srm-dicom.db",
        "audit": a.data / "audit",
        "site": {"name": a.name, "vo": a.vo, "host": a.host},
        "scratch": {"directory": a.data / "outer" / "scratch"},
        "catalogues": {"keys": a.keys, "threshold": a.threshold, "files": a.files, "metadata": [a.metadata]},
    }


def _inner(a: Answers) -> dict[str, Any]:
    return {
        "node": f"https://{a.host}:{INTAKE_PORT}",
        "secrets": a.data / "inner" / "secrets",
        "database": f"sqlite:///{a.data}/inner/journal.db",
        "spool": a.data / "inner" / "spool",
        "plugins": "plugins.d",
    }


def _plugin(a: Answers) -> dict[str, Any]:
    pacs = {"ae_title": a.pacs.ae_title, "host": a.pacs.host, "port": a.pacs.port}
    sources = [{"kind": "dicom", "name": "main", **pacs}]
    nodes = {
        kind: {"ae_title": title, "port": port, "bind": "0.0.0.0"}  # noqa: S104 - the PACS calls from elsewhere
        for kind, (title, port) in (("moves", MOVES), ("arrivals", ARRIVALS))
    }
    return {"plugin": "dicom", "projects": [a.project], "settings": {"sources": sources, **nodes}}


def _project(a: Answers) -> str:
    """Return a project without members: who may what is for people to write."""
    table = {
        "id": a.project,
        "permit": a.permit,
        "purpose": a.purpose,
        "profile": "basic",
        "basis": a.basis,
        "valid_until": a.ends,
    }
    members = f'\n# [[members]]\n# group = "/{a.vo}/{a.project}"\n# rights = ["file", "key", "search"]\n'
    return _text("What data leave for. As long as it has no members nobody gets any.", table) + members


def _catalogue(a: Answers, role: str, port: int | None, server: Mapping[str, Any]) -> str:
    here = a.data / role
    table = {
        "role": role,
        "audit": here / "audit",
        "server": {"database": f"sqlite:///{here}/{role}.db", **({"port": port} if port else {}), **server},
    }
    return _text(f"The catalogue of {role}, for the machine where it runs.", table)


def _description(a: Answers, signing_key: str) -> SiteDescription:
    return SiteDescription(
        name=a.name,
        srm=f"httpg://{a.host}:{SRM_PORT}/srm/managerv2",
        files=a.files,
        metadata=(a.metadata,),
        keys=a.keys,
        signing_keys=(signing_key,),
        gridftp=f"gsiftp://{a.host}:{GRIDFTP_PORT}",
    )
