"""A physician's workstation adds an image: gfal-copy into the area, Orthanc as the archive, and back.

A whole site runs in processes of its own. What is added is found in Orthanc as it was sent, and on the
grid under a name that says nothing, de-identified; what is refused says why on the physician's terminal.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from srm_dicom.client.library import Client
from srm_dicom.daemon.common import Common
from srm_dicom.daemon.projects import LOOK_S
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.demo.site import INGEST, DemoSite
from srm_dicom.errors import NotAuthorised, NotFound
from srm_dicom.store.requests import FileState
from srm_dicom.testing.archives import Orthanc
from srm_dicom.testing.images import CANARY, Patient, SeriesSpec, make_series
from srm_dicom.testing.pixels import same_pixels
from srm_dicom.testing.ports import free_port

pytestmark = [
    pytest.mark.interop("Orthanc", "gfal-copy", "gfal-ls", "gfal-rm", "gfal-mkdir", "gfal-rename"),
    pytest.mark.timeout(300),
]

ALICE = Patient(f"{CANARY}^ALICE", "4711")
KNOWN = make_series(SeriesSpec("CT", 1, ALICE))
NEW = make_series(SeriesSpec("CT", 3, ALICE, study="9", seed="workstation", rows=128, columns=128))
STRANGER = make_series(SeriesSpec("CT", 1, Patient(f"{CANARY}^BOB", f"{CANARY}-2"), seed="stranger"))[0]
PAGE = Path(__file__).parents[2] / "docs" / "user" / "workstation.md"
PATIENCE_S = 60.0
T = TypeVar("T")


class Site:
    """A demo site over Orthanc that lets its physician hand in images."""

    def __init__(self, directory: Path) -> None:
        archive = Archive("PACS", "127.0.0.1", free_port())
        self.demo = DemoSite(directory / "site", archive=archive, handing_in=True)
        ports = {"MDM1": self.demo.ports["moves"], "MDMIN": self.demo.ports["arrivals"]}
        self.orthanc = Orthanc(directory / "orthanc", ports)
        self.demo.archive = Archive("PACS", "127.0.0.1", self.orthanc.port)
        self.demo.write()
        self.demo.start()
        self.orthanc.add(KNOWN)
        self.out = directory / "out"
        self.out.mkdir()

    def stop(self) -> None:
        self.demo.stop()
        self.orthanc.stop()

    def grid(self, user: str, *command: str) -> subprocess.CompletedProcess[str]:
        credential, home = self.demo.users[user], self.out / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            **self.demo.pki.environment(credential),
        }
        return subprocess.run(
            [f"/usr/bin/{command[0]}", "-D", "BDII:ENABLED=false", *command[1:]],
            env=environment, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    def shell(self, command: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a line of a page as the physician."""
        environment = {
            "PATH": f"/usr/bin:/bin:{Path(sys.executable).parent}",
            "HOME": str(self.out / "home"),
            "LC_ALL": "C.UTF-8",
            "MDM_SITE": str(self.demo.directory / "site.json"),
            **self.demo.pki.environment(self.demo.users["physician"]),
            **variables,
        }
        return subprocess.run(
            ["/bin/bash", "-c", command], env=environment, cwd=self.out,
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    def surl(self, name: str) -> str:
        port = self.demo.ports["srm"]
        return f"srm://localhost:{port}/srm/managerv2?SFN={INGEST}/{name}"

    def add(
        self, content: bytes | FileDataset, name: str = "scan.dcm", user: str = "physician"
    ) -> subprocess.CompletedProcess[str]:
        """Give an image to gfal-copy, as a workstation does."""
        file = self.out / name
        file.write_bytes(content if isinstance(content, bytes) else file_of(content))
        return self.grid(user, "gfal-copy", "-f", f"file://{file}", self.surl(name))

    def admin(self, *command: str) -> str:
        """Give a command of the administrator's."""
        environment = {**os.environ, "SRM_DICOM_CONFIG": str(self.demo.config)}
        done = subprocess.run(
            [sys.executable, "-m", "srm_dicom.cli.admin", *command],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def destroyed_keys(self) -> str:
        """Return the lines of keys that are destroyed, or shall be."""
        return "\n".join(line for line in self.admin("keys", "list").splitlines() if "destroyed" in line)

    def find(self, image: FileDataset, user: str = "physician") -> list[str]:
        """Return the SURLs of an image, found by whoever may know whose it is."""
        condition = f'SOPInstanceUID = "{image.SOPInstanceUID}"'
        with Client(self.demo.description, self.demo.users[user]) as client, suppress(NotFound):
            return [str(row["surl"]) for row in client.find(condition)]
        return []  # before the first image is registered nobody knows the attribute


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("workstation"))
    try:
        yield site
    finally:
        site.stop()


def file_of(dataset: FileDataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def changed(dataset: FileDataset, **values: object) -> FileDataset:
    copy = dcmread(BytesIO(file_of(dataset)))
    for keyword, value in values.items():
        setattr(copy, keyword, value)
    return copy


def eventually(look: Callable[[], T]) -> T:
    """Return what is found once something is."""
    until_s = time.monotonic() + PATIENCE_S
    while not (found := look()) and time.monotonic() < until_s:
        time.sleep(0.5)
    return found


def test_an_image_of_a_workstation_is_in_the_archive_and_on_the_grid_without_its_name(site: Site) -> None:
    added = site.add(NEW[0], "CANARY_ALICE.dcm")
    assert added.returncode == 0, added.stdout + added.stderr
    stored = site.orthanc.file(NEW[0].SOPInstanceUID)
    assert stored is not None
    assert dcmread(BytesIO(stored)) == NEW[0]
    (surl,) = eventually(lambda: site.find(NEW[0]))
    assert CANARY not in surl
    directory, _, name = surl.rpartition("/")
    assert name in site.grid("researcher", "gfal-ls", directory).stdout.split()
    with Client(site.demo.description, site.demo.users["researcher"]) as client:
        (got,) = client.get([surl], site.out / "got")
    assert got.path is not None
    assert same_pixels([NEW[0]], [got.path])
    assert CANARY.encode() not in got.path.read_bytes()


def test_the_same_image_again_is_there_once(site: Site) -> None:
    assert site.add(NEW[1]).returncode == 0
    before = site.orthanc.count()
    again = site.add(NEW[1], "again.dcm")
    assert again.returncode == 0, again.stderr
    assert site.orthanc.count() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GIF89a no DICOM file" * 100, "this is no DICOM file"),
        (file_of(NEW[2])[:-500], "this DICOM file is cut short"),
        (changed(NEW[2], PatientIdentityRemoved="YES"), "a de-identified object does not go"),
        (STRANGER, "archive knows no such patient"),
        (changed(KNOWN[0], SliceThickness=99), "archive has another object under this SOP Instance UID"),
    ],
    ids=["no DICOM", "cut", "de-identified", "unknown patient", "other content"],
)
def test_what_is_refused_says_why(site: Site, content: bytes | FileDataset, reason: str) -> None:
    before = site.orthanc.count()
    refused = site.add(content, "refused.dcm")
    assert refused.returncode != 0
    assert reason in refused.stderr, refused.stderr
    assert CANARY not in refused.stderr
    assert site.orthanc.count() == before


