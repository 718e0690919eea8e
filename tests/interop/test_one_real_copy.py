"""The main job, by programs that nobody here wrote: Orthanc, gfal2, crypt4gh, dcmdump.

A whole site runs in processes of its own over a real Orthanc; a CT series is registered, listed, copied
and opened with the tools that its users have.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from srm_dicom.client.library import Client
from srm_dicom.crypto.keyfile import read_secret_key
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import KeyQuorumMissing, NotAuthorised, NotFound
from srm_dicom.testing.archives import Orthanc
from srm_dicom.testing.images import Patient, SeriesSpec, identities, make_series
from srm_dicom.testing.pixels import identity_in, same_pixels
from srm_dicom.testing.ports import free_port

pytestmark = [
    pytest.mark.interop("Orthanc", "gfal-ls", "gfal-copy", "gfal-stat", "dcmdump"),
    pytest.mark.timeout(300),
]

CT = SeriesSpec("CT", 6, Patient("CANARY^ALICE", "CANARY-1"), rows=256, columns=256)
MR = SeriesSpec("MR", 4, Patient("CANARY^BOB", "CANARY-2"), study="2")


class Site:
    """A demo site over Orthanc, and its users' commands."""

    def __init__(self, directory: Path) -> None:
        self.images = make_series(CT) + make_series(MR)
        self.demo = DemoSite(directory / "site", archive=Archive("PACS", "127.0.0.1", free_port()))
        ports = {"MDM1": self.demo.ports["moves"], "MDMIN": self.demo.ports["arrivals"]}
        self.orthanc = Orthanc(directory / "orthanc", ports)
        self.demo.archive = Archive("PACS", "127.0.0.1", self.orthanc.port)
        self.demo.write()
        self.demo.start()
        self.orthanc.add(self.images)
        self.out = directory / "out"
        self.out.mkdir()

    def stop(self) -> None:
        self.demo.stop()
        self.orthanc.stop()

    def admin(self, *command: str) -> str:
        environment = {**os.environ, "SRM_DICOM_CONFIG": str(self.demo.config)}
        done = subprocess.run(
            [sys.executable, "-m", "srm_dicom.cli.admin", *command],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def grid(self, user: str, *command: str) -> subprocess.CompletedProcess[str]:
        home = self.out / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C",
            **self.demo.pki.environment(self.demo.users[user]),
        }
        return subprocess.run(
            [f"/usr/bin/{command[0]}", *command[1:]],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def client(self, user: str) -> Client:
        return Client(self.demo.description, self.demo.users[user])

    def surls(self) -> list[str]:
        with self.client("researcher") as client:
            return [str(row["surl"]) for row in client.find('Modality = "CT"')]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("real"))
    try:
        said = site.admin("register", "--plugin", "dicom", "Modality=CT")
        assert said.startswith(f"{CT.slices} found, {CT.slices} registered"), said
        yield site
    finally:
        site.stop()


def copied(site: Site, surl: str, name: str) -> Path:
    target = site.out / name
    done = site.grid("researcher", "gfal-copy", "-f", surl, f"file://{target}")
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_the_series_is_listed_before_anything_was_staged(site):
    directory = site.surls()[0].rpartition("/")[0]
    listed = site.grid("researcher", "gfal-ls", "-l", directory)
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == CT.slices
    assert site.grid("researcher", "gfal-stat", site.surls()[0]).returncode == 0


