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

from srm_dicom.testing.element import ROOT, StorageElement

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
XGFAL = Path(__file__).parents[2] / ".venv-clients" / "bin"


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


@pytest.mark.interop("gfal-mkdir", "gfal-rm", "gfal-rename", "gfal-ls", "gfal-copy")
def test_gfal_manages_names(users: Users, local: Path, tmp_path: Path) -> None:
    top = users.se.surl("study")
    made = users.run("gfal-mkdir", "-p", f"{top}/a/b")
    assert made.code == 0, made.said
    assert users.run("gfal-mkdir", "-p", f"{top}/a/b").code == 0
    again = users.run("gfal-mkdir", f"{top}/a")
    assert (again.code, "File exists" in again.said or "exists" in again.said) == (17, True)
    assert users.run("gfal-copy", f"file://{local}", f"{top}/a/b/one.dat").code == 0
    renamed = users.run("gfal-rename", f"{top}/a/b/one.dat", f"{top}/a/two.dat")
    assert renamed.code == 0, renamed.said
    listed = users.run("gfal-ls", "-l", f"{top}/a")
    assert listed.code == 0, listed.said
    assert [line.split()[-1] for line in listed.out.splitlines()] == ["b", "two.dat"]
    assert str(len(local.read_bytes())) in listed.out
    busy = users.run("gfal-rm", f"{top}/a")
    assert busy.code != 0
    gone = users.run("gfal-rm", "-r", top)
    assert gone.code == 0, gone.said
    assert users.run("gfal-stat", top).code == 2


@pytest.mark.interop("gfal-chmod", "gfal-stat")
def test_gfal_chmod(users: Users, local: Path) -> None:
    target = users.se.surl("mode.dat")
    assert users.run("gfal-copy", f"file://{local}", target).code == 0
    changed = users.run("gfal-chmod", "700", target)
    assert changed.code == 0, changed.said
    assert "Access: (07" in users.run("gfal-stat", target).out
    other = users.run("gfal-chmod", "777", target, by=users.se.bob)
    assert other.code == 13


@pytest.mark.interop("gfal-copy")
def test_gfal_copies_a_directory(users: Users, tmp_path: Path) -> None:
    here = tmp_path / "series"
    (here / "deeper").mkdir(parents=True)
    for number in range(3):
        (here / f"{number}.dat").write_bytes(os.urandom(1000))
    (here / "deeper" / "x.dat").write_bytes(b"x" * 1000)
    there = users.run("gfal-copy", "-r", f"file://{here}", users.se.surl("series"))
    assert there.code == 0, there.said
    back = tmp_path / "back"
    again = users.run("gfal-copy", "-r", users.se.surl("series"), f"file://{back}", by=users.se.reader)
    assert again.code == 0, again.said
    expected = {path.relative_to(here): path.read_bytes() for path in here.rglob("*.dat")}
    assert {path.relative_to(back): path.read_bytes() for path in back.rglob("*.dat")} == expected


@pytest.mark.interop("arccp", "arcls", "arcrm", "arcmkdir", "arcrename")
def test_arc_does_all_of_it(users: Users, local: Path, tmp_path: Path) -> None:
    top = users.se.surl("arc")
    assert users.run("arcmkdir", top).code == 0
    put = users.run("arccp", f"file://{local}", f"{top}/one.dat")
    assert put.code == 0, put.said
    assert users.run("arcls", top).out.split() == ["one.dat"]
    detailed = users.run("arcls", "-l", f"{top}/one.dat")
    assert str(local.stat().st_size) in detailed.out
    renamed = users.run("arcrename", f"{top}/one.dat", f"{top}/two.dat")
    assert renamed.code == 0, renamed.said
    back = tmp_path / "back.dat"
    got = users.run("arccp", f"{top}/two.dat", f"file://{back}")
    assert got.code == 0, got.said
    assert back.read_bytes() == local.read_bytes()
    deeper = users.run("arccp", f"file://{local}", f"{top}/made/by/arc.dat")
    assert deeper.code == 0, deeper.said
    assert users.run("arcrm", f"{top}/two.dat").code == 0
    assert users.run("arcls", f"{top}/two.dat").code != 0