@pytest.mark.parametrize("user", ["researcher", "replica-manager", "stranger"])
def test_only_who_has_the_right_adds_images(site: Site, user: str) -> None:
    before = site.orthanc.count()
    assert site.add(NEW[2], user=user).returncode != 0
    assert site.orthanc.count() == before


def test_names_are_neither_made_nor_changed_where_images_are_added(site: Site) -> None:
    for command in (["gfal-mkdir", site.surl("new")], ["gfal-rename", site.surl("a"), site.surl("b")]):
        done = site.grid("physician", *command)
        assert done.returncode != 0
        assert "no directories and no other names" in done.stderr, done.stderr


def test_a_removed_image_is_forgotten_and_stays_in_the_archive(site: Site) -> None:
    image = make_series(SeriesSpec("MR", 1, ALICE, study="10", seed="removed"))[0]
    assert site.add(image).returncode == 0
    (surl,) = eventually(lambda: site.find(image))
    assert site.grid("researcher", "gfal-rm", surl).returncode != 0
    with Client(site.demo.description, site.demo.users["researcher"]) as client:
        record = client.resolve([surl])[0]
        (sealed,) = client.get([surl], site.out / "sealed", sealed=True)
        assert len(client.key(record)) == 32
    removed = site.grid("physician", "gfal-rm", surl)
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert site.grid("researcher", "gfal-ls", surl).returncode == 2
    assert eventually(lambda: not site.find(image))
    assert sealed.path is not None
    assert site.orthanc.file(image.SOPInstanceUID) is not None
    destroyed = eventually(lambda: record.key_id in site.destroyed_keys())
    assert destroyed, "its series had no other file: the key goes too"


