"""Writing as users do it: their own clients, a site over a directory, exit code and output as they see."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srm_dicom.testing.element import StorageElement

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


class Users:
    """A storage element and the clients of its users."""

    def __init__(self, directory: Path) -> None:
        self.se = StorageElement(directory / "se")
        self.se.start()
        self.home = directory / "home"
        self.home.mkdir()

    def run(self, *command: Any, by: Any = None, timeout_s: float = 90.0) -> SimpleNamespace:
        words = [str(word) for word in command]
        program = shutil.which(words[0], path=PATH) or words[0]
        options = ["-D", "BDII:ENABLED=false"] if words[0].startswith("gfal-") else []
        environment = {
            "PATH": PATH,
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "GFAL_PYTHONBIN": "/usr/bin/python3",
            **self.se.pki.environment(by or self.se.alice),
        }
        done = subprocess.run(
            [program, *options, *words[1:]],
            env=environment,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        out, said = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return SimpleNamespace(code=done.returncode, out=out, said=out + said)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    made = Users(tmp_path_factory.mktemp("writes"))
    yield made
    made.se.stop()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "image.dat"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_there_and_back(users: Users, local: Path, tmp_path: Path) -> None:
    target = users.se.surl("copied.dat")
    done = users.run("gfal-copy", "-K", "ADLER32", f"file://{local}", target)
    assert done.code == 0, done.said
    assert (users.se.root / "uploads/vo/data/copied.dat").read_bytes() == local.read_bytes()
    again = users.run("gfal-copy", f"file://{local}", target)
    assert again.code == 17, again.said
    assert "exists" in again.said
    forced = users.run("gfal-copy", "-f", f"file://{local}", target)
    assert forced.code == 0, forced.said
    back = tmp_path / "back.dat"
    done = users.run("gfal-copy", target, f"file://{back}", by=users.se.reader)
    assert done.code == 0, done.said
    assert back.read_bytes() == local.read_bytes()
    summed = users.run("gfal-sum", target, "ADLER32")
    assert summed.out.split()[-1] == f"{zlib.adler32(local.read_bytes()):08x}"


@pytest.mark.interop("gfal-copy")
def test_a_reader_may_not_write(users: Users, local: Path) -> None:
    done = users.run("gfal-copy", f"file://{local}", users.se.surl("no.dat"), by=users.se.reader)
    assert done.code == 13, done.said
    assert "may not write" in done.said
