"""The two zones as two users of one machine, laid out as docs/admin/install.md and tmpfiles.d say.

Needs root, because only root can be two others. The outer zone's file has no inner table, the inner
zone's is nobody else's to read, and sealed files go through the intake.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.client.library import Client
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import MdmError
from srm_dicom.testing.images import Patient, SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.pixels import identity_in, same_pixels
from srm_dicom.tomlfile import dump

ROOT = Path(__file__).parents[2]
IDS = {"root": 0, "srm-dicom": 64501, "srm-dicom-inner": 64502, "srm-dicom-metrics": 64503}
ROLES = {"front": "outer", "transfer": "outer", "stager": "inner", "registrar": "inner"}
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": ":".join([*(str(ROOT / part) for part in ("", "plugins", "catalog")), *sys.path[1:]]),
}
READY = '"event": "ready"'

pytestmark = [
    pytest.mark.interop("setpriv"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes of two other users"),
    pytest.mark.timeout(180),
]


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with some of its values changed, however deep they are."""
    changed = {
        key: merged(table.get(key, {}), value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }
    return {**table, **changed}


def as_user(zone: str) -> list[str]:
    uid = IDS["srm-dicom-inner" if zone == "inner" else "srm-dicom"]
    groups = [IDS["srm-dicom-metrics"], *([IDS["srm-dicom"]] if zone == "inner" else [])]
    become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--groups", ",".join(map(str, groups))]
    return ["sh", "-c", 'umask 0007; exec "$@"', "sh", *become]


def python() -> str:
    """Return a Python of this version that other users may run; /root is closed to them."""
    for program in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        trial = [*as_user("outer"), program, "-c", "import srm_dicom.daemon.inner"]
        if (
            subprocess.run(trial, env=ENVIRONMENT, capture_output=True, timeout=60, check=False).returncode
            == 0
        ):
            return program
    pytest.skip("no Python with the dependencies that other users may run")


class TwoUsers:
    """A demo site whose four roles run as two users, from files that `srm-dicom init` has written."""

    def __init__(self, directory: Path) -> None:
        self.demo = DemoSite(directory)
        self.demo.write()
        self.home = directory / "home"
        self.configs = {
            "outer": self.home / "srm-dicom.toml",
            "inner": self.home / "inner" / "srm-dicom.toml",
        }
        for line in (ROOT / "etc/systemd/tmpfiles.d/srm-dicom.conf").read_text().splitlines():
            self._place(line.split())
        for zone in self.configs:
            self._certify(zone)
        self._init()
        self._change()
        self._python = python()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _certify(self, zone: str) -> None:
        host, owner = self.demo.host, IDS["srm-dicom-inner" if zone == "inner" else "srm-dicom"]
        for file, name, mode in ((host.certificate, "hostcert.pem", 0o444), (host.key, "hostkey.pem", 0o400)):
            target = self.configs[zone].with_name(name)
            shutil.copy(file, target)
            os.chown(target, owner, owner)
            target.chmod(mode)

    def _init(self) -> None:
        """Give the command of docs/admin/install.md, with options for what it would ask."""
        demo, told = self.demo, self.demo.description
        answers = {
            "name": "hospital",
            "vo": "biomed",
            "host": "localhost",
            "pacs": f"{demo.archive.ae_title}@{demo.archive.host}:{demo.archive.port}",
            "keys": " ".join(told.keys),
            "files": told.files,
            "metadata": told.metadata[0],
            "project": "demo",
            "permit": "throw-away",
            "purpose": "showing how it works",
            "basis": "synthetic images",
            "ends": f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}",
        }
        options = [word for name, answer in answers.items() for word in (f"--{name}", answer)]
        init = [
            sys.executable,
            "-m",
            "srm_dicom.cli.admin",
            "init",
            str(self.home),
            "--data",
            str(demo.directory),
        ]
        done = subprocess.run([*init, *options], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _change(self) -> None:
        """Say what is other here than at a site: ports, authorities, members, and how soon images appear."""
        ports, trust = self.demo.ports, {"certificates": str(self.demo.pki.trust_dir)}
        own = {name: str(self.home / name) for name in ("hostcert.pem", "hostkey.pem")}
        shown = {"host_certificate": own["hostcert.pem"], "host_key": own["hostkey.pem"]}
        metrics = {"metrics": str(self.demo.directory / "metrics")}
        self._set("srm-dicom.toml", {
            **metrics,
            "trust": {**trust, **shown},
            "srm": {"port": ports["srm"]},
            "gridftp": {"listen": {"port": ports["gridftp"]}},
            "webdav": {"listen": {"port": ports["webdav"]}},
            "intake": {"listen": {"port": ports["intake"]}},
        })  # fmt: skip
        self._set("inner/srm-dicom.toml", {
            **metrics,
            "trust": trust,
            "srm": {"port": ports["srm"]},
            "inner": {"node": f"https://localhost:{ports['intake']}"},
            "registrar": {"settle_s": 1.0, "publish_s": 1.0},
        })  # fmt: skip
        nodes = {name: {"port": ports[name]} for name in ("moves", "arrivals")}
        self._set("inner/plugins.d/dicom.toml", {"settings": nodes})
        project = tomllib.loads((self.demo.config.parent / "projects.d" / "demo.toml").read_text())
        self._set("projects.d/demo.toml", {"members": project["members"]})

    def _set(self, name: str, changes: Mapping[str, Any]) -> None:
        path = self.home / name
        path.write_text(dump(merged(tomllib.loads(path.read_text()), changes)))

    def _place(self, words: list[str]) -> None:
        """Do what a line of tmpfiles.d says, below this directory, for the zones' users."""
        below = {"/var/lib/srm-dicom": self.demo.directory, "/etc/srm-dicom": self.home}
        if len(words) < 5 or words[3] not in IDS:
            return
        kind, path, mode, user, group = words[:5]
        (top,) = (top for top in below if Path(path).is_relative_to(top))
        target = below[top] / Path(path).relative_to(top)
        target.mkdir(parents=True, exist_ok=True) if kind == "d" else target.touch()
        os.chown(target, IDS[user], IDS[group])
        target.chmod(int(mode, 8))

    def start(self) -> None:
        self.demo.processes.start(*(unit for unit in self.demo.units() if unit.role not in ROLES))
        for role, zone in ROLES.items():
            config = str(self.configs[zone])
            serve = ["-m", "srm_dicom.cli.admin", "serve", "--role", role, "--config", config]
            with self.log(role).open("wb") as log:
                self._processes[role] = subprocess.Popen(
                    [*as_user(zone), self._python, *serve], env=ENVIRONMENT, stdout=log, stderr=log
                )
        until = time.monotonic() + 60
        while not all(READY in self.log(role).read_text() for role in ROLES):
            for role, process in self._processes.items():
                assert process.poll() is None, self.log(role).read_text()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.1)

    def give(self, zone: str, *words: str, to: str = "") -> subprocess.CompletedProcess[str]:
        """Give an administrator's command as a zone's user, or as root, with a zone's file."""
        become = as_user(zone)[:4] if zone == "root" else as_user(zone)
        config = str(self.configs[to or zone])
        command = [*become, self._python, "-m", "srm_dicom.cli.admin", *words, "--config", config]
        return subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, text=True, timeout=90, check=False
        )

    def log(self, role: str) -> Path:
        return self.demo.directory / f"{role}.log"

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(15)
        self.demo.stop()


