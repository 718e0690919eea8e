"""A metadata server on loopback with a registrar, a physician, a researcher and a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mdm_metadata.server import MetadataServer
from mdm_metadata.settings import MetadataSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.amga import AmgaChannel
from srm_dicom.client.metadata import AttributeSpec, MetadataClient, MetadataEntry
from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import Guid, SitePath
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.databases import database_url
from srm_dicom.testing.pki import TestPki

T = TypeVar("T")
HEART = SitePath("/mdm/here/heart-v1/image")
LUNG = SitePath("/mdm/here/lung-v1/image")
SCHEMA = [
    AttributeSpec("Modality", "varchar(16)"),
    AttributeSpec("SliceThickness", "float"),
    AttributeSpec("Rows", "int"),
    AttributeSpec("PatientName", "varchar(64)", "nominative"),
]
GUIDS = [Guid(f"00000000-0000-4000-8000-00000000000{n}") for n in range(6)]


class Site:
    """The server, its people and their clients."""

    def __init__(self, directory: Path, pki: TestPki) -> None:
        self.pki = pki
        self.directory = directory
        self.users = {name: pki.user(name) for name in ("registrar", "physician", "researcher", "stranger")}
        self.dns = {name: pki.dn(credential) for name, credential in self.users.items()}
        clock = SystemClock()
        self.audit = AuditLog(directory / "audit", "metadata", "here", clock)
        settings = MetadataSettings(
            database=database_url(directory, "metadata"),
            port=0,
            registrars=(self.dns["registrar"],),
            indexed=("Modality",),
            rows=2000,
            handshake_s=3.0,
        )
        gate = Gate(TrustSettings(pki.trust_dir), pki.host(), clock)
        self.server = MetadataServer(settings, gate, self.audit, clock)
        self.server.start()
        self.endpoint = f"localhost:{self.server.port}"
        self._open: dict[tuple[type, Credential], Any] = {}
        self._limited: dict[str, Credential] = {}

    def client(self, who: str | Credential) -> MetadataClient:
        return self._kept(MetadataClient, who)

    def channel(self, who: str | Credential) -> AmgaChannel:
        return self._kept(AmgaChannel, who)

    def _kept(self, kind: type[T], who: str | Credential) -> T:
        credential = self.users[who] if isinstance(who, str) else who
        if (kind, credential) not in self._open:
            self._open[kind, credential] = kind(self.endpoint, credential, timeout_s=60)
        return self._open[kind, credential]

    def limited(self, who: str) -> Credential:
        if who not in self._limited:
            self._limited[who] = self.pki.proxy(self.users[who], limited=True)
        return self._limited[who]

    def close(self) -> None:
        for client in self._open.values():
            client.close()
        self.server.stop()
        self.audit.close()

    def fill(self) -> None:
        client = self.client("registrar")
        client.register(HEART, SCHEMA, [_entry(n, "heart") for n in range(4)])
        client.register(LUNG, SCHEMA, [_entry(n, "lung") for n in range(4, 6)])
        physician, researcher = self.dns["physician"], self.dns["researcher"]
        client.set_acl(HEART, Acl.parse(f'user:"{physician}":rn\nuser:"{researcher}":r'))
        client.set_acl(LUNG, Acl.parse(f'user:"{physician}":rn'))
        for collection in (HEART, LUNG):
            client.set_valid_until(collection, datetime.now(UTC) + timedelta(days=30))


def _entry(number: int, project: str) -> MetadataEntry:
    guid = GUIDS[number]
    return MetadataEntry(
        guid,
        f"lfn:/grid/mdm/here/{project}/{number}.dcm.c4gh",
        f"srm://here:8446/mdm/here/{project}/{number}.dcm.c4gh",
        {
            "Modality": ("CT", "MR")[number % 2],
            "SliceThickness": 0.5 + number,
            "Rows": 512 if number else None,
            "PatientName": f"Doe^John{number}",
        },
    )


@pytest.fixture(scope="session")
def metadata_pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, metadata_pki: TestPki) -> Iterator[Site]:
    """One filled site a module; tests that change it put back what they changed or use their own names."""
    running = Site(tmp_path_factory.mktemp("metadata"), metadata_pki)
    running.fill()
    yield running
    running.close()
