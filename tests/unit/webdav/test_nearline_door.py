"""What the door has staged before it answers, and what it does not."""

from dataclasses import dataclass, field

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.mover import Moved
from srm_dicom.wire.dav.conditions import entity_tag

TAG = entity_tag("00650065", 1)  # of the byte "d", which is what /dir/d has


@dataclass
class Staging:
    """Brings a file online at once, or says when to ask again."""

    files: object
    again_s: int | None = None
    brought: list = field(default_factory=list)
    waits: list = field(default_factory=list)

    def bring(self, principal, path, wait_s):
        self.brought.append(path)
        self.waits.append(wait_s)
        if self.again_s is None:
            self.files.nearline.discard(path)
        return self.again_s


@dataclass
class Elsewhere:
    """A mover that keeps what is sent."""

    sent: list = field(default_factory=list)

    def check(self, remote):
        pass

    def push(self, file, remote, progress):
        self.sent.append((remote.url, file.size_bytes))
        return Moved(file.size_bytes, "", verified=True)


@pytest.fixture
def staging(files):
    return Staging(files)


@pytest.fixture
def elsewhere():
    return Elsewhere()


@pytest.fixture
def near(door, files, staging, elsewhere, pki):
    settings = CopySettings("https://here:8443", pki.trust_dir, marker_s=0.1)
    copies = Copies(files, elsewhere, None, settings, SystemClock(), files, staging)
    return door(nearline=staging, more=copies.handlers)


def test_it_is_staged_for_who_wants_its_bytes(near, staging):
    assert near("GET", "/dir/d")[::2] == (200, b"d")
    assert near("GET", "/dir/d")[::2] == (200, b"d")
    assert staging.brought == ["/dir/d"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_None_Match": TAG}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_Match": '"x"'}, 412),
        ({"Range": "bytes=1-"}, 416),
        ({"Range": "bytes=7-", "If_Range": TAG}, 416),
    ],
)
def test_nothing_is_staged_for_nothing(near, staging, headers, status):
    told = near("GET", "/dir/d", **headers)
    assert told[0] == status
    assert status != 416 or told[1]["content-range"] == "bytes */1"
    assert not staging.brought


@pytest.mark.parametrize(
    "headers", [{"Range": "bytes=7-", "If_Range": '"x"'}, {"If_None_Match": '"x"'}, {"Range": "bytes=0-0"}]
)
def test_what_has_to_be_sent_is_staged(near, staging, headers):
    status, _, body = near("GET", "/dir/d", **headers)
    assert (status in (200, 206), body) == (True, b"d")
    assert staging.brought == ["/dir/d"]


def test_what_nobody_knows_yet_is_staged_first(near, staging, files):
    files.checksums = False
    assert near("GET", "/dir/d", If_Match='"x"')[0] == 412
    assert staging.brought == ["/dir/d"]


def test_a_door_that_stages_nothing_says_the_same(ask):
    assert ask("GET", "/dir/d", If_None_Match=TAG)[0] == 304
    assert ask("GET", "/dir/d", Range="bytes=1-")[0] == 416
    assert ask("GET", "/dir/d")[0] == 503


PUSH = {"Destination": "https://there.example/x", "Credential": "none"}


def test_a_copy_waits_for_its_source(near, staging, elsewhere):
    status, _, body = near("COPY", "/dir/d", **PUSH, Prefer="wait=7")
    assert (status, body.splitlines()[-1]) == (202, b"success: Created")
    assert (staging.brought, staging.waits) == (["/dir/d"], [7.0])
    assert elsewhere.sent == [("https://there.example/x", 1)]


@pytest.mark.parametrize("more", [{}, {"Prefer": "respond-async"}, {"User_Agent": "davix neon/0.0.29"}])
def test_a_copy_is_told_when_to_come_back(near, staging, elsewhere, more):
    """Never by 202, which is how the answer of a copy that runs begins."""
    staging.again_s = 9
    status, headers, body = near("COPY", "/dir/d", **PUSH, **more)
    assert (status, headers["retry-after"], b"being staged" in body) == (503, "9", True)
    assert not elsewhere.sent
