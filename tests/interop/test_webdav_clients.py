"""What grid and web users run, unmodified, against the HTTPS/WebDAV door."""

import hashlib
import os
import shutil
import subprocess
import zlib

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
GFAL = pytest.mark.interop("gfal-copy")
DAVIX = pytest.mark.interop("davix-get")
ARC = pytest.mark.interop("arccp")
CURL = pytest.mark.interop("curl")


class Site:
    """A door over a directory, and what its users have."""

    def __init__(self, base):
        self.base = base
        self.pki = TestPki(base / "pki")
        self.root = base / "files"
        (self.root / "dir").mkdir(parents=True)
        self._fill()
        files = DirectoryFiles(
            self.root,
            hidden={"/secret/hidden"},
            unreadable={"/secret/unreadable"},
            nearline={"/secret/nearline"},
        )
        gate = Gate(TrustSettings(self.pki.trust_dir), self.pki.host(), SystemClock())
        limits = Limits(body_bytes=2**63 - 1)
        self.door = WebServer(WebDavDoor(files), gate, host="localhost", port=0, limits=limits, name="webdav")
        self.alice = self.pki.proxy(self.pki.user("Alice"))
        (base / "home").mkdir()

    def _fill(self):
        (self.root / "file").write_bytes(os.urandom(524_289))
        (self.root / "large").write_bytes(os.urandom(20_000_003))
        (self.root / "empty").write_bytes(b"")
        for number in range(30):
            (self.root / "dir" / f"f{number}").write_bytes(os.urandom(1000 + number))
        (self.root / "secret").mkdir()
        for name in ("hidden", "unreadable", "nearline"):
            (self.root / "secret" / name).write_bytes(b"x")

    @property
    def https(self):
        return f"https://localhost:{self.door.port}"

    @property
    def davs(self):
        return f"davs://localhost:{self.door.port}"

    def content(self, name):
        return (self.root / name).read_bytes()

    def run(self, *command, credential=None, **options):
        environment = self.pki.environment(credential or self.alice)
        return subprocess.run(
            [shutil.which(command[0], path=PATH), *map(str, command[1:])],
            env={"PATH": PATH, "HOME": str(self.base / "home"), "LC_ALL": "C.UTF-8", **environment},
            capture_output=True,
            timeout=60,
            check=False,
            **{"text": True, **options},
        )

    def curl(self, *arguments, credential=None, **options):
        who = credential or self.alice
        trust = ("--capath", self.pki.trust_dir)
        return self.run("curl", "-sS", *trust, "-E", who.certificate, "--key", who.key, *arguments, **options)

    def davix(self, tool, *arguments):
        return self.run(tool, "--capath", self.pki.trust_dir, "-E", self.alice.certificate, *arguments)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("webdav"))
    site.door.start()
    yield site
    site.door.stop()


@pytest.fixture(params=["proxy", "limited", "proxy of a proxy", "certificate"])
def credential(request, site):
    user = site.pki.user("Alice")
    return {
        "proxy": lambda: site.pki.proxy(user),
        "limited": lambda: site.pki.proxy(user, limited=True),
        "proxy of a proxy": lambda: site.pki.proxy(site.pki.proxy(user)),
        "certificate": lambda: user,
    }[request.param]()


def said(done):
    return done.stdout + done.stderr


def succeeded(done):
    assert done.returncode == 0, said(done)
    return done.stdout


# --- gfal2


@GFAL
@pytest.mark.parametrize("name", ["file", "large", "empty"])
def test_gfal_copy(site, tmp_path, name):
    succeeded(site.run("gfal-copy", f"{site.davs}/{name}", f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == site.content(name)


@GFAL
def test_gfal_copy_with_every_credential(site, tmp_path, credential):
    copy = ("gfal-copy", f"{site.davs}/file", f"file://{tmp_path}/copy")
    succeeded(site.run(*copy, credential=credential))
    assert (tmp_path / "copy").read_bytes() == site.content("file")


@GFAL
@pytest.mark.parametrize("algorithm", ["ADLER32", "MD5"])
def test_gfal_copy_checks_the_checksum(site, tmp_path, algorithm):
    copy = ("gfal-copy", "-K", algorithm, f"{site.davs}/large", f"file://{tmp_path}/copy")
    succeeded(site.run(*copy))
    wrong = ("gfal-copy", "-f", "-K", f"{algorithm}:{'0' * 8}", *copy[3:])
    assert "mismatch" in said(site.run(*wrong)).lower()


@GFAL
def test_gfal_copy_of_a_directory(site, tmp_path):
    succeeded(site.run("gfal-copy", "-r", f"{site.davs}/dir", f"file://{tmp_path}/copy"))
    copied = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (site.root / "dir").iterdir()}


@GFAL
def test_gfal_looks_around(site):
    rows = [line.split() for line in succeeded(site.run("gfal-ls", "-l", f"{site.davs}/")).splitlines()]
    listed = {row[-1]: (row[0], row[4]) for row in rows}
    assert listed["file"] == ("-r--r-----", "524289")
    assert listed["dir"][0] == "dr-xr-x---"
    assert len(succeeded(site.run("gfal-ls", f"{site.davs}/dir")).split()) == 30
    told = succeeded(site.run("gfal-stat", f"{site.davs}/file"))
    assert "524289\tregular file" in told
    assert "Modify: 2026-01-01 00:00:00" in told
    wanted = f"{zlib.adler32(site.content('file')):08x}"
    assert succeeded(site.run("gfal-sum", f"{site.davs}/file", "ADLER32")).split()[-1] == wanted


@GFAL
def test_gfal_cat(site):
    done = site.run("gfal-cat", "--bytes", f"{site.davs}/dir/f0", text=False)
    assert (done.returncode, done.stdout) == (0, site.content("dir/f0")), done.stderr


@GFAL
def test_gfal_reads_parts_of_an_open_file(site):
    program = f"""
import gfal2, hashlib
file = gfal2.creat_context().open("{site.davs}/large", "r")
print(hashlib.sha256(file.pread_bytes(10_000_000, 4096) + file.pread_bytes(7, 13)).hexdigest())
"""
    done = site.run("python3", "-c", program)
    content = site.content("large")
    wanted = content[10_000_000:10_004_096] + content[7:20]
    assert succeeded(done).strip() == hashlib.sha256(wanted).hexdigest()


@GFAL
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("secret/hidden", "No such file or directory"),
        ("nothing", "No such file or directory"),
        ("secret/unreadable", "Permission refused"),
        ("secret/nearline", "503"),
    ],
)
def test_gfal_says_why_not(site, tmp_path, name, words):
    done = site.run("gfal-copy", f"{site.davs}/{name}", f"file://{tmp_path}/copy")
    assert done.returncode != 0
    assert words in said(done)


