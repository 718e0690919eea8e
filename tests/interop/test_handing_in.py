"""Physicians hand in images with the programs that they have; the outer zone in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srm_dicom.client.site import SiteDescription
from srm_dicom.client.srm import SrmClient
from srm_dicom.errors import MdmError, NotFound
from srm_dicom.identity.credential import Credential
from srm_dicom.testing.handinsite import ROOT, HandInSite

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
CANARY = b"DOE^JANE^CANARY;"
PATIENCE_S = 20.0


class Users:
    """The site, and clients as their users run them."""

    def __init__(self, directory: Path) -> None:
        self.site = HandInSite(directory / "site")
        self.home = directory / "home"
        self.home.mkdir()

    def run(self, *command: Any, by: Credential | None = None, **variables: str) -> SimpleNamespace:
        words = [str(word) for word in command]
        program = shutil.which(words[0], path=PATH) or words[0]
        options = ["-D", "BDII:ENABLED=false"] if words[0].startswith("gfal-") else []
        environment = {
            "PATH": PATH,
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            **self.site.pki.environment(by or self.site.physician),
            **variables,
        }
        done = subprocess.run(
            [program, *options, *words[1:]], env=environment, capture_output=True, timeout=90, check=False
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        return SimpleNamespace(code=done.returncode, said=said)

    def curl(self, *arguments: Any, by: Credential | None = None) -> SimpleNamespace:
        who = by or self.site.physician
        options = ("--capath", self.site.pki.trust_dir, "-E", who.certificate, "--key", who.key)
        return self.run("curl", "-sS", *options, *arguments, by=who)

    def davix(self, program: str, *arguments: Any) -> SimpleNamespace:
        who = self.site.physician
        options = ("--capath", self.site.pki.trust_dir, "-E", who.certificate, "--key", who.key)
        return self.run(program, *options, *arguments)

    def srm(self) -> SrmClient:
        return SrmClient.connect(f"httpg://localhost:{self.site.ports['srm']}", self.site.physician)

    def newest(self) -> bytes:
        return self.site.archive.contents[-1]

    def settled(self) -> None:
        """Wait until nothing of what was handed in is left in scratch."""
        until_s = time.monotonic() + PATIENCE_S
        while self.site.waiting():
            assert time.monotonic() < until_s, self.site.waiting()
            time.sleep(0.1)


def stored(srm: SrmClient, token: str, surl: str) -> None:
    """End a put, or raise why it did not end well."""
    for file in srm.put_done(token, [surl]):
        file.status.check()


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    made = Users(tmp_path_factory.mktemp("handing-in"))
    made.site.start()
    yield made
    made.site.stop()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "DOE_JANE.dcm"
    path.write_bytes(CANARY * 50_000 + os.urandom(4321))
    return path


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_hands_in(users: Users, image: Path) -> None:
    done = users.run("gfal-copy", f"file://{image}", users.site.surl(image.name))
    assert done.code == 0, done.said
    assert users.newest() == image.read_bytes()
    users.settled()


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_is_told_why_not(users: Users, image: Path) -> None:
    limited = users.site.pki.proxy(users.site.physician, limited=True)
    for by, said in ((users.site.bob, "no such file"), (limited, "limited")):
        done = users.run("gfal-copy", f"file://{image}", users.site.surl("x.dcm"), by=by)
        assert done.code != 0
        assert said in done.said


@pytest.mark.interop("gfal-mkdir", "gfal-rename")
def test_gfal_makes_no_directory_and_no_other_name(users: Users) -> None:
    for command in (
        ("gfal-mkdir", users.site.surl("d")),
        ("gfal-rename", users.site.surl("a"), users.site.surl("b")),
    ):
        done = users.run(*command)
        assert done.code != 0
        assert "images are uploaded here" in done.said


@pytest.mark.interop("curl")
def test_curl_hands_in_by_a_turl(users: Users, image: Path) -> None:
    """What an SRM client does, by hand: prepareToPut, PUT, putDone."""
    with users.srm() as srm:
        surl = users.site.surl("by-hand.dcm")
        request = srm.prepare_to_put({surl: 0}, ["gsiftp", "https"])
        (file,) = request.files
        assert file.turl.startswith("https://")
        stranger = users.curl("-f", "-T", image, file.turl, by=users.site.bob)
        assert "404" in stranger.said
        sent = users.curl(
            "-f", "-H", f"Digest: adler32={zlib.adler32(image.read_bytes()):08x}", "-T", image, file.turl
        )
        assert sent.code == 0, sent.said
        back = users.curl("-o", os.devnull, "-w", "%{http_code}", file.turl)
        assert back.said == "404", "nobody reads it back"
        stored(srm, request.token, surl)
    assert users.newest() == image.read_bytes()
    users.settled()


@pytest.mark.interop("curl")
def test_curl_hands_in_to_a_plain_path(users: Users, image: Path) -> None:
    done = users.curl("-f", "-T", image, users.site.url("plain.dcm"))
    assert done.code == 0, done.said
    assert users.newest() == image.read_bytes()
    made = users.curl("-X", "MKCOL", "-o", os.devnull, "-w", "%{http_code}", users.site.url("dir"))
    assert made.said == "501"


@pytest.mark.interop("davix-put")
def test_davix_hands_in(users: Users, image: Path) -> None:
    done = users.davix("davix-put", image, users.site.url("davix.dcm", "davs"))
    assert done.code == 0, done.said
    assert users.newest() == image.read_bytes()


@pytest.mark.interop("globus-url-copy")
def test_globus_url_copy_hands_in_only_encrypted(users: Users, image: Path) -> None:
    target = users.site.url("globus.dcm", "gsiftp")
    before = len(users.site.archive.has)
    for options in ((), ("-p", "2"), ("-nodcau",)):
        clear = users.run("globus-url-copy", *options, f"file://{image}", target)
        assert clear.code != 0
        assert "534" in clear.said
    assert len(users.site.archive.has) == before
    for options in (("-dcpriv",), ("-dcpriv", "-p", "4", "-bs", "50000")):
        done = users.run("globus-url-copy", *options, f"file://{image}", target)
        assert done.code == 0, done.said
        assert users.newest() == image.read_bytes()


@pytest.mark.interop("globus-url-copy", "curl")
def test_what_broke_off_is_sent_again(users: Users, tmp_path: Path) -> None:
    """By whichever door encrypts."""
    image = tmp_path / "large.dcm"
    image.write_bytes(CANARY * 500_000)
    with users.srm() as srm:
        surl = users.site.surl("large.dcm")
        request = srm.prepare_to_put({surl: 0}, ["https"])
        turl = str(request.files[0].turl)
        assert users.curl("-f", "-m", "1", "--limit-rate", "2M", "-T", image, turl).code != 0
        with pytest.raises(NotFound, match="not all of them"):
            stored(srm, request.token, surl)
        door = f"gsiftp://localhost:{users.site.ports['gridftp']}/.upload/{turl.rpartition('/')[2]}"
        assert "534" in users.run("globus-url-copy", f"file://{image}", door).said
        done = users.run("globus-url-copy", "-dcpriv", f"file://{image}", door)
        assert done.code == 0, done.said
        stored(srm, request.token, surl)
    assert users.newest() == image.read_bytes()


@pytest.mark.interop("curl")
def test_a_killed_door_loses_it_and_says_so(users: Users, image: Path) -> None:
    users.site.stop_inner()
    with users.srm() as srm:
        surl = users.site.surl("killed.dcm")
        request = srm.prepare_to_put({surl: 0}, ["https"])
        assert users.curl("-f", "-T", image, request.files[0].turl).code == 0
        users.site.processes.restart("transfer", signal.SIGKILL)
        users.site.start_inner()
        with pytest.raises(MdmError, match="upload it again"):
            stored(srm, request.token, surl)
        again = srm.prepare_to_put({surl: 0}, ["https"])
        assert users.curl("-f", "-T", image, again.files[0].turl).code == 0
        stored(srm, again.token, surl)
    assert users.newest() == image.read_bytes()


def test_mdm_put_hands_in_without_telling_the_name(users: Users, image: Path) -> None:
    image = image.rename(image.with_name("ROE_RICHARD.dcm"))
    srm, nobody = f"httpg://localhost:{users.site.ports['srm']}", "https://localhost:1"
    site = image.with_name("site.json")
    site.write_text(json.dumps(SiteDescription("site", srm, nobody, (), (), ()).to_json()))
    mdm = (sys.executable, "-m", "srm_dicom.cli.user")
    done = users.run(*mdm, "put", "--unnamed", image, ROOT, MDM_SITE=str(site))
    assert done.code == 0, done.said
    assert users.newest() == image.read_bytes()
    assert not [path for path, content in users.site.outer_disk().items() if b"RICHARD" in content]


@pytest.mark.interop("arccp")
def test_arccp_hands_in(users: Users, image: Path) -> None:
    done = users.run("arccp", f"file://{image}", users.site.surl("arc.dcm"))
    assert done.code == 0, done.said
    assert users.newest() == image.read_bytes()


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_finds_no_checksum_afterwards(users: Users, image: Path) -> None:
    """What it has handed in has no name that it could ask about: the server has compared the sums itself."""
    wrong = users.run("gfal-copy", "-K", "ADLER32", f"file://{image}", users.site.surl("summed.dcm"))
    assert wrong.code == 2
    assert "DESTINATION CHECKSUM" in wrong.said
    assert users.newest() == image.read_bytes(), "it is there all the same"


@pytest.mark.interop("gfal-copy")
def test_gfal_copies_a_directory_flat(users: Users, tmp_path: Path) -> None:
    here = tmp_path / "series"
    here.mkdir()
    for number in range(3):
        (here / f"{number}.dcm").write_bytes(CANARY * 1000 + bytes([number]))
    before = len(users.site.archive.has)
    done = users.run("gfal-copy", "-r", f"file://{here}", users.site.surl(""))
    assert done.code == 0, done.said
    assert len(users.site.archive.has) == before + 3
