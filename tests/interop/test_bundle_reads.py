"""``<series>.tar`` read by real clients: one SURL, one request, every door, any part, and `tar` itself."""

from __future__ import annotations

import subprocess
import zlib

import pytest

from srm_dicom.client.doors import Doors
from srm_dicom.client.gridftp import GridFtpClient

ROOT = "/biomed.test/mdm/site/heart-v1"
COUNT = 40


@pytest.fixture(scope="module")
def series(grid):
    """A series that nobody has staged."""
    return grid.series("bundle", COUNT, size_bytes=70_000)


@pytest.fixture(scope="module")
def tar(grid, series):
    """The SURL of its tar, and its bytes as gfal-copy brought them."""
    surl = grid.surl(f"{ROOT}/bundle.tar")
    target = grid.directory / "bundle.tar"
    before = len(grid.requests())
    done(grid.run("gfal-copy", "-f", surl, f"file://{target}"))
    assert len(grid.requests()) == before + 1, "one request for all of them"
    return surl, target.read_bytes()


def done(result):
    assert result.code == 0, result.said
    return result.out


pytestmark = pytest.mark.interop("gfal-copy", "globus-url-copy", "arccp", "tar")


def test_it_is_what_tar_reads(grid, series, tar, tmp_path):
    subprocess.run(["tar", "-x", "-C", tmp_path], input=tar[1], check=True, timeout=60)
    unpacked = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    assert unpacked == {surl.rpartition("/")[2]: grid.sealed(surl) for surl in series}


def test_it_costs_one_file_of_a_request(grid, tar):
    newest = grid.requests()[0]
    assert len(grid.stores.requests.files(newest.token)) == 1
    assert len(grid.stores.requests.files(newest.token)[0].parts) == COUNT


def test_the_srm_tells_of_it(grid, tar):
    surl, data = tar
    assert f"Size: {len(data)}\tregular file" in done(grid.run("gfal-stat", surl))
    assert done(grid.run("gfal-sum", surl, "ADLER32")).split()[1] == f"{zlib.adler32(data):08x}"
    assert "bundle.tar" not in done(grid.run("gfal-ls", grid.surl(ROOT)))
    assert str(len(data)) in done(grid.run("arcls", "-l", surl))


@pytest.mark.parametrize("options", [["-K", "ADLER32"], ["-n", "4"]])
def test_gfal_copy(grid, tar, tmp_path, options):
    done(grid.run("gfal-copy", "-f", *options, tar[0], f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == tar[1]


def test_arccp(grid, tar, tmp_path):
    done(grid.run("arccp", tar[0], f"{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == tar[1]


@pytest.mark.parametrize(
    "options", [["-nodcau"], ["-dcpriv"], ["-p", "4"], ["-p", "3", "-dcpriv"], ["-verify-checksum"]]
)
def test_globus_url_copy(grid, tar, tmp_path, options):
    turl = f"gsiftp://localhost:{grid.door.port}{ROOT}/bundle.tar"
    done(grid.run("globus-url-copy", *options, turl, f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == tar[1]


def test_globus_url_copy_of_a_part(grid, tar, tmp_path):
    turl = f"gsiftp://localhost:{grid.door.port}{ROOT}/bundle.tar"
    done(grid.run("globus-url-copy", "-off", 70_000, "-len", 200_000, turl, f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes()[70_000:] == tar[1][70_000:270_000]


def test_over_https(grid, tar, tmp_path):
    url = f"davs://localhost:{grid.web.port}{ROOT}/bundle.tar"
    done(grid.run("gfal-copy", "-f", "-K", "ADLER32", url, f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == tar[1]
    doors = Doors(grid.alice, GridFtpClient(grid.alice))
    part = doors.read_range(url.replace("davs", "https"), 70_100, 150_000)
    assert part == tar[1][70_100:220_100]
    doors.close()


@pytest.mark.interop("curl")
def test_an_eviction_in_the_middle_of_a_slow_download(grid, tmp_path):
    """Nobody reads on behind curl until all files are gone, of which buffers hold the smaller part."""
    members = grid.series("slow-curl", 24, size_bytes=1_000_000)
    done(grid.run("gfal-copy", "-f", grid.surl(f"{ROOT}/slow-curl.tar"), f"file://{tmp_path}/first"))
    url, proxy = f"https://localhost:{grid.web.port}{ROOT}/slow-curl.tar", grid.alice.certificate
    curl = ["curl", "-sSf", "--capath", grid.pki.trust_dir, "-E", proxy, url]
    with subprocess.Popen(curl, stdout=subprocess.PIPE) as running:
        begun = running.stdout.read(1000)
        for surl in members:
            grid.evict(surl)
        copy = begun + running.stdout.read()
    assert running.returncode == 0
    assert copy == (tmp_path / "first").read_bytes()


def test_a_stranger_finds_none(grid, tar):
    stranger = grid.pki.proxy(grid.pki.user("Mallory"))
    result = grid.run("gfal-stat", tar[0], credential=stranger)
    assert (result.code, "No such file" in result.said) == (2, True)


def test_bring_online_and_evict(grid):
    surls = grid.series("bundled", 3)
    surl = grid.surl(f"{ROOT}/bundled.tar")
    held = grid.pins()
    assert "READY" in done(grid.run("gfal-bringonline", "--polling-timeout", "30", surl))
    assert grid.pins() == held + len(surls)
    assert done(grid.run("gfal-xattr", surls[2], "user.status")).strip() == "ONLINE_AND_NEARLINE"
    assert done(grid.run("gfal-xattr", surl, "user.status")).strip() == "ONLINE_AND_NEARLINE"
    done(grid.run("gfal-evict", surl, grid.requests()[0].token))
    assert grid.pins() == held
