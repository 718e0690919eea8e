"""The ``glite-eds-*`` programs as users run them: key servers, a catalogue, a storage element, real gfal."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mdm_files.server import FileCatalogue, FileCatalogueSettings
from mdm_keys.server import KeyServer, KeyServerSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.files import FileCatalogueClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.clock import SystemClock
from srm_dicom.crypto.keyfile import write_secret_key
from srm_dicom.crypto.sealing import seal
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import NotFound
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.element import StorageElement

LFN = "lfn:/grid/vo/mdm/results/table.csv"
GUID = r"[0-9a-f-]{36}"
RATE = r"  Eff\.Transfer Rate\[Mb/s\] : [\d.]+\n"

pytestmark = [pytest.mark.interop("gfal-copy"), pytest.mark.timeout(400)]


def line(name: str) -> str:
    return re.escape(f"  {name:24}: ")


class Site:
    """A storage element of the site's own, three key servers, a file catalogue, and a user at a shell.

    Alice may make keys, write names and write files. Reader may read files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.element = StorageElement(directory / "se")
        self.pki, self.stored = self.element.pki, self.element.root / "uploads/vo/data"
        self.signing_key = Ed25519PrivateKey.generate()
        self.alice = self.pki.dn(self.element.alice)
        self._clock = SystemClock()
        self._gate = Gate(TrustSettings(self.pki.trust_dir), self.pki.host(), self._clock)
        self._audits: list[AuditLog] = []
        self._keys = [self._key_server(number) for number in range(3)]
        files = FileCatalogueSettings(self._database("files"), (self.alice,), "127.0.0.1", 0)
        self._files = FileCatalogue(files, self._gate, self._audit("files"), self._clock)
        self.urls = tuple(f"https://localhost:{server.port}" for server in self._keys)
        self.files_url = f"https://localhost:{self._files.port}"
        self._describe()
        for service in (self.element, self._files, *self._keys):
            service.start()

    def _key_server(self, number: int) -> KeyServer:
        known = self.signing_key.public_key().public_bytes_raw().hex()
        settings = KeyServerSettings(
            database=self._database(f"keys{number}"),
            sites=(known,),
            creators=(self.alice,),
            host="127.0.0.1",
            port=0,
        )
        return KeyServer(settings, self._gate, self._audit(f"keys{number}"), self._clock)

    def _database(self, name: str) -> str:
        return f"sqlite://{self.directory}/{name}.db"

    def _audit(self, name: str) -> AuditLog:
        self._audits.append(AuditLog(self.directory / "audit", name, "localhost", self._clock))
        return self._audits[-1]

    def _describe(self) -> None:
        (self.directory / "signing.key").write_bytes(self.signing_key.private_bytes_raw())
        site = {
            "name": "here",
            "srm": f"httpg://localhost:{self.element.srm.port}/srm/managerv2",
            "files": self.files_url,
            "metadata": [],
            "keys": self.urls,
            "signing_keys": [self.signing_key.public_key().public_bytes_raw().hex()],
        }
        (self.directory / "site.json").write_text(json.dumps(site))

    def run(self, program: str, *words: Any, by: Any = None, code: int = 0, errors: bool = False) -> str:
        """Run a program and return what it prints, its errors if it fails; its exit code has to be `code`."""
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *map(str, words)],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "LC_ALL": "C.UTF-8",
                "MDM_SITE": str(self.directory / "site.json"),
                "MDM_SIGNING_KEY": str(self.directory / "signing.key"),
                "GLITE_EDS_SE": self.element.surl(),
                **self.pki.environment(by or self.element.alice),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code or errors else done.stdout

    def key(self, key_id: str) -> bytes:
        """Fetch a key as Alice."""
        servers = KeyServers(
            self.urls, self.element.alice, sites=trusting(self.signing_key.public_key()), timeout_s=30
        )
        try:
            return servers.fetch(key_id)
        finally:
            servers.close()

    def stop(self) -> None:
        for service in (self._files, *self._keys, self.element):
            service.stop()
        for audit in self._audits:
            audit.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("eds"))
    yield made
    made.stop()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(os.urandom(150_000))
    return path


def test_a_files_whole_life(site: Site, table: Path, tmp_path: Path) -> None:
    told = site.run("glite-eds-put", table, LFN)
    match = re.fullmatch(
        rf"File Transfer Completed\nTransfer Completed:\n\n{line('LFN')}{LFN}\n{line('GUID')}({GUID})\n"
        rf"{line('SURL')}(srm://\S+/\1)\n{line('Data Written [bytes]')}150000\n{RATE}\n",
        told,
    )
    assert match, told
    guid = match[1]
    sealed = (site.stored / guid).read_bytes()
    assert sealed.startswith(b"crypt4gh")
    assert table.read_bytes()[:64] not in sealed
    stock_opens(sealed, site.key(guid), table.read_bytes(), tmp_path)
    told = site.run("glite-eds-get", LFN, tmp_path / "back")
    assert re.fullmatch(
        rf"\nTransfer Completed:\n\n{line('LFN')}{LFN}\n{line('GUID')}{guid}\n{line('SURL')}srm://\S+\n"
        rf"{line('Remote Read [bytes]')}{len(sealed)}\n{line('Locally Written [bytes]')}150000\n{RATE}\n",
        told,
    )
    assert (tmp_path / "back").read_bytes() == table.read_bytes()

    head = f"# User: {site.alice}\n# Group: \n# Base perms: user pdrwl-gs, group --------, other --------\n"
    assert site.run("glite-eds-getacl", LFN) == f"# ENTRY: {LFN}\n{head}"
    reader = site.pki.dn(site.element.reader)
    site.run("glite-eds-setacl", "-m", f"{reader}:xg", LFN)
    assert site.run("glite-eds-getacl", guid) == f"# ENTRY: {guid}\n{head}{reader}:-----xg-\n"
    site.run("glite-eds-chmod", "g+r", LFN)
    assert "group --r-----, other" in site.run("glite-eds-getacl", LFN)
    site.run("glite-eds-decrypt", guid, site.stored / guid, tmp_path / "readers", by=site.element.reader)
    assert (tmp_path / "readers").read_bytes() == table.read_bytes()
    site.run("glite-eds-setacl", "-d", reader, LFN)
    refused = site.run(
        "glite-eds-decrypt", guid, site.stored / guid, tmp_path / "no", by=site.element.reader, code=11
    )
    assert "refuse" in refused

    told = site.run("glite-eds-rm", LFN)
    assert re.fullmatch(
        rf"\nUnlink Completed:\n\n  File          : {LFN}  \n  Time \[s\]      : [\d.]+  \n\n", told
    )
    assert not (site.stored / guid).exists()
    with pytest.raises(NotFound):
        site.key(guid)
    site.run("glite-eds-get", LFN, tmp_path / "gone", code=12)
    assert not (tmp_path / "gone").exists()