def test_an_image_that_was_added_again_and_then_removed_stays_away(site: Site) -> None:
    """The registrar comes to the second time after the removal."""
    image = make_series(SeriesSpec("CT", 1, ALICE, study="13", seed="again"))[0]
    assert site.add(image).returncode == 0
    (surl,) = eventually(lambda: site.find(image))
    registrar = site.demo.processes.pid("registrar")
    os.kill(registrar, signal.SIGSTOP)
    try:
        assert site.add(image, "again.dcm").returncode == 0
        removed = site.grid("physician", "gfal-rm", surl)
        assert removed.returncode == 0, removed.stdout + removed.stderr
    finally:
        os.kill(registrar, signal.SIGCONT)
    assert eventually(lambda: not site.find(image))
    last = make_series(SeriesSpec("CT", 1, ALICE, study="14", seed="after it"))[0]
    assert site.add(last).returncode == 0
    assert eventually(lambda: site.find(last)), "what came later is registered"
    assert not site.find(image)


def test_a_stager_that_is_killed_amid_storing_leaves_one_image(site: Site) -> None:
    """The archive stands still, the stager dies with the image in hand, and gfal-copy goes on waiting."""
    image = make_series(SeriesSpec("CT", 1, ALICE, study="12", seed="killed"))[0]
    before, stores = site.orthanc.count(), Common(site.demo.config, "test").stores
    with ThreadPoolExecutor(1) as pool:
        os.kill(site.orthanc.pid, signal.SIGSTOP)
        try:
            adding = pool.submit(site.add, image, "killed.dcm")
            assert eventually(lambda: stores.requests.counts().get(FileState.STORING))
            time.sleep(1.0)  # so that it is in hand
            site.demo.processes.restart("stager", signal.SIGKILL)
        finally:
            os.kill(site.orthanc.pid, signal.SIGCONT)
        added = adding.result()
    assert added.returncode == 0, added.stdout + added.stderr
    assert site.orthanc.count() == before + 1
    assert len(eventually(lambda: site.find(image))) == 1


def test_the_page_does_what_it_says(site: Site) -> None:
    """Every command of the page, in a shell of the physician's, in its order."""
    image = make_series(SeriesSpec("CT", 1, ALICE, study="11", seed="page"))[0]
    site.demo.describe({})
    (site.out / "scan.dcm").write_bytes(file_of(image))
    variables = {"INGEST": f"srm://localhost:{site.demo.ports['srm']}{INGEST}"}
    for command in re.findall(r"^\$ (.*)$", PAGE.read_text(), re.MULTILINE):
        if command.startswith("mdm rm"):
            (variables["SURL"],) = site.find(image)
        done = site.shell(command, variables)
        assert done.returncode == 0, done.stdout + done.stderr
        if command.startswith("gfal-copy"):
            assert eventually(lambda: site.find(image))
        if command.startswith("mdm find"):
            assert site.find(image)[0].rpartition("/")[2] in done.stdout
    assert eventually(lambda: not site.find(image))


def test_who_has_left_the_project_gets_nothing_of_what_comes(site: Site) -> None:
    """No service is restarted: each reads the project's file again."""
    file = site.demo.config.parent / "projects.d" / "demo.toml"
    researcher = site.demo.pki.dn(site.demo.users["researcher"])
    assert researcher in file.read_text()
    file.write_text(file.read_text().replace(researcher, "/DC=test/DC=mdm/CN=successor"))
    site.admin("rights")
    with Client(site.demo.description, site.demo.users["researcher"]) as client:
        assert not found_by(client)
        time.sleep(LOOK_S)
        image = make_series(SeriesSpec("CT", 1, ALICE, study="15", seed="after somebody left"))[0]
        assert site.add(image).returncode == 0
        (surl,) = eventually(lambda: site.find(image))
        assert not found_by(client), "what is registered gives nobody back what was taken"
    assert site.grid("researcher", "gfal-stat", surl).returncode == 2
    assert site.grid("physician", "gfal-stat", surl).returncode == 0


def found_by(client: Client) -> list[str]:
    try:
        return [str(row["surl"]) for row in client.find('Modality = "CT"')]
    except (NotFound, NotAuthorised):
        return []


def test_nothing_of_the_site_remembers_in_clear_what_was_added(site: Site) -> None:
    """Logs and audit have neither the name that was typed nor a value of an image."""
    for directory in ("log", "audit", "metrics", "outer/scratch", "inner"):
        for path in (site.demo.directory / directory).rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path
