"""A series that takes minutes to stage: what ARC and gfal2 do meanwhile, and that it ends well.

gfal2 polls every 0.5 to 5 seconds for 1,800 and then withdraws. arccp lists first, asks for each file of a
directory by itself, comes again after as long as it is told, and gives up after 300; it never brings online
(of ARC's programs, only the data staging of A-REX does). ``SLOW_STAGING_S=240`` makes this the four minutes
that a large series takes; without it the time is scaled down.
"""

from __future__ import annotations

import os
import time

import pytest

from srm_dicom.store.requests import FileState, RequestKind

ROOT = "/biomed.test/mdm/site/heart-v1"
STAGING_S = float(os.environ.get("SLOW_STAGING_S", "12"))
FILES = 6
PATIENCE_S = 3 * STAGING_S + 120

pytestmark = pytest.mark.timeout(PATIENCE_S + 60)


def slow_series(grid, name):
    """A series whose files come one after the other, the last after `STAGING_S`."""
    return grid.series(name, FILES, slow_s=STAGING_S / FILES)


def kinds(grid, known):
    return {one.kind for one in grid.requests() if one.token not in known}


def run(grid, *command):
    known = {one.token for one in grid.requests()}
    begun = time.monotonic()
    result = grid.run(*command, timeout_s=PATIENCE_S)
    assert result.code == 0, result.said
    assert time.monotonic() - begun >= STAGING_S * (FILES - 1) / FILES, "it had to be waited for"
    return kinds(grid, known)


def copied(grid, surls, directory):
    wanted = {surl.rpartition("/")[2]: grid.sealed(surl) for surl in surls}
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == wanted


@pytest.mark.interop("arccp")
def test_arccp_of_a_series(grid, tmp_path):
    surls = slow_series(grid, "patience-arc")
    source = f"srm://localhost:{grid.server.port}{ROOT}/patience-arc/"
    assert run(grid, "arccp", "-r", source, f"{tmp_path}/copies/") == {RequestKind.GET}
    copied(grid, surls, tmp_path / "copies")


@pytest.mark.interop("arccp")
def test_arccp_of_one_slow_file(grid, tmp_path):
    (surl,) = grid.series("patience-arc-one", 1, slow_s=STAGING_S)
    assert run(grid, "arccp", surl, f"{tmp_path}/copy") == {RequestKind.GET}
    assert (tmp_path / "copy").read_bytes() == grid.sealed(surl)


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_of_a_series(grid, tmp_path):
    surls = slow_series(grid, "patience-gfal")
    run(grid, "gfal-copy", "-r", grid.surl(f"{ROOT}/patience-gfal"), f"file://{tmp_path}/copies")
    copied(grid, surls, tmp_path / "copies")


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_of_a_tar(grid, tmp_path):
    slow_series(grid, "patience-tar")
    assert run(grid, "gfal-copy", grid.surl(f"{ROOT}/patience-tar.tar"), f"file://{tmp_path}/tar") == {
        RequestKind.GET
    }
    assert (tmp_path / "tar").stat().st_size % 10240 == 0


@pytest.mark.interop("gfal-bringonline", "gfal-copy")
def test_bring_online_and_then_copy(grid, tmp_path):
    surls = slow_series(grid, "patience-online")
    (tmp_path / "list").write_text("\n".join(surls) + "\n")
    (tmp_path / "copies").mkdir()
    polling = ("--polling-timeout", int(PATIENCE_S))
    assert run(grid, "gfal-bringonline", *polling, "--from-file", tmp_path / "list") == {
        RequestKind.BRING_ONLINE
    }
    result = grid.run("gfal-copy", "--from-file", tmp_path / "list", f"file://{tmp_path}/copies")
    assert result.code == 0, result.said
    copied(grid, surls, tmp_path / "copies")


def test_nothing_is_left_waiting(grid):
    assert not grid.stores.requests.counts().get(FileState.QUEUED, 0)
