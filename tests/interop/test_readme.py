"""The commands that people copy from README and documentation, run as they stand on a demo that goes on.

One demo serves all tests of this file. Pages speak of ``demo-site`` in the current directory, of an
administrator Alice and of files in ``/etc``: `SUBSTITUTES` is all that is put in their place.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom import dcmread

from srm_dicom.testing.images import SeriesSpec, make_series, save
from srm_dicom.testing.pki import GFAL_PYTHON

ROOT = Path(__file__).parents[2]
START_S = 150.0
COMMAND_S = 120.0
PROMPT = re.compile(r"^[$#] ", re.MULTILINE)
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SUBSTITUTES = {
    "/etc/srm-dicom/inner/srm-dicom.toml": "demo-site/etc/srm-dicom.toml",
    "/etc/srm-dicom/srm-dicom.toml": "demo-site/etc/srm-dicom.toml",
    "/opt/srm-dicom/bin/": "",
    "runuser -u srm-dicom-inner -- ": "",
    "/DC=org/DC=example/CN=Alice": "/DC=test/DC=mdm/CN=researcher",
    "/tmp/x509up_u1000": "--trust-dir $X509_CERT_DIR $X509_USER_PROXY",
    " serve --role front": " serve --role front --help",
    " --to audit.hospital.example:6514": " --help",
}

pytestmark = [
    pytest.mark.interop("gfal-ls", "gfal-stat", "gfal-copy"),
    pytest.mark.timeout(400),
]


class Terminal:
    """The next terminal: a shell in the directory where the demo was started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, command: str, *, user: str = "researcher") -> subprocess.CompletedProcess[str]:
        """Run one command after ``env.sh``."""
        proxy = f"export X509_USER_PROXY={self.proxy(user)}"
        return subprocess.run(
            ["bash", "-c", f"source demo-site/env.sh && {proxy}\n{command}"],
            cwd=self.directory,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.directory),
                "LANG": "C.UTF-8",
                "SRM_DICOM_CONFIG": str(self.directory / "demo-site/etc/srm-dicom.toml"),
                "GFAL_PYTHONBIN": GFAL_PYTHON,
            },
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def proxy(self, user: str) -> Path:
        (found,) = (self.directory / "demo-site" / "pki" / "issued").glob(f"user-{user}-proxy*.pem")
        return found

    def must(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    directory = tmp_path_factory.mktemp("readme")
    with demo_in(directory) as demo:
        yield Terminal(directory)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0, (directory / "told").read_text()[-2000:]


@contextmanager
def demo_in(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a demo that goes on serving, below a directory."""
    with (directory / "told").open("w") as told:
        demo = subprocess.Popen(
            [sys.executable, "-m", "srm_dicom.cli.admin", "demo", "demo-site", "--keep"],
            cwd=directory,
            stdout=told,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/plugins:{ROOT}/catalog"},
        )
    try:
        wait_for(directory / "demo-site" / "env.sh", demo, directory / "told")
        yield demo
    finally:
        demo.kill()
        demo.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with demo_in(tmp_path) as demo:
        assert serving(tmp_path)
        demo.send_signal(number)
        demo.wait(30)
        assert serving(tmp_path) == []


def serving(directory: Path) -> list[str]:
    """Return the processes that were told of a file in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if str(directory).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def wait_for(file: Path, demo: subprocess.Popen[bytes], told: Path) -> None:
    until = time.monotonic() + START_S
    while not file.exists():
        assert demo.poll() is None, told.read_text()[-3000:]
        assert time.monotonic() < until, told.read_text()[-3000:]
        time.sleep(0.2)


def commands(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    return [PROMPT.sub("", line) for line in lines if not re.match(r"[$#] (make|source) ", line)]


def substituted(command: str) -> str:
    for there, here in SUBSTITUTES.items():
        command = command.replace(there, here)
    return command


def test_the_readme_does_what_it_says(terminal: Terminal) -> None:
    for command in commands("README.md"):
        terminal.must(command)
    opened = terminal.directory / "demo-site" / "slice.dcm"
    assert dcmread(opened).Modality == "CT"
    assert b"CANARY" not in opened.read_bytes()
    assert len(list((terminal.directory / "demo-site" / "series").glob("*.dcm"))) > 1


def test_gfal_runs_beside_another_python(terminal: Terminal) -> None:
    """As in the shell of who has conda or pyenv: its Python stands first, and knows no gfal2."""
    first = terminal.directory / "first"
    first.mkdir()
    for name in ("python", "python3"):
        (first / name).symlink_to(sys.executable)
    terminal.must("unset GFAL_PYTHONBIN; source demo-site/env.sh; PATH=$PWD/first:$PATH gfal-ls -l $SURL")


def test_what_the_readme_says_of_other_users(terminal: Terminal) -> None:
    copy = "gfal-copy -f $SURL file://$PWD/demo-site/copy.c4gh"
    key = "mdm key $LFN -o demo-site/other.key"
    assert terminal.run(copy, user="replica-manager").returncode == 0
    refused = terminal.run(key, user="replica-manager")
    assert refused.returncode == 11
    assert "refuse" in refused.stderr
    unseen = terminal.run("gfal-ls $SURL", user="stranger")
    assert unseen.returncode == 2
    assert "no such file" in unseen.stderr.lower()
    assert terminal.run(key, user="stranger").returncode == 12


@pytest.mark.parametrize("page", ["docs/user/first-copy.md", "docs/user/mdm.md", "docs/user/rights.md"])
def test_the_users_pages_do_what_they_say(terminal: Terminal, page: str) -> None:
    for command in commands(page):
        terminal.must(substituted(command).replace("gfal-copy ", "gfal-copy -f "))


def test_the_administrators_commands(terminal: Terminal) -> None:
    incoming = terminal.directory / "incoming"
    incoming.mkdir()
    save(make_series(SeriesSpec("CT", 2)), incoming)
    (terminal.directory / "patients.tsv").write_text("CANARY-2\tCANARY HOSPITAL\n")
    for page in ("docs/admin/operate.md", "docs/admin/pacs.md"):
        for command in dict.fromkeys(map(substituted, commands(page))):
            done = terminal.run(command)
            if " check" in command:  # the last line fails while a stager has the port, as the page says
                failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
                assert all("C-MOVE" in line for line in failed), done.stdout
            else:
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert len(list((terminal.directory / "outgoing").rglob("*.dcm"))) == 2
    assert "allowed" in terminal.must('srm-dicom explain-access "/DC=test/DC=mdm/CN=researcher" $SURL')


def test_a_patient_is_erased(terminal: Terminal) -> None:
    """From standard input; afterwards nobody finds, sees or opens a file, and no log says whose they were."""
    (terminal.directory / "alice").write_text("CANARY-1\tCANARY HOSPITAL\r\n")
    (terminal.directory / "nobody").write_text("CANARY-1\n")
    find = """mdm find 'Modality = "CT"'"""
    assert "CANARY" not in terminal.must(find)
    assert terminal.must(find).count("lfn:") == 24
    terminal.must("mdm key $LFN -o demo-site/before.key")
    assert terminal.run("srm-dicom keys of-patient nobody").returncode == 12
    listed = terminal.must("srm-dicom keys of-patient --json alice").splitlines()
    assert sorted(json.loads(line)["files"] for line in listed) == [12, 24]
    asked = terminal.run("srm-dicom keys erase - < alice")
    assert asked.returncode == 2
    done = terminal.run("srm-dicom keys erase --yes - < alice")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "36 files under 2 keys" in done.stdout
    assert "catalogues: 36 of 36 forgotten" in done.stdout
    assert done.stdout.count(": destroyed: ") == 2
    assert "lfn:" not in terminal.must(find)
    assert terminal.run("gfal-ls $SURL").returncode == 2
    assert terminal.run("mdm key $LFN -o demo-site/after.key").returncode == 12
    states = dict(line.split()[:2] for line in terminal.must("srm-dicom keys list").splitlines())
    assert {states[json.loads(line)["key_id"]] for line in listed} == {"destroyed"}
    again = terminal.run("srm-dicom keys erase --yes alice")
    assert again.returncode == 12
    told = [asked.stdout, asked.stderr, done.stdout, done.stderr, again.stdout, again.stderr]
    site = terminal.directory / "demo-site"
    told += [path.read_text() for folder in ("log", "audit") for path in (site / folder).iterdir()]
    assert not [text for text in told if "CANARY-1" in text or "CANARY HOSPITAL" in text]
    for operation in ("of-patient", "erase"):
        assert any(f'"operation":"{operation}"' in text for text in told)
