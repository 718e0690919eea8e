"""`mdm put` and `mdm rm` against a whole storage element: what is sent is there, or nothing of it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srm_dicom.cli.exits import EXIT_CODES, INTERRUPTED
from srm_dicom.client import sending
from srm_dicom.client.doors import Doors
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.sending import Sender, targets
from srm_dicom.client.site import SiteDescription
from srm_dicom.client.srm import SrmClient
from srm_dicom.errors import AlreadyExists, InvalidRequest, NotAuthorised, NotFound
from srm_dicom.ids import parse_path
from srm_dicom.store.namespace import Kind
from srm_dicom.store.requestrows import RequestFileRow
from srm_dicom.store.requests import FileState
from srm_dicom.testing.element import ROOT, StorageElement

NOBODY = "https://localhost:1"
PATIENCE_S = 30.0


class User:
    """Somebody with a `site.json`, and the storage element that it names."""

    def __init__(self, directory: Path) -> None:
        self.element = StorageElement(directory)
        self.element.start()
        self.top = f"srm://localhost:{self.element.srm.port}{ROOT}"
        described = SiteDescription(
            "site", f"httpg://localhost:{self.element.srm.port}", NOBODY, (), (NOBODY,), ()
        )
        self._site = directory / "site.json"
        self._site.write_text(json.dumps(described.to_json()))

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "srm_dicom.cli.user", *map(str, words)]

    def environment(self, by: Any = None) -> dict[str, str]:
        return {
            **os.environ,
            **self.element.pki.environment(by or self.element.alice),
            "MDM_SITE": str(self._site),
        }

    def mdm(self, *words: object, by: Any = None) -> SimpleNamespace:
        done = subprocess.run(
            self.command(*words),
            env=self.environment(by),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    def stored(self) -> dict[str, bytes]:
        """Return what the https door has, by its name below the directory."""
        space = self.element.stores.namespace
        doors = Doors(self.element.alice, GridFtpClient(self.element.alice))
        base, found = f"https://localhost:{self.element.webdav.port}", {}
        waiting = [parse_path(ROOT)]
        while waiting:
            for entry in space.children(waiting.pop()):
                if entry.kind is Kind.DIRECTORY:
                    waiting.append(entry.path)
                else:
                    found[entry.path.removeprefix(f"{ROOT}/")] = doors.read(
                        base + entry.path, limit_bytes=10**7
                    )
        doors.close()
        return found

    def unfinished(self) -> int:
        """Return how many files of puts wait for bytes or for being stored."""
        rows = self.element.stores.database.bind(RequestFileRow)
        waiting = (FileState.SPACE_AVAILABLE, FileState.STORING, FileState.QUEUED)
        return rows.select().where(rows.state.in_([state.value for state in waiting])).count()


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    made = User(tmp_path_factory.mktemp("sending"))
    yield made
    made.element.stop()


@pytest.fixture
def sender(user: User) -> Iterator[Sender]:
    alice = user.element.alice
    with (
        SrmClient.connect(f"httpg://localhost:{user.element.srm.port}", alice) as srm,
        closing(Doors(alice, GridFtpClient(alice))) as doors,
    ):
        yield Sender(srm, doors, wait_s=PATIENCE_S)


def tree(directory: Path, **files: bytes) -> Path:
    directory.mkdir()
    for number, content in enumerate(files.values()):
        path = directory / f"below{number}" / "deep" / list(files)[number]
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return directory


def test_files_and_directories_are_at_the_site(user: User, tmp_path: Path) -> None:
    single = tmp_path / "result.csv"
    single.write_bytes(b"a,b\n1,2\n")
    directory = tree(tmp_path / "run7", first=os.urandom(3_000_000), second=b"")
    (directory / ".hidden").write_bytes(b"stays here")
    done = user.mdm("put", single, directory, ROOT)
    assert (done.code, done.out) == (0, f"3 of 3 files in {user.top}\n"), done.err
    stored = user.stored()
    assert stored["result.csv"] == b"a,b\n1,2\n"
    assert stored["below0/deep/first"] == (directory / "below0/deep/first").read_bytes()
    assert stored["below1/deep/second"] == b""
    assert not [name for name in stored if "hidden" in name]


def test_more_than_one_request_has(
    user: User, sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FILES_PER_REQUEST", 3)
    for number in range(8):
        (tmp_path / f"many{number}").write_bytes(os.urandom(1000 + number))
    sent = list(sender.send(targets(sorted(tmp_path.iterdir()), user.top)))
    assert [one.error for one in sent] == [None] * 8
    assert user.stored()["many7"] == (tmp_path / "many7").read_bytes()


def test_what_is_there_stays_and_the_others_are_sent(user: User, tmp_path: Path) -> None:
    for name in ("twice", "once"):
        (tmp_path / name).write_bytes(name.encode())
    assert user.mdm("put", tmp_path / "twice", user.top).code == 0
    (tmp_path / "twice").write_bytes(b"changed")
    again = user.mdm("put", tmp_path / "twice", tmp_path / "once", user.top, "--json")
    assert again.code == EXIT_CODES[AlreadyExists]
    twice, once = json.loads(again.out)
    assert (twice["exit_code"], once["exit_code"]) == (EXIT_CODES[AlreadyExists], 0)
    assert once["surl"] == f"{user.top}/once"
    assert (user.stored()["twice"], user.stored()["once"]) == (b"twice", b"once")
    assert user.mdm("put", tmp_path / "twice", user.top, "--overwrite").code == 0
    assert user.stored()["twice"] == b"changed"
    assert user.unfinished() == 0


def test_names_by_chance_tell_nothing(user: User, tmp_path: Path) -> None:
    (tmp_path / "DOE_JANE.dcm").write_bytes(b"image")
    done = user.mdm("put", "--unnamed", tmp_path / "DOE_JANE.dcm", user.top, "--json")
    (sent,) = json.loads(done.out)
    name = sent["surl"].rpartition("/")[2]
    assert name.endswith(".dcm")
    assert "DOE" not in name
    assert user.stored()[name] == b"image"


def test_who_may_not_write_is_told_so_and_nothing_waits(user: User, tmp_path: Path) -> None:
    (tmp_path / "refused").write_bytes(b"x")
    done = user.mdm("put", tmp_path / "refused", user.top, by=user.element.reader)
    assert done.code == EXIT_CODES[NotAuthorised]
    assert "0 of 1 files" in done.out
    assert "refused: " in done.err
    assert user.unfinished() == 0


def test_what_cannot_be_read_is_withdrawn(user: User, sender: Sender, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "there").mkdir()
    done = user.mdm("put", tmp_path / "gone", user.top)
    assert (done.code, "no such file" in done.err) == (EXIT_CODES[NotFound], True)
    (tmp_path / "there" / "shut").mkdir()
    files = {tmp_path / "good": f"{user.top}/good", tmp_path / "there" / "shut": f"{user.top}/shut"}
    good, shut = sender.send(files)
    assert good.error is None
    assert isinstance(shut.error, InvalidRequest)
    assert user.stored()["good"] == b"good"
    assert user.unfinished() == 0


def test_two_of_one_name_are_not_sent(user: User, tmp_path: Path) -> None:
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "same").write_bytes(directory.encode())
    done = user.mdm("put", tmp_path / "a", tmp_path / "b", user.top)
    assert (done.code, "same name" in done.err) == (EXIT_CODES[InvalidRequest], True)
    assert "same" not in user.stored()


def test_a_place_that_is_none_is_told(user: User, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    assert user.mdm("put", tmp_path / "x", "results").code == EXIT_CODES[InvalidRequest]
    assert user.mdm("put", tmp_path / "x", f"{user.top}/none/of/these").code != 0


def test_an_interrupted_put_leaves_nothing_half_done(user: User, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(2_000_000_000)
    running = subprocess.Popen(
        user.command("put", large, user.top),
        env=user.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until_s = time.monotonic() + PATIENCE_S
    while not user.unfinished():
        assert time.monotonic() < until_s
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == INTERRUPTED, (out, err)
    assert b"0 of 1 files" in err
    assert user.unfinished() == 0
    assert "large" not in user.stored()


def test_rm(user: User, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    assert user.mdm("put", tmp_path / "short", user.top).code == 0
    refused = user.mdm("rm", f"{user.top}/short", by=user.element.reader)
    assert refused.code == EXIT_CODES[NotAuthorised]
    done = user.mdm("rm", f"{user.top}/short", f"{user.top}/never", "--json")
    assert done.code == EXIT_CODES[NotFound]
    assert [one["exit_code"] for one in json.loads(done.out)] == [0, EXIT_CODES[NotFound]]
    assert "short" not in user.stored()