def test_a_key_is_registered_for_a_storage_that_encrypts(site: Site, table: Path, tmp_path: Path) -> None:
    """``-u``, as MDM registered images: the bytes go as they are, and the catalogue has the public half."""
    site.run("glite-eds-put", "-q", "-u", "-i", "series-7", table, f"{LFN}.7")
    client = FileCatalogueClient(site.files_url, site.element.alice, timeout_s=30)
    record = client.lookup(f"{LFN}.7")
    client.close()
    stored = site.stored / record.guid
    assert stored.read_bytes() == table.read_bytes()
    assert record.key_id == "series-7"
    # What such a storage does: it seals to the public half, and has nothing else.
    sealed = seal([bytes.fromhex(record.public_key)], [table.read_bytes()], secrets.token_bytes)
    (tmp_path / "sealed").write_bytes(b"".join(sealed))
    site.run("glite-eds-decrypt", f"{LFN}.7", tmp_path / "sealed", tmp_path / "opened")
    assert (tmp_path / "opened").read_bytes() == table.read_bytes()
    site.run("glite-eds-rm", f"{LFN}.7")
    assert not stored.exists()


def test_nothing_is_left_of_a_put_that_the_storage_refuses(site: Site, table: Path) -> None:
    before = set(site.stored.iterdir()) if site.stored.exists() else set()
    by = site.pki.proxy(site.pki.user("Nobody"))
    told = site.run("glite-eds-put", "-i", "refused", table, f"{LFN}.8", by=by, code=11)
    assert told.startswith("Error during glite_eds_register_encrypt_init: ")
    assert (set(site.stored.iterdir()) if site.stored.exists() else set()) == before
    with pytest.raises(NotFound):
        site.key("refused")


def test_a_key_by_itself(site: Site) -> None:
    told = site.run("glite-eds-key-register", "by-itself")
    assert told == "A key has been generated and registered for ID 'by-itself'\n"
    assert "another public half" in site.run("glite-eds-key-register", "by-itself", code=15)
    told = site.run("glite-eds-key-unregister", "by-itself")
    assert told == "The key has been unregistered for ID 'by-itself'\n"
    site.run("glite-eds-getacl", "by-itself", code=12)


def test_what_is_gone_already_is_only_warned_of(site: Site, table: Path, tmp_path: Path) -> None:
    site.run("glite-eds-put", "-q", "-i", "rm-1", table, f"{LFN}.9")
    site.run("glite-eds-key-unregister", "-q", "rm-1")
    assert "WARNING: during glite_eds_unregister: " in site.run("glite-eds-rm", f"{LFN}.9", errors=True)
    site.run("glite-eds-get", f"{LFN}.9", tmp_path / "gone", code=12)
    site.run("glite-eds-rm", f"{LFN}.9", code=12)
    site.run("glite-eds-key-register", "-q", "rm-2")
    told = site.run("glite-eds-rm", "-i", "rm-2", f"{LFN}.9", errors=True)
    assert f"WARNING: cannot unlink remote file {LFN}.9" in told
    with pytest.raises(NotFound):
        site.key("rm-2")
    assert told.count("WARNING") == 1
    site.run("glite-eds-rm", "-i", "rm-2", f"{LFN}.9", code=12)


def test_a_file_stays_while_its_key_cannot_be_removed(site: Site, table: Path) -> None:
    site.run("glite-eds-put", "-q", "-i", "kept", table, f"{LFN}.10")
    site.run("glite-eds-chmod", "u-d", "kept")
    refused = site.run("glite-eds-rm", f"{LFN}.10", code=11)
    assert refused.startswith("Error during glite_eds_unregister: ")
    site.run("glite-eds-chmod", "u+d", "kept")
    site.run("glite-eds-rm", f"{LFN}.10")


def stock_opens(sealed: bytes, private_key: bytes, clear: bytes, directory: Path) -> None:
    """The stock crypt4gh program reads what `glite-eds-put` stored."""
    (directory / "key").write_text(write_secret_key(private_key))
    stock = [Path(sys.executable).with_name("crypt4gh"), "decrypt", "--sk", directory / "key"]
    done = subprocess.run(stock, input=sealed, capture_output=True, timeout=60, check=True)
    assert done.stdout == clear