@pytest.fixture(scope="module")
def site() -> Iterator[TwoUsers]:
    """A site outside of pytest's directories, which are root's alone."""
    with tempfile.TemporaryDirectory(prefix="two-users-") as directory:
        Path(directory).chmod(0o711)
        site = TwoUsers(Path(directory))
        try:
            site.start()
            yield site
        finally:
            site.stop()


def test_images_go_through_both_zones(site: TwoUsers, tmp_path: Path) -> None:
    images = make_series(SeriesSpec("CT", 4, Patient("CANARY^ALICE", "CANARY-1")))
    with PacsSimulator(site.demo.archive.ae_title, port=site.demo.archive.port) as pacs:
        pacs.destinations = {"MDM1": ("127.0.0.1", site.demo.ports["moves"])}
        pacs.forward_to = ("MDMIN", "127.0.0.1", site.demo.ports["arrivals"])
        pacs.add(images, forward=True)
        with Client(site.demo.description, site.demo.users["researcher"]) as client:
            wait_until_found(client, len(images))
            got = list(client.get(['Modality = "CT"'], tmp_path))
    files = [one.path for one in got if one.path]
    assert [one.error for one in got if one.error] == [], site.log("stager").read_text()[-3000:]
    assert same_pixels(images, files)
    assert not identity_in(files)


def wait_until_found(client: Client, count: int) -> None:
    until = time.monotonic() + 60
    found = 0
    while found < count:
        assert time.monotonic() < until, f"{found} of {count} were registered"
        time.sleep(0.3)
        try:
            found = len(client.find('Modality = "CT"'))
        except MdmError:
            found = 0


@pytest.mark.parametrize(
    "place", ["inner", "inner/secrets/seal.key", "home/inner", "home/inner/plugins.d/dicom.toml"]
)
def test_the_outer_zone_cannot_look_inside(site: TwoUsers, place: str) -> None:
    look = [*as_user("outer"), "ls", "-R", str(site.demo.directory / place)]
    refused = subprocess.run(look, capture_output=True, text=True, timeout=10, check=False)
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


@pytest.mark.parametrize("kept", ["audit/stager@*.jsonl", "metrics/srm-dicom-stager.prom"])
def test_a_zone_cannot_remove_what_the_other_writes_beside_it(site: TwoUsers, kept: str) -> None:
    (file,) = site.demo.directory.glob(kept)
    remove = [*as_user("outer"), "rm", "-f", str(file)]
    assert subprocess.run(remove, capture_output=True, timeout=10, check=False).returncode != 0
    assert file.exists()


def test_the_inner_zones_check_finds_what_is_right_in_order(site: TwoUsers) -> None:
    done = site.give("inner", "check")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    elsewhere = ("FAIL key servers", "FAIL PACS")  # here they are on one machine, and no PACS runs
    assert [line for line in failed if not line.startswith(elsewhere)] == [], done.stdout + done.stderr
    assert "ok   scratch: " in done.stdout


def test_whoever_gives_a_command_keeps_nobody_from_giving_one(site: TwoUsers) -> None:
    mallory = "/DC=test/DC=mdm/CN=Mallory"
    for zone, words, to in (
        ("root", ("ban", "add", mallory), "outer"),
        ("inner", ("ban", "list"), "inner"),
        ("inner", ("audit", "verify"), "inner"),
        ("outer", ("acl", "/biomed"), "outer"),
        ("inner", ("acl", "/biomed"), "inner"),
        ("root", ("audit", "verify"), "inner"),
    ):
        done = site.give(zone, *words, to=to)
        assert done.returncode == 0, f"{zone} {words}: {done.stdout}{done.stderr}"
    surl = ("explain-access", mallory, "/biomed")
    assert "door        denied" in site.give("inner", *surl).stdout
