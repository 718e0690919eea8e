"""Writing over https with the programs that people use."""

import hashlib
import os
import zlib
from pathlib import Path

import pytest

GFAL = pytest.mark.interop("gfal-copy")
DAVIX = pytest.mark.interop("davix-put")
CURL = pytest.mark.interop("curl")
RCLONE = pytest.mark.interop("rclone")
XGFAL = Path(__file__).parents[3] / ".venv-clients" / "bin"
EEXIST, ENOENT = 17, 2


def succeeded(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def root(pair):
    return pair.there.root


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "local"
    path.write_bytes(os.urandom(2_000_003))
    return path


@GFAL
def test_gfal_uploads_and_checks(pair, root, local):
    put = ("gfal-copy", "-K", "ADLER32", f"file://{local}", pair.there.url("gfal"))
    succeeded(pair.run(*put))
    assert (root / "gfal").read_bytes() == local.read_bytes()
    again = pair.run(*put)
    assert (again.returncode, "exists" in again.stderr) == (EEXIST, True)
    succeeded(pair.run(put[0], "-f", *put[1:]))


@GFAL
def test_gfal_names(pair, root, local):
    url = pair.there.url
    succeeded(pair.run("gfal-mkdir", url("names")))
    assert (root / "names").is_dir()
    assert pair.run("gfal-mkdir", url("names")).returncode == EEXIST
    succeeded(pair.run("gfal-mkdir", "-p", url("deep/er/still")))
    succeeded(pair.run("gfal-copy", "-p", f"file://{local}", url("deep/new/file")))
    succeeded(pair.run("gfal-rename", url("deep/new/file"), url("names/moved")))
    assert (root / "names/moved").read_bytes() == local.read_bytes()
    assert pair.run("gfal-rm", url("names/none")).returncode == ENOENT
    succeeded(pair.run("gfal-rm", url("names/moved")))
    succeeded(pair.run("gfal-rm", "-r", url("deep")))
    assert not (root / "deep").exists()
    assert sorted(path.name for path in (root / "names").iterdir()) == []


@GFAL
def test_gfal_saves_from_its_standard_input(pair, root):
    with_text = pair.run("gfal-save", pair.there.url("saved"), text="said\n")
    succeeded(with_text)
    assert (root / "saved").read_text() == "said\n"


@GFAL
def test_gfal_streams_between_servers_that_do_not_copy(pair, root):
    copy = ("gfal-copy", "--copy-mode", "streamed", pair.here.url("file"), pair.there.url("streamed"))
    succeeded(pair.run(*copy))
    assert (root / "streamed").read_bytes() == pair.content


@DAVIX
def test_davix(pair, root, local, tmp_path):
    who = ("--capath", pair.pki.trust_dir, "-E", pair.alice.certificate)
    succeeded(pair.run("davix-put", *who, local, pair.there.url("davix-put")))
    assert (root / "davix-put").read_bytes() == local.read_bytes()
    succeeded(pair.run("davix-mkdir", *who, pair.there.url("davix-dir")))
    pair.run("davix-mv", *who, pair.there.url("davix-put"), pair.there.url("davix-dir/x"))  # exits with 255
    succeeded(pair.run("davix-get", *who, pair.there.url("davix-dir/x"), tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    succeeded(pair.run("davix-rm", *who, pair.there.url("davix-dir/x")))
    assert list((root / "davix-dir").iterdir()) == []


@CURL
@pytest.mark.parametrize("header", ["X: y", "Expect: 100-continue", "Transfer-Encoding: chunked"])
def test_curl_puts(pair, root, local, header):
    succeeded(pair.curl("-f", "-H", header, "-T", local, pair.there.url("curl", "https")))
    assert (root / "curl").read_bytes() == local.read_bytes()


@CURL
def test_a_sum_that_does_not_match_leaves_nothing(pair, root, local):
    wrong = f"{zlib.adler32(local.read_bytes()) ^ 1:08x}"
    url = pair.there.url("summed", "https")
    done = pair.curl("-w", "%{http_code}", "-H", f"Digest: adler32={wrong}", "-T", local, url)
    assert done.stdout.endswith("400")
    assert not (root / "summed").exists()


@CURL
def test_curl_with_a_token(pair, root, local):
    token = pair.issuer.token("alice", "storage.modify:/")
    trust = ("--capath", pair.pki.trust_dir)
    bearer = ("-H", f"Authorization: Bearer {token}")
    url = pair.there.url("token", "https")
    succeeded(pair.run("curl", "-sSf", *trust, *bearer, "-T", local, url))
    assert (root / "token").read_bytes() == local.read_bytes()


@RCLONE
def test_rclone_mirrors(pair, root, local, tmp_path):
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    for number in range(20):
        (tree / f"a/b/f{number}").write_bytes(os.urandom(1000 + number))
    who = pair.alice
    options = ("--webdav-url", pair.there.url("", "https"), "--webdav-vendor", "other", "--ca-cert")
    authority = next(pair.pki.trust_dir.glob("*.0"))
    keys = ("--client-cert", who.certificate, "--client-key", who.key, "--retries", "1")

    def rclone(*command):
        return succeeded(pair.run("rclone", *command, *options, authority, *keys))

    rclone("copy", tree, ":webdav:rclone")
    copied = {path.name: path.read_bytes() for path in (root / "rclone/a/b").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (tree / "a/b").iterdir()}
    listed = rclone("lsf", "-R", "--files-only", ":webdav:rclone").splitlines()
    assert sum(line.startswith("a/b/f") for line in listed) == 20
    rclone("copy", ":webdav:rclone", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back/a/b/f7").read_bytes()).digest() == (
        hashlib.sha256((tree / "a/b/f7").read_bytes()).digest()
    )
    rclone("check", "--download", tree, ":webdav:rclone")
    rclone("moveto", ":webdav:rclone/a/b/f0", ":webdav:rclone/moved")
    assert (root / "rclone/moved").read_bytes() == (tree / "a/b/f0").read_bytes()
    said = rclone("-v", "copyto", ":webdav:rclone/a/b/f1", ":webdav:rclone/copied")
    assert "server-side" in said
    assert (root / "rclone/copied").read_bytes() == (tree / "a/b/f1").read_bytes()
    rclone("delete", "--rmdirs", ":webdav:rclone")
    assert not (root / "rclone/a").exists()


@RCLONE
def test_rclone_copies_from_name_to_name_with_a_token(pair, root, local):
    token = pair.issuer.token("alice", "storage.read:/ storage.modify:/ storage.create:/")
    options = ("--webdav-url", pair.there.url("", "https"), "--webdav-vendor", "other", "--ca-cert")
    (root / "tokened").mkdir()
    (root / "tokened/one").write_bytes(local.read_bytes())
    said = succeeded(
        pair.run(
            "rclone", "-v", "copyto", ":webdav:tokened/one", ":webdav:tokened/two", *options,
            next(pair.pki.trust_dir.glob("*.0")), "--webdav-bearer-token", token, "--retries", "1",
        )
    )  # fmt: skip
    assert "server-side" in said
    assert (root / "tokened/two").read_bytes() == local.read_bytes()


@pytest.mark.interop(str(XGFAL / "gfal-copy"))
def test_xgfalclient(pair, root, local):
    succeeded(pair.run(XGFAL / "gfal-copy", f"file://{local}", pair.there.url("xgfal")))
    assert (root / "xgfal").read_bytes() == local.read_bytes()
    succeeded(pair.run(XGFAL / "gfal-copy", pair.here.url("file"), pair.there.url("xgfal-copied")))
    assert (root / "xgfal-copied").read_bytes() == pair.content
    succeeded(pair.run(XGFAL / "gfal-mkdir", pair.there.url("xgfal-dir")))
    succeeded(pair.run(XGFAL / "gfal-rename", pair.there.url("xgfal"), pair.there.url("xgfal-dir/x")))
    succeeded(pair.run(XGFAL / "gfal-rm", "-r", pair.there.url("xgfal-dir")))
    assert not (root / "xgfal-dir").exists()
