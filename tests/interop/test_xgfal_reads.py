"""xgfalclient, a gfal2 in pure Python, reads from the SRM.

It installs modules and programs of the names of the real gfal2, so it has an environment of its own:
``.ci/run`` makes ``.venv-clients``.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

ROOT = "/biomed.test/mdm/site/heart-v1"
PROGRAMS = Path(__file__).parents[2] / ".venv-clients" / "bin"

pytestmark = pytest.mark.interop(str(PROGRAMS / "gfal-copy"))


@pytest.fixture(scope="module")
def series(grid):
    """Three files that nobody has staged yet."""
    return grid.series("xgfal", 3)


def run(grid, tool, *arguments, **options):
    return grid.run(PROGRAMS / tool, *arguments, **options)


def done(result):
    assert result.code == 0, result.said
    return result.out


def test_bring_online_and_archive_poll(grid, series):
    assert "READY" in done(run(grid, "gfal-bringonline", "--polling-timeout", "30", series[0]))
    assert "READY" in done(run(grid, "gfal-archivepoll", series[0]))


def test_look(grid, series):
    listed = done(run(grid, "gfal-ls", "-l", grid.surl(f"{ROOT}/xgfal")))
    assert sum(".dcm.c4gh" in line for line in listed.splitlines()) == 3
    done(run(grid, "gfal-bringonline", "--polling-timeout", "30", series[0]))
    assert f"Size: {len(grid.sealed(series[0]))}" in done(run(grid, "gfal-stat", series[0]))
    assert grid.adler32(series[0]) in done(run(grid, "gfal-sum", series[0], "ADLER32"))
    assert "ONLINE_AND_NEARLINE" in done(run(grid, "gfal-xattr", series[0], "user.status"))


@pytest.mark.parametrize("options", [[], ["-K", "ADLER32"]])
def test_copy(grid, series, tmp_path, options):
    # 0.4.0 believes the size that it saw first: a file that is only indexed is to be brought online before.
    done(run(grid, "gfal-bringonline", "--polling-timeout", "30", series[1]))
    done(run(grid, "gfal-copy", "-f", *options, series[1], f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[1])


def test_copy_of_a_directory(grid, series, tmp_path):
    done(run(grid, "gfal-copy", "-r", grid.surl(f"{ROOT}/xgfal"), f"file://{tmp_path}/copies"))
    copies = {path.name: path.read_bytes() for path in (tmp_path / "copies").iterdir()}
    assert copies == {surl.rpartition("/")[2]: grid.sealed(surl) for surl in series}


def test_every_kind_of_credential_reads(grid, series, tmp_path, credential):
    done(run(grid, "gfal-bringonline", "--polling-timeout", "30", series[1], credential=credential))
    done(run(grid, "gfal-copy", "-f", series[1], f"file://{tmp_path}/copy", credential=credential))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[1])


def test_what_is_not_there(grid):
    assert run(grid, "gfal-stat", grid.surl(f"{ROOT}/xgfal/none")).code == errno.ENOENT
