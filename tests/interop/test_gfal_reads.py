"""Every reading command of gfal2-util and the python3-gfal2 API, with what their users see."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

ROOT = "/biomed.test/mdm/site/heart-v1"

pytestmark = pytest.mark.interop("gfal-ls", "gfal-copy", "gfal-bringonline")


@pytest.fixture(scope="module")
def series(grid):
    """Three files that are staged."""
    surls = grid.series("gfal", 3)
    for surl in surls:
        assert grid.run("gfal-bringonline", "--polling-timeout", "30", surl).code == 0
    return surls


@pytest.fixture
def directory(grid):
    return grid.surl(f"{ROOT}/gfal")


def done(result):
    assert result.code == 0, result.said
    return result.out


def test_ls_long(grid, series, directory):
    rows = [line.split() for line in done(grid.run("gfal-ls", "-l", directory)).splitlines()]
    sizes = {row[-1]: int(row[4]) for row in rows}
    assert sizes == {surl.rpartition("/")[2]: len(grid.sealed(surl)) for surl in series}
    assert {row[0] for row in rows} == {"-r--r-----"}


def test_stat(grid, series):
    told = done(grid.run("gfal-stat", series[0]))
    assert f"Size: {len(grid.sealed(series[0]))}\tregular file" in told
    assert "2026-11-01" in told, "no time is nearer than the month of registration"


def test_sum(grid, series):
    told = done(grid.run("gfal-sum", series[0], "ADLER32")).split()
    assert told == [series[0], grid.adler32(series[0])]


def test_sum_of_another_kind_is_taken_at_the_door(grid, series):
    assert len(done(grid.run("gfal-sum", series[0], "MD5")).split()[1]) == 32


def test_cat(grid, series):
    result = grid.run("gfal-cat", "-b", series[0])
    assert (result.code, result.bytes) == (0, grid.sealed(series[0]))


def test_save_is_refused(grid, series):
    assert grid.run("gfal-save", f"{series[0]}.new", text="x").code != 0


def test_xattr(grid, series):
    told = done(grid.run("gfal-xattr", series[0]))
    assert f"user.replicas = gsiftp://localhost:{grid.door.port}{ROOT}/gfal/0000.dcm.c4gh" in told
    assert "user.status = ONLINE_AND_NEARLINE" in told
    assert "srm.type = srm-dicom" in told


@pytest.mark.parametrize("options", [[], ["-K", "ADLER32"], ["-n", "4"]])
def test_copy(grid, series, tmp_path, options):
    pins = grid.pins()
    done(grid.run("gfal-copy", "-f", *options, series[0], f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[0])
    assert grid.pins() == pins, "gfal-copy gives back what it held"


def test_copy_of_what_nobody_has_staged(grid, tmp_path):
    (surl,) = grid.series("fresh", 1)
    done(grid.run("gfal-copy", "-K", "ADLER32", surl, f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(surl)


def test_copy_of_a_list(grid, series, tmp_path):
    (tmp_path / "list").write_text("\n".join(series) + "\n")
    (tmp_path / "copies").mkdir()
    done(grid.run("gfal-copy", "--from-file", tmp_path / "list", f"file://{tmp_path}/copies"))
    assert_copied(grid, series, tmp_path / "copies")


def test_copy_of_a_directory(grid, series, directory, tmp_path):
    done(grid.run("gfal-copy", "-r", directory, f"file://{tmp_path}/copies"))
    assert_copied(grid, series, tmp_path / "copies")


def assert_copied(grid, surls, directory: Path) -> None:
    wanted = {surl.rpartition("/")[2]: grid.sealed(surl) for surl in surls}
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == wanted


def test_copy_of_what_is_not_there(grid, tmp_path):
    result = grid.run("gfal-copy", grid.surl(f"{ROOT}/gfal/none"), f"file://{tmp_path}/copy")
    assert result.code == errno.ENOENT
    assert "SRM_INVALID_PATH" in result.said
    assert not (tmp_path / "copy").exists()


# --- staging


def test_bring_online_and_evict(grid, tmp_path):
    surls = grid.series("online", 3)
    assert all("QUEUED" in line for line in done(grid.run("gfal-bringonline", surls[0])).splitlines())
    (tmp_path / "list").write_text("\n".join(surls) + "\n")
    polled = done(grid.run("gfal-bringonline", "--polling-timeout", "30", "--from-file", tmp_path / "list"))
    assert [line for line in polled.splitlines() if "READY" in line] == [f"{surl} READY" for surl in surls]
    assert done(grid.run("gfal-xattr", surls[2], "user.status")).strip() == "ONLINE_AND_NEARLINE"
    (token,) = [one.token for one in grid.requests() if len(grid.stores.requests.files(one.token)) == 3]
    pins = grid.pins()
    done(grid.run("gfal-evict", surls[0], token))
    assert grid.pins() == pins - 1, "the other request holds it still"
    refused = grid.run("gfal-evict", surls[1], "no-such-token")
    assert (refused.code, "SRM_INVALID_REQUEST" in refused.said) == (53, True)
    done(grid.run("gfal-evict", surls[1]))
    assert grid.pins() == pins - 1, "gfal2 without a token asks nobody"


def test_a_pin_lasts_as_long_as_asked(grid):
    (surl,) = grid.series("lifetime", 1)
    options = ("--pin-lifetime", "600", "--desired-request-time", "900", "--polling-timeout", "30")
    assert "READY" in done(grid.run("gfal-bringonline", *options, surl))
    (file,) = grid.stores.requests.files_of_owner(grid.pki.dn(grid.alice), [surl.partition("SFN=")[2]])
    assert file.pin_s == 600


def test_bring_online_says_what_is_not_there(grid):
    told = grid.run("gfal-bringonline", grid.surl(f"{ROOT}/gfal/none")).said
    assert "FAILED" in told
    assert "SRM_INVALID_PATH] no such file or directory" in told


def test_archive_poll(grid, series, tmp_path):
    (nearline,) = grid.series("archived", 1)
    (tmp_path / "list").write_text(f"{series[0]}\n{nearline}\n{grid.surl(f'{ROOT}/none')}\n")
    told = grid.run("gfal-archivepoll", "--from-file", tmp_path / "list").said
    assert f"{series[0]} READY" in told
    assert f"{nearline} READY" in told, "what is indexed is in the archive"
    assert "none => FAILED" in told


def test_a_slow_file_ends_well(grid, tmp_path):
    (surl,) = grid.series("slow-gfal", 1, slow_s=2.5)
    done(grid.run("gfal-copy", surl, f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(surl)


def test_an_impatient_user_withdraws_the_request(grid, tmp_path):
    (surl,) = grid.series("impatient", 1, slow_s=4)
    result = grid.run("gfal-copy", "-t", "2", surl, f"file://{tmp_path}/copy")
    assert result.code == errno.ETIMEDOUT
    (file,) = grid.stores.requests.files_of_owner(grid.pki.dn(grid.alice), [surl.partition("SFN=")[2]])
    assert file.state.value == "aborted"


# --- the API

MANY, EACH = 1000, 25
BULK = f"""
import gfal2, sys, time
context = gfal2.creat_context()
context.set_opt_boolean("BDII", "ENABLED", False)
surls = sys.stdin.read().split()
requests = [surls[start:start + {EACH}] for start in range(0, len(surls), {EACH})]
tokens = []
for wanted in requests:
    errors, token = context.bring_online(wanted, 3600, 1800, True)
    assert not any(error for error in errors if error and error.code != 11), errors
    tokens.append(token)
