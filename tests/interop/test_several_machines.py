"""A site whose zones, database and catalogues, PACS and users are each on a machine of their own.

Network namespaces on one wire: nothing listens on loopback for another, every name is resolved, every
certificate is of its own host, and who calls whom can be seen on the wire.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srm_dicom.client.site import SiteDescription
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.demo.site import DemoSite
from srm_dicom.identity.credential import Credential
from srm_dicom.testing.archives import SYSTEM_PATH, program
from srm_dicom.testing.databases import cluster, short_directory
from srm_dicom.testing.images import Patient, SeriesSpec, make_series, save
from srm_dicom.testing.machines import Machines
from srm_dicom.testing.pixels import identity_in, same_pixels
from srm_dicom.tomlfile import dump

KEYS = ("keys1", "keys2", "keys3")
NAMES = ("se", "se2", "inner", "inner2", "db", *KEYS, "files", "metadata", "pacs", "user")
ROLES = {
    "front": "se", "transfer": "se", "front2": "se2",
    "stager": "inner", "registrar": "inner", "stager2": "inner2",
}  # fmt: skip
TITLES = {"inner": "MDM1", "inner2": "MDM2"}
"""Every stager is an AE of its own."""

PORTS = {
    "srm": 8446, "gridftp": 2811, "intake": 8449, "webdav": 8443, "files": 8444, "metadata": 8822,
    "moves": 11112, "arrivals": 11110, "pacs": 4242, "keys-1": 8450, "keys-2": 8450, "keys-3": 8450,
}  # fmt: skip
READY = b'"event": "ready"'
START_S = 90.0
ALICE = Patient("CANARY^ALICE", "CANARY-1")
IMAGES = make_series(SeriesSpec("CT", 6, ALICE))
MORE = make_series(SeriesSpec("MR", 30, ALICE, study="2", number=7))
LAST = make_series(SeriesSpec("MR", 4, ALICE, study="3", number=8))


pytestmark = [
    pytest.mark.interop("ip", "setpriv", "Orthanc", "storescu", "gfal-copy", "/usr/lib/postgresql"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
    pytest.mark.timeout(300),
]


class Site:
    """The demo's site, each part on a machine of its own."""

    def __init__(self, directory: Path, leaving: ExitStack) -> None:
        self.directory = directory
        self.machines = Machines(NAMES)
        leaving.callback(self.machines.stop)
        self.demo = DemoSite(directory, archive=Archive("PACS", "pacs.test", PORTS["pacs"]))
        self.demo.ports = PORTS
        self.demo.write()
        address = self.machines.addresses["db"]
        own, wire = leaving.enter_context(short_directory()), f"{address.rpartition('.')[0]}.0/24"
        leaving.enter_context(cluster(own, machine=self.machines.on("db"), network=wire))
        self._processes: dict[str, tuple[list[str], subprocess.Popen[bytes]]] = {}
        leaving.callback(self._end)
        for name in ("se", "se2", *TITLES):
            self._write(f"{name}.toml", self._zone(name))
        self._catalogues()
        for name in TITLES:
            self._plugin(name)

    # --- what is written ---------------------------------------------------------------------------

    def trust(self, machine: str) -> dict[str, Any]:
        host = self.demo.pki.host(f"{machine}.test")
        return {
            "certificates": self.demo.pki.trust_dir,
            "host_certificate": host.certificate,
            "host_key": host.key,
            "ban_file": self.directory / "etc" / "ban.list",
        }

    def dn(self, machine: str) -> str:
        host = self.demo.pki.host(f"{machine}.test")
        return self.demo.pki.dn(Credential(host.certificate, host.key, self.demo.pki.trust_dir))

    def _zone(self, machine: str) -> dict[str, Any]:
        """Return a zone's configuration: each has its own tables, and what both have to know."""
        site = tomllib.loads(self.demo.config.read_text())
        inner = site.pop("inner") | {
            "node": f"https://se.test:{PORTS['intake']}",
            "plugins": self.directory / "etc" / f"plugins-{machine}.d",
            "spool": self.directory / machine / "spool",
        }
        intake = {"stagers": [self.dn(name) for name in TITLES], "listen": {"port": PORTS["intake"]}}
        catalogues = {
            "keys": [f"https://{name}.test:8450" for name in KEYS],
            "threshold": 2,
            "files": f"https://files.test:{PORTS['files']}",
            "metadata": [f"metadata.test:{PORTS['metadata']}"],
        }
        own = {"inner": inner} if machine in TITLES else {"intake": intake}
        site.pop("intake")
        doors = {
            "srm": {"port": PORTS["srm"]},
            "gridftp": {"data_ports": [20000, 20199], "listen": {"port": PORTS["gridftp"]}},
            "webdav": {"listen": {"port": PORTS["webdav"]}},
        }
        return {
            **{
                name: table
                for name, table in site.items()
                if name not in {"intake", "registrar"} or name in own
            },
            **doors,
            **own,
            "registrar": site["registrar"],
            "audit": self.directory / machine / "audit",
            "database": "postgresql://test@db.test:5432/postgres",
            "site": site["site"] | {"host": "se.test"},
            "trust": self.trust(machine),
            "catalogues": catalogues,
        }

    def _catalogues(self) -> None:
        for number, machine in enumerate(KEYS, 1):
            self._catalogue(machine, f"catalog.d/keys-{number}.toml", "creators")
        for machine in ("files", "metadata"):
            self._catalogue(machine, f"catalog.d/{machine}.toml", "registrars")

    def _catalogue(self, machine: str, name: str, makers: str) -> None:
        table = tomllib.loads((self.directory / "etc" / name).read_text())
        server = table["server"] | {"host": "0.0.0.0", makers: [self.dn("inner")]}
        self._write(f"{machine}.toml", table | {"trust": self.trust(machine), "server": server})

    def _plugin(self, machine: str) -> None:
        plugin = tomllib.loads((self.directory / "etc" / "plugins.d" / "dicom.toml").read_text())
        here = {"bind": self.machines.addresses[machine]}
        settings = plugin["settings"]
        settings["moves"] |= here | {"ae_title": TITLES[machine]}
        settings["arrivals"] |= here
        self._write(f"plugins-{machine}.d/dicom.toml", plugin)

    def _write(self, name: str, table: Mapping[str, Any]) -> None:
        path = self.directory / "etc" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dump(table) + "\n")

    @cached_property
    def description(self) -> Path:
        """The user's ``site.json``."""
        told = SiteDescription(
            name="hospital",
            srm=f"httpg://se.test:{PORTS['srm']}/srm/managerv2",
            files=f"https://files.test:{PORTS['files']}",
            metadata=(f"metadata.test:{PORTS['metadata']}",),
            keys=tuple(f"https://{name}.test:8450" for name in KEYS),
            signing_keys=self.demo.description.signing_keys,
            gridftp=f"gsiftp://se.test:{PORTS['gridftp']}",
        )
        path = self.directory / "site.json"
        path.write_text(json.dumps(told.to_json()))
        return path

    # --- what runs -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._start_archive()
        for machine in (*KEYS, "files", "metadata"):
            role = "keys" if machine in KEYS else machine
            self.run(machine, machine, role, f"{machine}.toml")
        for name, machine in ROLES.items():
            self.run(name, machine, name.rstrip("2"), f"{machine}.toml")
        self._wait_for(*KEYS, "files", "metadata", *ROLES)

    def run(self, name: str, machine: str, role: str, config: str) -> None:
        serve = ("-m", "srm_dicom.cli.admin", "serve", "--role", role)
        where = self.directory / "etc" / config
        self._spawn(name, self.machines.on(machine, sys.executable, *serve, "--config", where))

    def kill(self, name: str) -> None:
        self._processes[name][1].kill()
        self._processes[name][1].wait(15)

    def restart(self, name: str) -> None:
        self._spawn(name, self._processes[name][0])
        self._wait_for(name)

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _spawn(self, name: str, command: list[str]) -> None:
        with self.log(name).open("wb") as log:
            self._processes[name] = command, subprocess.Popen(command, stdout=log, stderr=log)

    def _wait_for(self, *names: str) -> None:
        until_s = time.monotonic() + START_S
        for name in names:
            while READY not in self.log(name).read_bytes():
                assert self._processes[name][1].poll() is None, self.log(name).read_text()[-2000:]
                assert time.monotonic() < until_s, name
                time.sleep(0.1)

    def _start_archive(self) -> None:
        directory = self.directory / "orthanc"
        directory.mkdir()
        configuration = {
            "StorageDirectory": "db", "IndexDirectory": "db", "HttpServerEnabled": False,
            "DicomAet": "PACS", "DicomPort": PORTS["pacs"], "DicomAlwaysAllowStore": True,
            "TranscodeDicomProtocol": False,
            "DicomModalities": {
                title: {
                    "AET": title, "Host": f"{machine}.test", "Port": PORTS["moves"],
                    "AllowEcho": True, "AllowFind": True, "AllowMove": True,
                }
                for machine, title in TITLES.items()
            },
        }  # fmt: skip
        (directory / "orthanc.json").write_text(json.dumps(configuration))
        self._spawn("pacs", self.machines.on("pacs", program("Orthanc"), directory / "orthanc.json"))
        paths = save([*IMAGES, *MORE, *LAST], directory / "images")
        until_s = time.monotonic() + START_S
        store = self.machines.on(
            "pacs", program("storescu"), "-aec", "PACS", "localhost", PORTS["pacs"], *paths
        )
        while subprocess.run(store, capture_output=True, timeout=60, check=False).returncode:
            assert time.monotonic() < until_s, self.log("pacs").read_text()[-2000:]
            time.sleep(0.5)

    def _end(self) -> None:
        for _, process in self._processes.values():
            process.kill()
        for _, process in self._processes.values():
            process.wait(15)

    # --- who asks --------------------------------------------------------------------------------------

    def administrate(self, machine: str, *words: object) -> SimpleNamespace:
        config = self.directory / "etc" / f"{machine}.toml"
        command = (sys.executable, "-m", "srm_dicom.cli.admin", *words, "--config", config)
        return self._ask(self.machines.on(machine, *command), {**os.environ})

    def user(self, *words: object) -> SimpleNamespace:
        return self._ask(self._users(words), self._environment())

    def begin(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._users(words), env=self._environment(), stdout=subprocess.DEVNULL)

    def _users(self, words: Sequence[object]) -> list[str]:
        mdm = (sys.executable, "-m", "srm_dicom.cli.user")
        return self.machines.on("user", *(mdm if words[0] == "mdm" else words[:1]), *words[1:])

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": SYSTEM_PATH,
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MDM_SITE": str(self.description),
            **self.demo.pki.environment(self.demo.users["researcher"]),
        }

    def staged(self) -> Counter[str]:
        """Return how often each file has been staged, by either stager."""
        found: Counter[str] = Counter()
        for log in self.directory.glob("inner*/audit/stager@*.jsonl"):
            for line in log.read_text().splitlines():
                event = json.loads(line)["event"]
                if event["action"] == "staging" and event["outcome"] == "allowed":
                    found.update(event["objects"])
        return found

    @staticmethod
    def _ask(command: list[str], environment: Mapping[str, str]) -> SimpleNamespace:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout, said=done.stdout + done.stderr)

    def surls(self) -> list[str]:
        found = self.user("mdm", "find", 'Modality = "CT"', "--json")
        assert found.code == 0, found.said
        return sorted(row["surl"] for row in json.loads(found.out))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as leaving:
        made = Site(tmp_path_factory.mktemp("machines"), leaving)
        made.start()
        for modality in ("CT", "MR"):
            done = made.administrate("inner", "register", "--plugin", "dicom", f"Modality={modality}")
            assert done.code == 0, done.said
        yield made