def test_one_real_copy(site):
    sealed = [copied(site, surl, f"{number}.c4gh") for number, surl in enumerate(site.surls())]
    key = site.out / "series.key"
    environment = {
        **os.environ,
        "MDM_SITE": str(site.out / "site.json"),
        "X509_USER_PROXY": str(site.demo.users["researcher"].certificate),
        "X509_CERT_DIR": str(site.demo.pki.trust_dir),
    }
    site.demo.describe({})
    (site.out / "site.json").write_bytes((site.demo.directory / "site.json").read_bytes())
    subprocess.run(
        [sys.executable, "-m", "srm_dicom.cli.user", "key", site.surls()[0], "-o", str(key)],
        env=environment, check=True, timeout=60,
    )  # fmt: skip
    assert len(read_secret_key(key.read_text())) == 32
    opened = [opened_by_crypt4gh(path, key) for path in sealed]
    originals = site.images[: CT.slices]
    assert same_pixels(originals, opened)
    marks = [mark for mark in identities(originals) if len(mark) > 4]
    assert not identity_in([*opened, *sealed], marks)
    for path in opened:
        dumped = subprocess.run(["/usr/bin/dcmdump", path], capture_output=True, text=True, check=True)
        assert "(0012,0062) CS [YES]" in dumped.stdout
        assert "CANARY" not in dumped.stdout
        assert dcmread(path).file_meta.TransferSyntaxUID == originals[0].file_meta.TransferSyntaxUID
    stat = site.grid("researcher", "gfal-stat", site.surls()[0])
    assert f"Size: {sealed[0].stat().st_size}" in stat.stdout


def opened_by_crypt4gh(path: Path, key: Path) -> Path:
    opened = path.with_suffix(".dcm")
    program = Path(sys.executable).with_name("crypt4gh")
    with path.open("rb") as sealed, opened.open("wb") as clear:
        subprocess.run([program, "decrypt", "--sk", key], stdin=sealed, stdout=clear, check=True, timeout=60)
    return opened


def test_checksum_and_digest_agree(site):
    copied(site, site.surls()[0], "checked.c4gh")
    done = site.grid(
        "researcher", "gfal-copy", "-f", "-K", "ADLER32", site.surls()[0], f"file://{site.out}/k"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_replica_manager_gets_ciphertext_and_no_key(site):
    with site.client("researcher") as client:
        record = client.resolve([site.surls()[0]])[0]
    with site.client("replica-manager") as client:
        (got,) = client.get([site.surls()[0]], site.out / "replica", sealed=True)
        assert got.path is not None
        with pytest.raises((NotAuthorised, NotFound)):
            client.key(record)


def test_a_stranger_sees_the_same_for_what_is_and_what_is_not(site):
    real = site.surls()[0]
    absent = real.replace("/biomed/", "/biomeds/")
    answers = [site.grid("stranger", "gfal-ls", surl) for surl in (real, absent)]
    assert [answer.returncode for answer in answers] == [2, 2]
    said = [answer.stderr.replace(real, "X").replace(absent, "X") for answer in answers]
    assert said[0] == said[1]


def test_two_of_three_key_servers_are_enough_and_one_is_not(site):
    with site.client("researcher") as client:
        record = client.resolve([site.surls()[0]])[0]
        site.demo.processes.stop("keys-1", signal.SIGKILL)
        try:
            assert len(client.key(record)) == 32
            site.demo.processes.stop("keys-3", signal.SIGKILL)
            with site.client("researcher") as again, pytest.raises(KeyQuorumMissing):
                again.key(record)
        finally:
            site.demo.processes.start(*[u for u in site.demo.units() if u.name in ("keys-1", "keys-3")])


def test_after_kill_9_of_everything_nothing_hangs_and_nothing_is_lost(site):
    for name in ("front", "transfer", "stager", "registrar"):
        site.demo.processes.restart(name, signal.SIGKILL)
    assert copied(site, site.surls()[1], "after.c4gh").stat().st_size > 0


def test_a_pacs_that_is_down_is_waited_for_with_the_reason(site):
    with site.client("researcher") as client:
        scratch = site.demo.directory / "outer" / "scratch" / "ready"
        site.admin("register", "--plugin", "dicom", "Modality=MR")
        surl = str(client.find('Modality = "MR"')[0]["surl"])
        assert scratch.exists()
        os.kill(site.orthanc._process.pid, signal.SIGSTOP)
        site.orthanc._process.kill()
        request = client.srm.prepare_to_get([surl], ("gsiftp",), total_s=12)
        told = ""
        until = time.monotonic() + 40
        while request.waiting and time.monotonic() < until:
            told = told or request.files[0].status.explanation
            time.sleep(0.5)
            request = client.srm.status(request.token)
        assert told, "the explanation says why it waits"
        assert request.files[0].status.code == "SRM_FAILURE"