deadline = time.time() + 60
for wanted, token in zip(requests, tokens):
    while any(errors := context.bring_online_poll(wanted, token)):
        assert {{error.code for error in errors if error}} == {{11}}, errors
        assert time.time() < deadline
        time.sleep(0.5)
for wanted, token in zip(requests, tokens):
    assert not any(context.release(wanted, token))
"""
"""gfal2's own time grows with the square of the SURLs of a request: 17 s for 300, minutes for 1,000."""


def test_a_thousand_files_are_brought_online_and_released_in_bulk(grid):
    surls = grid.series("bulk", MANY, size_bytes=200)
    pins = grid.pins()
    done(grid.run("/usr/bin/python3", "-c", BULK, text="\n".join(surls)))
    assert grid.pins() == pins
    entries = grid.stores.namespace.find_many([surl.partition("SFN=")[2] for surl in surls])
    assert sum(entry.facts is not None for entry in entries.values()) == MANY


# --- credentials


def test_every_kind_of_credential_reads(grid, series, tmp_path, credential):
    assert "0000.dcm.c4gh" in done(grid.run("gfal-ls", grid.surl(f"{ROOT}/gfal"), credential=credential))
    copy = ("gfal-copy", "-K", "ADLER32", series[0], f"file://{tmp_path}/copy")
    done(grid.run(*copy, credential=credential))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[0])


@pytest.mark.parametrize("group", ["", "/biomed.test/other"])
def test_another_group_does_not(grid, series, group):
    who = grid.pki.user(f"Stranger{len(group)}")
    credential = grid.vo.proxy(who, group) if group else grid.pki.proxy(who)
    result = grid.run("gfal-stat", series[0], credential=credential)
    assert result.code == errno.ENOENT
    assert os.fspath(grid.directory) not in result.said
