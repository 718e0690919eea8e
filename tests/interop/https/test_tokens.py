"""A real storage element and the scopes of its users' tokens, with the programs that people use."""

from __future__ import annotations

import pytest

from srm_dicom.testing.element import ROOT

GFAL = pytest.mark.interop("gfal-copy")
CURL = pytest.mark.interop("curl")


@pytest.fixture
def run(tokened, tmp_path):
    """Run a program with a token of Alice's and no certificate; (exit code, what it said)."""
    (tmp_path / "local").write_bytes(b"local")

    def run(scope, *command):
        done = tokened.run(*command, X509_USER_PROXY="", BEARER_TOKEN=tokened.token(scope))
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def curl(tokened):
    """Ask with curl; the status."""

    def ask(scope, method, name, *options):
        bearer = ("-H", f"Authorization: Bearer {tokened.token(scope)}", "-X", method)
        trust = ("--capath", tokened.pki.trust_dir, "-o", "/dev/null", "-w", "%{http_code}")
        done = tokened.run("curl", "-sS", *trust, *bearer, *options, tokened.url(name, "https"))
        return int(done.stdout)

    return ask


@GFAL
def test_a_token_makes_the_directories_that_lead_to_what_it_may_create(tokened, run, tmp_path):
    local, url = f"file://{tmp_path}/local", tokened.url("lead1/lead2/file")
    scope = f"storage.create:{ROOT}/lead1/lead2"
    code, said = run(scope, "gfal-copy", "-p", local, url)
    assert code == 0, said
    assert run(scope, "gfal-mkdir", tokened.url("lead1/other"))[0] != 0
    assert run(f"storage.read:{ROOT}/lead1/lead2", "gfal-cat", url) == (0, "local")


@GFAL
def test_a_token_that_modifies_removes_renames_and_overwrites(tokened, run, tmp_path):
    local, url, moved = f"file://{tmp_path}/local", tokened.url("modified"), tokened.url("renamed")
    for command in (
        ("gfal-copy", local, url),
        ("gfal-copy", "-f", local, url),
        ("gfal-stat", url),
        ("gfal-sum", url, "ADLER32"),
        ("gfal-rename", url, moved),
        ("gfal-rm", moved),
    ):
        code, said = run(f"storage.modify:{ROOT}", *command)
        assert (code, "MISSING" in said) == (0, False), said
    assert run(f"storage.modify:{ROOT}", "gfal-copy", local, url)[0] == 0
    code, said = run(f"storage.modify:{ROOT}", "gfal-copy", local, url)
    assert (code, "exists" in said) == (17, True), said


@CURL
def test_what_the_compliance_suite_asks(curl, tmp_path):
    """The suite's cases of scopes and paths, by their statuses."""
    (tmp_path / "local").write_bytes(b"local")
    put = ("-T", tmp_path / "local")
    read, create, modify = (f"storage.{word}:{ROOT}/suite" for word in ("read", "create", "modify"))
    assert curl(modify, "MKCOL", "suite") == 201
    assert curl(create, "PUT", "suite/f", *put) == 201
    assert curl(create, "PUT", "suite/f", *put) == 403
    assert curl(f"{create} {read}", "DELETE", "suite/f") == 403
    assert curl(create, "GET", "suite/f") == 403
    assert curl(modify, "GET", "suite/f") == 403
    assert curl(read, "GET", "suite/f") == 200
    assert curl(read, "GET", "suite/none") == 404
    assert curl(read, "GET", "none") == 403
    assert curl(read, "PUT", "suite/g", *put) == 403
    assert curl(modify, "PUT", "none", *put) == 403
    assert curl(f"storage.read:{ROOT}/sui", "GET", "suite/f") == 403
    assert curl(f"storage.create:{ROOT}/sui", "MKCOL", "suite/dir") == 403
    assert curl(create, "MKCOL", "suite/dir") == 201
    assert curl("openid", "GET", "suite/none") == 403
    assert curl("openid", "PUT", "suite/g", *put) == 403
    assert curl(modify, "DELETE", "suite/f") == 204
