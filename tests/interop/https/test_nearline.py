"""Reading over https what nobody has staged: the connection waits, or the client comes back."""

from __future__ import annotations

import pytest

ROOT = "/biomed.test/mdm/site/heart-v1"
CURL = pytest.mark.interop("curl")


def done(result):
    assert result.code == 0, result.said
    return result


def curl(grid, url, *arguments):
    """Run curl; (status, Retry-After, body)."""
    who = grid.alice
    options = ("-sS", "--capath", grid.pki.trust_dir, "-E", who.certificate, "--key", who.key)
    result = done(grid.run("curl", *options, *arguments, "-w", "\n%{http_code} %header{retry-after}", url))
    body, _, told = result.bytes.rpartition(b"\n")
    status, _, again = told.decode().partition(" ")
    return int(status), again, body


@pytest.mark.interop("gfal-copy")
def test_gfal_copies_what_takes_a_moment(grid, tmp_path):
    (surl,) = grid.series("near-gfal", 1, slow_s=1.0)
    done(grid.run("gfal-copy", grid.davs(surl), f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == grid.sealed(surl)


@CURL
def test_curl_waits_and_has_the_file(grid):
    (surl,) = grid.series("near-curl", 1, slow_s=1.0)
    url = grid.davs(surl).replace("davs:", "https:")
    assert curl(grid, url) == (200, "", grid.sealed(surl))


@CURL
def test_curl_is_told_when_to_come_back(grid):
    (surl,) = grid.series("near-slow", 1, slow_s=6.0)
    url = grid.davs(surl).replace("davs:", "https:")
    status, again, _ = curl(grid, url, "-H", "Prefer: respond-async")
    assert (status, int(again) >= 1) == (202, True)
    status, again, body = curl(grid, url, "-H", "Prefer: wait=0")
    assert (status, int(again) >= 1, b"being staged" in body) == (503, True, True)
    before = len(grid.requests())
    result = curl(grid, url, "--retry", "10", "--retry-delay", "1")
    assert (result[0], result[2][-100:]) == (200, grid.sealed(surl)[-100:])
    assert len(grid.requests()) == before, "who comes back asks about the same request"


@pytest.mark.interop("davix-get")
def test_davix_comes_back_after_202(grid, tmp_path):
    (surl,) = grid.series("near-davix", 1, slow_s=6.0)
    who = ("--capath", grid.pki.trust_dir, "-E", grid.alice.certificate)
    again = ("--accepted-retry", "20", "--accepted-retry-delay", "1")
    result = done(grid.run("davix-get", *who, *again, grid.davs(surl), tmp_path / "copy"))
    assert "202-Accepted" in result.said
    assert (tmp_path / "copy").read_bytes() == grid.sealed(surl)


@CURL
def test_a_token_for_reading_alone_has_nothing_staged(grid):
    (surl,) = grid.series("near-token", 1)
    url = grid.davs(surl).replace("davs:", "https:")
    token = grid.tokens.token("alice", f"storage.read:{ROOT}")
    before = len(grid.requests())
    status, _, body = curl(grid, url, "-H", f"Authorization: Bearer {token}")
    assert (status, b"storage.stage" in body) == (403, True)
    assert len(grid.requests()) == before