@GFAL
def test_gfal_cannot_write(site):
    up = site.run("gfal-copy", f"file://{site.root}/large", f"{site.davs}/new")
    assert "HTTP 405" in said(up)
    assert "HTTP 405" in said(site.run("gfal-rm", f"{site.davs}/file"))
    assert site.run("gfal-mkdir", f"{site.davs}/made").returncode != 0


@GFAL
def test_gfal_with_a_revoked_certificate(site, tmp_path):
    mallory = site.pki.user("Mallory")
    copy = ("gfal-copy", f"{site.davs}/file", f"file://{tmp_path}/copy")
    succeeded(site.run(*copy, credential=site.pki.proxy(mallory)))
    site.pki.revoke(mallory)
    (tmp_path / "copy").unlink()
    assert site.run(*copy, credential=site.pki.proxy(mallory)).returncode != 0
    assert not (tmp_path / "copy").exists()


# --- davix


@DAVIX
@pytest.mark.parametrize("name", ["file", "large"])
def test_davix_get(site, tmp_path, name):
    succeeded(site.davix("davix-get", f"{site.https}/{name}", tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == site.content(name)


@DAVIX
def test_davix_ls(site):
    listed = succeeded(site.davix("davix-ls", "-l", f"{site.https}/dir"))
    assert len(listed.splitlines()) == 30
    assert "-r--r----- 0     1000       2026-01-01 00:00:00 f0" in listed


# --- ARC


@ARC
@pytest.mark.parametrize("name", ["file", "large", "empty"])
def test_arccp(site, tmp_path, name):
    succeeded(site.run("arccp", f"{site.https}/{name}", tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == site.content(name)


@ARC
def test_arcls(site):
    listed = succeeded(site.run("arcls", "-l", f"{site.https}/dir/"))
    assert len(listed.splitlines()) == 31
    line = succeeded(site.run("arcls", "-l", f"{site.https}/file")).splitlines()[-1]
    assert f"adler32:{zlib.adler32(site.content('file')):08x}" in line
    assert "524289" in line


# --- curl


@CURL
def test_curl_resumes(site, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(site.content("large")[:7_000_000])
    succeeded(site.curl("-C", "-", "-o", copy, f"{site.https}/large"))
    assert copy.read_bytes() == site.content("large")


@CURL
def test_curl_with_every_credential(site, credential):
    done = site.curl("-r", "100-199", f"{site.https}/file", credential=credential, text=False)
    assert done.stdout == site.content("file")[100:200]


@CURL
def test_curl_asks_for_several_ranges(site):
    done = site.curl(
        "-r", "0-3,10-12", "-w", "%{http_code} %{content_type}", f"{site.https}/file", text=False
    )
    assert b"206 multipart/byteranges" in done.stdout
    assert site.content("file")[10:13] in done.stdout


@CURL
def test_curl_has_it_already(site, tmp_path):
    etag = ("--etag-save", tmp_path / "etag", "-o", tmp_path / "copy")
    succeeded(site.curl(*etag, f"{site.https}/file"))
    again = site.curl("--etag-compare", tmp_path / "etag", "-w", "%{http_code}", f"{site.https}/file")
    assert succeeded(again) == "304"


@CURL
def test_curl_without_a_certificate(site):
    done = site.run("curl", "-sS", "--capath", site.pki.trust_dir, "-w", "%{http_code}", f"{site.https}/file")
    assert done.returncode != 0 or done.stdout.endswith("401")