def test_images_come_from_the_archive_to_the_user(site: Site, tmp_path: Path) -> None:
    callers = site.machines.callers
    with callers("inner") as called_inner, callers("pacs") as called_archive, callers("se") as called_se:
        got = site.user("mdm", "get", 'Modality = "CT"', "-o", tmp_path)
    assert got.code == 0, got.said
    files = sorted(tmp_path.rglob("*.dcm"))
    assert len(files) == len(IMAGES)
    assert same_pixels(IMAGES, files)
    assert not identity_in(files)
    assert called_inner <= {"pacs"}, "the inner zone opens its connections itself; the archive sends to it"
    assert called_archive <= {"inner", "inner2"}
    assert called_se >= {"user"}
    assert called_se <= {"user", "inner", "inner2"}


def test_grid_clients_follow_turls_to_the_machine_that_has_the_file(site: Site, tmp_path: Path) -> None:
    surl = site.surls()[0]
    assert surl.startswith("srm://se.test:")
    for number, protocol in enumerate(("gsiftp", "https")):
        target = tmp_path / f"{number}.c4gh"
        copied = site.user(
            "gfal-copy", "-D", "BDII:ENABLED=false", "-p", "-K", "ADLER32", surl, f"file://{target}"
        )
        assert copied.code == 0, (protocol, copied.said)
        assert target.read_bytes().startswith(b"crypt4gh")