@pytest.mark.interop("arccp", "arcls", "arcrm")
def test_arc_removes_by_the_first_version(users: Users, local: Path) -> None:
    surl = users.se.surl("first.dat")
    first = surl.replace("managerv2", "managerv1")
    put = users.run("arccp", f"file://{local}", surl)
    assert put.code == 0, put.said
    removed = users.run("arcrm", first)
    assert removed.code == 0, removed.said
    assert users.run("arcls", surl).code != 0
    again = users.run("arcrm", first)
    assert again.code != 0
    assert "no such file" in again.said


@pytest.mark.interop("gfal-xattr")
def test_gfal_shows_the_attributes_of_who_has_no_space(users: Users) -> None:
    shown = users.run("gfal-xattr", users.se.surl(""), by=users.se.reader)
    assert shown.code == 0, shown.said
    assert "FAILED" not in shown.said.partition("spacetoken")[2]
    space = users.run("gfal-xattr", users.se.surl(""), "spacetoken", by=users.se.reader)
    assert space.code == 0, space.said


@pytest.mark.interop("arccp", "arcmkdir")
@pytest.mark.parametrize("name", ["a b", "a#b", "adir"])
def test_arc_ends_where_no_file_can_be(users: Users, local: Path, name: str) -> None:
    """At SRM_INVALID_PATH it makes the directories, which are there, and asks again until it is killed."""
    made = users.run("arcmkdir", users.se.surl("adir"))
    assert made.code == 0 or "exists" in made.said
    put = users.run("arccp", f"file://{local}", users.se.surl(name), timeout_s=30.0)
    assert put.code != 0
    assert ("characters" if name != "adir" else "directory") in put.said


@pytest.mark.interop("arccp", "arcmkdir", "arcls")
def test_arc_copies_a_directory(users: Users, tmp_path: Path) -> None:
    here = tmp_path / "series"
    (here / "deeper").mkdir(parents=True)
    (here / "one.dat").write_bytes(os.urandom(1000))
    (here / "deeper" / "two.dat").write_bytes(os.urandom(1000))
    # ARC looks at the end of the path for the slash of a directory: not in the full form.
    top = f"srm://localhost:{users.se.srm.port}{ROOT}/arc-series"
    there = users.run("arccp", "-r", f"{here}/", f"{top}/")
    assert there.code == 0, there.said
    back = tmp_path / "back"
    again = users.run("arccp", "-r", f"{top}/", f"{back}/", by=users.se.reader)
    assert again.code == 0, again.said
    expected = {path.relative_to(here): path.read_bytes() for path in here.rglob("*.dat")}
    assert {path.relative_to(back): path.read_bytes() for path in back.rglob("*.dat")} == expected


@pytest.mark.interop(str(XGFAL / "gfal-copy"))
def test_xgfalclient_does_all_of_it(users: Users, local: Path, tmp_path: Path) -> None:
    def done(tool: str, *arguments: object, **options: Any) -> str:
        result = users.run(XGFAL / tool, *arguments, **options)
        assert result.code == 0, result.said
        return str(result.out)

    top = users.se.surl("xgfal")
    done("gfal-mkdir", "-p", f"{top}/a/b")
    done("gfal-copy", f"file://{local}", f"{top}/a/b/one.dat")
    taken = users.run(XGFAL / "gfal-copy", f"file://{local}", f"{top}/a/b/one.dat")
    assert taken.code == 17, taken.said
    done("gfal-copy", "-f", "-K", "ADLER32", f"file://{local}", f"{top}/a/b/one.dat")
    done("gfal-rename", f"{top}/a/b/one.dat", f"{top}/a/two.dat")
    assert done("gfal-ls", f"{top}/a").split() == ["b", "two.dat"]
    back = tmp_path / "back.dat"
    done("gfal-copy", f"{top}/a/two.dat", f"file://{back}", by=users.se.reader)
    assert back.read_bytes() == local.read_bytes()
    assert users.run(XGFAL / "gfal-rm", f"{top}/a/two.dat", by=users.se.reader).code == 13
    done("gfal-rm", "-r", top)
    assert users.run(XGFAL / "gfal-stat", top).code == 2


@pytest.mark.interop("gfal-token")
def test_the_srm_gives_no_tokens(users: Users) -> None:
    """A token comes from an issuer that the site trusts; gfal2 itself asks no SRM for one."""
    asked = users.run("gfal-token", users.se.surl(""))
    assert asked.code != 0
    assert "not supported" in asked.said.lower() or "no plugin" in asked.said.lower(), asked.said
