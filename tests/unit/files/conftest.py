"""A file catalogue on loopback with a registrar, a researcher, an owner and a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdm_files.server import FileCatalogue, FileCatalogueSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.files import FileCatalogueClient, FileRecord
from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import Guid, SitePath
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.databases import database_url
from srm_dicom.testing.pki import TestPki

TOP = "/grid/vo/mdm/here"


class Site:
    """The catalogue, its people and their clients."""

    def __init__(self, directory: Path, pki: TestPki) -> None:
        self.pki = pki
        self.users = {name: pki.user(name) for name in ("registrar", "researcher", "owner", "stranger")}
        self.dns = {name: pki.dn(credential) for name, credential in self.users.items()}
        clock = SystemClock()
        self.audit = AuditLog(directory / "audit", "files", "here", clock)
        settings = FileCatalogueSettings(
            database=database_url(directory, "files"),
            registrars=(self.dns["registrar"],),
            host="localhost",
            port=0,
            body_bytes=1024 * 1024,
        )
        gate = Gate(TrustSettings(pki.trust_dir), pki.host(), clock)
        self.server = FileCatalogue(settings, gate, self.audit, clock)
        self.server.start()
        self.url = f"https://localhost:{self.server.port}"
        self._open: dict[Credential, FileCatalogueClient] = {}
        self._limited: dict[str, Credential] = {}

    def client(self, who: str | Credential) -> FileCatalogueClient:
        credential = self.users[who] if isinstance(who, str) else who
        if credential not in self._open:
            self._open[credential] = FileCatalogueClient(self.url, credential, timeout_s=60)
        return self._open[credential]

    def limited(self, who: str) -> Credential:
        if who not in self._limited:
            self._limited[who] = self.pki.proxy(self.users[who], limited=True)
        return self._limited[who]

    def record(self, number: int, project: str = "heart-v1") -> FileRecord:
        """A file; those of project heart-v1 are the researcher's to see."""
        reader = self.dns["researcher"] if project == "heart-v1" else "/CN=somebody else"
        return FileRecord(
            lfn=SitePath(f"{TOP}/{project}/p1/s1/{number}.dcm.c4gh"),
            guid=guid_of(number),
            surls=(f"srm://here:8446/vo/mdm/here/{project}/{number}.dcm.c4gh",),
            public_key=f"{number:064x}",
            key_id=f"key-{number}",
            acl=str(Acl.parse(f'user:"{reader}":r')),
        )

    def fill(self) -> None:
        client = self.client("registrar")
        client.register([self.record(number) for number in range(4)])
        client.register([self.record(number, "lung-v1") for number in range(10, 13)])

    def close(self) -> None:
        for client in self._open.values():
            client.close()
        self.server.stop()
        self.audit.close()


def guid_of(number: int) -> Guid:
    return Guid(f"00000000-0000-4000-8000-{number:012d}")


@pytest.fixture(scope="session")
def files_pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


@pytest.fixture
def site(tmp_path: Path, files_pki: TestPki) -> Iterator[Site]:
    """A filled catalogue of the test's own."""
    running = Site(tmp_path, files_pki)
    running.fill()
    yield running
    running.close()