def test_each_machine_checks_itself(site: Site) -> None:
    for machine in ("se", "inner", "inner2"):
        checked = site.administrate(machine, "check")
        assert checked.code == 0, checked.said


def test_two_of_three_key_servers_are_enough(site: Site, tmp_path: Path) -> None:
    site.kill("keys2")
    got = site.user("mdm", "get", 'Modality = "CT"', "-o", tmp_path)
    site.restart("keys2")
    assert got.code == 0, got.said
    assert len(list(tmp_path.rglob("*.dcm"))) == len(IMAGES)


def test_of_two_stagers_no_file_is_moved_twice(site: Site, tmp_path: Path) -> None:
    before = site.staged()
    query = f"SeriesNumber = {MORE[0].SeriesNumber}"
    users = [site.begin("mdm", "get", query, "-o", tmp_path / str(number)) for number in range(3)]
    assert [one.wait(150) for one in users] == [0] * len(users)
    staged = site.staged() - before
    assert staged.total() == len(staged) == len(MORE)


def test_one_stager_does_the_work_of_another_that_is_away(site: Site, tmp_path: Path) -> None:
    site.kill("stager")
    got = site.user("mdm", "get", f"SeriesNumber = {LAST[0].SeriesNumber}", "-o", tmp_path)
    site.restart("stager")
    assert got.code == 0, got.said
    assert len(list(tmp_path.rglob("*.dcm"))) == len(LAST)
    (log,) = (site.directory / "inner2" / "audit").glob("stager@*.jsonl")
    assert log.name == "stager@inner2.test.jsonl"
    assert '"staging"' in log.read_text()


