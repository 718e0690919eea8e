"""gfal2 and ARC look around: the commands, exit codes and output that their users see."""

from __future__ import annotations

import errno
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import Guid, parse_path
from srm_dicom.rights.acl import Acl
from srm_dicom.srm.caller import Limits
from srm_dicom.srm.service import Settings, application
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.stores import Stores
from srm_dicom.testing.pki import TestPki as Pki
from srm_dicom.web.server import WebServer

pytestmark = pytest.mark.interop("gfal-ls", "arcls")

SERIES = "/vo/mdm/site/heart-v1/p/s"
SHOWN = datetime(2026, 11, 1, tzinfo=UTC)
MANY = 1200
"""More entries than the server answers at once here: ARC pages, by 999."""


@dataclass
class House:
    port: int
    directory: Path
    pki: Pki
    alice: Credential

    def run(self, *command: str, credential: Credential | None = None) -> subprocess.CompletedProcess[str]:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C",
            **self.pki.environment(credential or self.alice),
        }
        return subprocess.run(
            [f"/usr/bin/{command[0]}", *command[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def gfal(self, tool: str, *arguments: str, credential: Credential | None = None) -> str:
        done = self.run(tool, "-D", "BDII:ENABLED=false", *arguments, credential=credential)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def surl(self, path: str = "") -> str:
        return f"srm://localhost:{self.port}/srm/managerv2?SFN={SERIES}{path}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("srm")
    pki = Pki(directory / "pki")
    alice = pki.user("Alice")
    stores = Stores.open(f"sqlite:///{directory}/names.db")
    acl = Acl.parse(f'user:"{pki.dn(alice)}":rx')
    names = stores.namespace
    names.make_directory(parse_path(SERIES), acl, SHOWN)
    names.make_directory(parse_path(f"{SERIES}/many"), acl, SHOWN)
    known = Facts(524_300, "0d370270", "{}")
    names.add_file(_file(f"{SERIES}/a.dcm.c4gh", acl, 1, known))
    names.add_file(_file(f"{SERIES}/b.dcm.c4gh", acl, 2, None))
    for number in range(MANY):
        names.add_file(_file(f"{SERIES}/many/{number:04d}", acl, 100 + number, known))
    clock = SystemClock()
    audit = AuditLog(directory / "audit", "front", "host", clock)
    access = FileAccess(names, {}, audit, clock)
    nodes = {"node": {"gsiftp": "gsiftp://localhost:2811"}}
    broker = Broker(BrokerSettings("localhost", nodes), stores, access, clock)
    app = application(broker, Settings(limits=Limits(max_entries=1000)))
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), clock)
    server = WebServer(app, gate, host="localhost", port=0, maximum_tls=ssl.TLSVersion.TLSv1_2, name="srm")
    server.start()
    yield House(server.port, directory, pki, pki.proxy(alice))
    server.stop()


def _file(path: str, acl: Acl, number: int, facts: Facts | None) -> Entry:
    guid = Guid(f"00000000-0000-4000-8000-{number:012d}")
    return Entry(parse_path(path), Kind.FILE, "", acl, SHOWN, guid=guid, facts=facts)


def test_gfal_ls_long(house: House) -> None:
    rows = [line.split() for line in house.gfal("gfal-ls", "-l", house.surl()).splitlines()]
    listed = {row[-1]: row for row in rows}
    assert set(listed) == {"a.dcm.c4gh", "b.dcm.c4gh", "many"}
    assert listed["a.dcm.c4gh"][0] == "-r--r-x---"
    assert listed["a.dcm.c4gh"][4] == "524300"
    assert listed["b.dcm.c4gh"][4] == "0"
    assert listed["many"][0].startswith("dr-xr-x")


def test_gfal_stat(house: House) -> None:
    told = house.gfal("gfal-stat", house.surl("/a.dcm.c4gh"))
    assert "524300" in told
    assert "regular file" in told
    assert "2026-11-01" in told


def test_gfal_sees_where_the_bytes_are(house: House) -> None:
    assert house.gfal("gfal-xattr", house.surl("/a.dcm.c4gh"), "user.status").strip() == "NEARLINE"


def test_gfal_sum_takes_the_registered_checksum(house: House) -> None:
    assert house.gfal("gfal-sum", house.surl("/a.dcm.c4gh"), "ADLER32").split()[-1] == "0d370270"


@pytest.mark.parametrize("name", ["/none", "/a.dcm.c4gh"])
def test_gfal_of_a_stranger_finds_nothing(house: House, name: str) -> None:
    stranger = house.pki.proxy(house.pki.user(f"Stranger{name[1]}"))
    done = house.run("gfal-ls", "-D", "BDII:ENABLED=false", house.surl(name), credential=stranger)
    assert done.returncode == errno.ENOENT
    assert "SRM_INVALID_PATH" in done.stderr


def test_gfal_says_that_a_directory_is_too_large(house: House) -> None:
    done = house.run("gfal-ls", "-D", "BDII:ENABLED=false", house.surl("/many"))
    assert done.returncode != 0
    assert "offset and count" in done.stderr or "TOO_MANY" in done.stderr


def test_arcls(house: House) -> None:
    done = house.run("arcls", "-l", house.surl())
    assert done.returncode == 0, done.stderr
    assert "a.dcm.c4gh" in done.stdout
    assert "524300" in done.stdout


def test_arcls_pages_through_a_large_directory(house: House) -> None:
    done = house.run("arcls", house.surl("/many"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == MANY


def test_gfal_mkdir_needs_the_right_to_write(house: House) -> None:
    done = house.run("gfal-mkdir", "-D", "BDII:ENABLED=false", house.surl("/new"))
    assert done.returncode == errno.EACCES
    assert "you may not write in this directory" in done.stderr
