"""The WLCG Tape REST API with unmodified clients: the tape commands of gfal2 on davs, curl, xgfalclient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srm_dicom.store.requests import FileState

ROOT = "/biomed.test/mdm/site/heart-v1"
XGFAL = Path(__file__).parents[3] / ".venv-clients" / "bin"
GFAL = pytest.mark.interop("gfal-bringonline", "gfal-evict", "gfal-archivepoll")
CURL = pytest.mark.interop("curl")


def done(result):
    assert result.code == 0, result.said
    return result.out


def states(grid, token):
    return {file.state for file in grid.stores.requests.files(token)}


def urls(grid, name, count, **options):
    return [grid.davs(surl) for surl in grid.series(f"tape-{name}", count, **options)]


def brought_online(grid, *command, **options):
    """Run a command that brings files online and waits for them; the token of its request."""
    assert "READY" in done(grid.run(*command, **options))
    return grid.requests()[0].token


@pytest.fixture(params=["X.509", "token"])
def who(request, grid):
    """What a user has to show: a proxy, or a token and no certificate."""
    if request.param == "X.509":
        return {}
    token = grid.tokens.token("alice", f"storage.stage:{ROOT} storage.read:{ROOT}")
    return {"X509_USER_PROXY": "", "BEARER_TOKEN": token}


@GFAL
def test_bring_online_evict_and_archive_poll(grid, who):
    (url,) = urls(grid, f"one-{len(who)}", 1, slow_s=1.0)
    assert "NEARLINE" in done(grid.run("gfal-xattr", url, "user.status", **who))
    token = brought_online(grid, "gfal-bringonline", "--polling-timeout", "30", url, **who)
    assert states(grid, token) == {FileState.PINNED}
    assert "ONLINE_AND_NEARLINE" in done(grid.run("gfal-xattr", url, "user.status", **who))
    assert "READY" in done(grid.run("gfal-archivepoll", url, **who))
    done(grid.run("gfal-evict", url, token, **who))
    assert states(grid, token) == {FileState.RELEASED}


@GFAL
def test_evict_without_a_token_releases_in_every_request(grid):
    (url,) = urls(grid, "every", 1)
    tokens = [brought_online(grid, "gfal-bringonline", "--polling-timeout", "30", url) for _ in range(2)]
    done(grid.run("gfal-evict", url))
    assert [states(grid, token) for token in tokens] == [{FileState.RELEASED}] * 2


@GFAL
@pytest.mark.timeout(240)
def test_a_thousand_files(grid, tmp_path, who):
    wanted = urls(grid, f"thousand-{len(who)}", 1000, size_bytes=100)
    listed = tmp_path / "urls"
    listed.write_text("\n".join(wanted))
    bring = ("gfal-bringonline", "--polling-timeout", "120", "--from-file", listed)
    token = brought_online(grid, *bring, timeout_s=200, **who)
    assert states(grid, token) == {FileState.PINNED}
    done(grid.run("gfal-archivepoll", "--from-file", listed, timeout_s=100, **who))
    release = "import gfal2, sys; u = open(sys.argv[1]).read().split(); "
    release += "sys.exit(any(gfal2.creat_context().release(u, sys.argv[2])))"
    done(grid.run("/usr/bin/python3", "-c", release, listed, token, **who))  # gfal-evict takes one file
    assert states(grid, token) == {FileState.RELEASED}


@GFAL
def test_what_is_not_there(grid):
    url = grid.davs(grid.surl(f"{ROOT}/nothing"))
    result = grid.run("gfal-bringonline", "--polling-timeout", "10", url)
    assert "FAILED: [Tape REST API] no such file or directory" in result.said
    assert "no such file or directory" in grid.run("gfal-archivepoll", url).said


@GFAL
def test_a_token_for_reading_alone_stages_nothing(grid):
    (url,) = urls(grid, "reading", 1)
    token = grid.tokens.token("alice", f"storage.read:{ROOT}")
    before = len(grid.requests())
    result = grid.run("gfal-bringonline", url, X509_USER_PROXY="", BEARER_TOKEN=token)
    assert "FAILED" in result.said
    assert "403" in result.said
    assert len(grid.requests()) == before


# --- the specification's own words, with curl


def curl(grid, method, path, message=None):
    """Call the API; the status and the answer."""
    credential = grid.alice
    body = () if message is None else ("-H", "Content-Type: application/json", "-d", json.dumps(message))
    result = grid.run(
        "curl", "-sS", "--capath", grid.pki.trust_dir, "-E", credential.certificate, "--key",
        credential.key, "-X", method, *body, "-w", "\n%{http_code} %{redirect_url} %header{location}",
        path if path.startswith("https:") else f"https://localhost:{grid.web.port}{path}",
    )  # fmt: skip
    answer, _, status = done(result).rpartition("\n")
    return int(status.split()[0]), json.loads(answer) if answer else None


@pytest.fixture
def api(grid):
    status, discovery = curl(grid, "GET", "/.well-known/wlcg-tape-rest-api")
    assert status == 200
    (endpoint,) = discovery["endpoints"]
    assert endpoint["version"] == "v1"
    assert discovery["sitename"] == "localhost"

    def call(method, path, message=None):
        return curl(grid, method, endpoint["uri"] + path, message)

    return call


@CURL
def test_stage_poll_cancel_and_delete(grid, api):
    paths = [surl.partition("SFN=")[2] for surl in grid.series("tape-curl", 2, slow_s=2.0)]
    files = [
        {"path": "/" + paths[0], "diskLifetime": "PT1H", "targetedMetadata": {"elsewhere": {"x": 1}}},
        {"path": paths[1]},
        {"path": f"{ROOT}/none"},
    ]
    status, answer = api("POST", "/stage", {"files": files, "unknown": True})
    assert status == 201
    request = f"/stage/{answer['requestId']}"
    status, progress = api("GET", request)
    assert (status, progress["id"]) == (200, answer["requestId"])
    assert progress["startedAt"] >= progress["createdAt"] > 0
    found = {file["path"]: file for file in progress["files"]}
    assert list(found) == ["/" + paths[0], paths[1], f"{ROOT}/none"]
    assert found[f"{ROOT}/none"] == {
        "path": f"{ROOT}/none", "state": "FAILED", "error": "no such file or directory",
    }  # fmt: skip
    status, problem = api("POST", request + "/cancel", {"paths": [paths[0], "/not/in/it"]})
    assert (status, problem["status"]) == (400, 400)
    assert api("POST", request + "/cancel", {"paths": [paths[0]]}) == (200, None)
    progress = api("GET", request)[1]["files"]
    assert progress[0] == {"path": "/" + paths[0], "state": "CANCELLED"}
    assert progress[1]["state"] in ("SUBMITTED", "STARTED", "COMPLETED")
    assert api("DELETE", request) == (200, None)
    assert api("GET", request)[0] == 404


@CURL
def test_archiveinfo(grid, api):
    (surl,) = grid.series("tape-info", 1)
    path = surl.partition("SFN=")[2]
    assert api("POST", "/archiveinfo", {"paths": [path, "/none", f"{ROOT}/tape-info"]}) == (
        200,
        [
            {"path": path, "locality": "TAPE"},
            {"path": "/none", "error": "no such file or directory"},
            {"path": f"{ROOT}/tape-info", "error": "this is a directory"},
        ],
    )


@CURL
@pytest.mark.parametrize("message", [{}, {"paths": "/x"}, [], {"files": [{"path": 3}]}])
def test_what_is_no_request(api, message):
    status, problem = api("POST", "/stage", message)
    assert (status, "JSON validation" in problem["detail"]) == (400, True)


@CURL
def test_a_request_of_nobody(api):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        assert api(method, f"/stage/00000000-0000-4000-8000-000000000000{path}", {"paths": []})[0] == 404
    assert api("POST", "/release/00000000-0000-4000-8000-000000000000", {"paths": []})[0] == 404
    assert api("GET", "/nothing")[0] == 404


@pytest.mark.interop(str(XGFAL / "gfal-bringonline"))
def test_xgfalclient(grid):
    (url,) = urls(grid, "xgfal", 1, slow_s=1.0)
    token = brought_online(grid, XGFAL / "gfal-bringonline", "--polling-timeout", "30", url)
    assert "READY" in done(grid.run(XGFAL / "gfal-archivepoll", url))
    done(grid.run(XGFAL / "gfal-evict", url, token))
    assert states(grid, token) == {FileState.RELEASED}