AT_BOTH_FRONTS = """
import os, sys
from srm_dicom.client.srm import SrmClient
from srm_dicom.identity.credential import Credential
credential = Credential.from_environment(os.environ)
one, other = (SrmClient.connect(f"httpg://{name}.test:8446", credential) for name in ("se", "se2"))
request = one.prepare_to_get(sys.argv[1:])
(file,) = other.wait(other.status(request.token), 60).files
print(file.status.code, file.turl, one.release(request.token)[0].status.code)
"""


def test_a_request_is_the_same_at_both_fronts(site: Site) -> None:
    """As behind a balancer of TCP: begun at one, polled at the other, released at the first."""
    done = site.user(sys.executable, "-c", AT_BOTH_FRONTS, site.surls()[0])
    assert done.code == 0, done.said
    code, turl, released = done.out.split()
    assert (code, released) == ("SRM_FILE_PINNED", "SRM_SUCCESS")
    assert "//se.test:" in turl, "the machine that has the file"


@pytest.mark.parametrize("role", ["front", "transfer", "stager"])
def test_a_killed_role_is_back_and_goes_on(site: Site, tmp_path: Path, role: str) -> None:
    site.kill(role)
    site.restart(role)
    got = site.user("mdm", "get", 'Modality = "CT"', "-o", tmp_path)
    assert got.code == 0, got.said
    assert len(list(tmp_path.rglob("*.dcm"))) == len(IMAGES)
