"""An image that is handed in, and the disk of the outer zone: nothing of it is ever there, whatever happens.

Front and doors are processes as at a site. What they have on their disk is read while bytes come in, when all
are there, while the archive keeps everybody waiting, after the end, and after they were killed.
"""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.client.http import HttpClient
from srm_dicom.client.srm import SrmClient
from srm_dicom.errors import MdmError, NotAuthorised, NotFound, NotSupported
from srm_dicom.testing.handinsite import HandInSite

NAME = "CANARYDOE_CANARYJANE.dcm"
CANARY = b"CANARYDOE^CANARYJANE 1970-01-01;"
IMAGE = b"\0" * 128 + b"DICM" + CANARY * 40_000 + b"end"
TYPED = (b"CANARYDOE", b"CANARYJANE")
PATIENCE_S = 30.0


def forms(content: bytes) -> set[bytes]:
    """Return bytes of an image as they might be written down."""
    pieces = {content[at : at + 64] for at in range(0, len(content) - 64, 997)} - {bytes(64)}
    coded = {base64.b64encode(piece[at : at + 30]) for piece in pieces for at in range(3)}
    return {*pieces, *coded, *(piece[:30].hex().encode() for piece in pieces)}


FORMS = forms(IMAGE[:64_000]) | forms(IMAGE[-2000:]) | {CANARY[:16], f"{zlib.crc32(IMAGE):08x}".encode()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandInSite]:
    made = HandInSite(tmp_path_factory.mktemp("handed-in"))
    made.start(inner=False)
    yield made
    made.stop()


@pytest.fixture
def srm(site: HandInSite) -> Iterator[SrmClient]:
    with SrmClient.connect(f"httpg://localhost:{site.ports['srm']}", site.physician) as client:
        yield client


@pytest.fixture
def door(site: HandInSite) -> Iterator[HttpClient]:
    client = HttpClient(f"https://localhost:{site.ports['webdav']}", site.physician)
    yield client
    client.close()


def look(site: HandInSite) -> None:
    """See that no byte of an image is on the disk, and what its user called it in no log."""
    for path, content in site.outer_disk().items():
        assert not [form for form in FORMS if form in content], path
        if not {"outer", "etc"} & set(path.parts):
            assert not [line for line in content.splitlines() if any(word in line for word in TYPED)], path


def begin(srm: SrmClient, site: HandInSite) -> tuple[str, str]:
    request = srm.prepare_to_put({site.surl(NAME): len(IMAGE)}, overwrite=True)
    return request.token, "/" + str(request.files[0].turl).partition("//")[2].partition("/")[2]


def stored(srm: SrmClient, token: str, surl: str) -> None:
    """End a put, or raise why it did not end well."""
    for file in srm.put_done(token, [surl]):
        file.status.check()


def send(door: HttpClient, path: str, meanwhile: Callable[[], None] = lambda: None) -> int:
    upload = door.upload(path, method="PUT", size_bytes=len(IMAGE))
    half = len(IMAGE) // 2
    upload.write(IMAGE[:half])
    meanwhile()
    upload.write(IMAGE[half:])
    return upload.finish().status


def until(condition: Callable[[], Any]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_nothing_of_an_image_is_on_the_outer_zones_disk(
    site: HandInSite, srm: SrmClient, door: HttpClient
) -> None:
    token, path = begin(srm, site)

    def while_it_comes() -> None:
        until(lambda: [one for one in site.waiting() if one.stat().st_size > len(IMAGE) // 3])
        look(site)

    assert send(door, path, while_it_comes) == 201
    assert sum(one.stat().st_size for one in site.waiting()) > len(IMAGE)
    look(site)
    done = threading.Thread(target=stored, args=(srm, token, site.surl(NAME)))
    done.start()
    time.sleep(0.5)
    look(site)
    site.start_inner()
    done.join(PATIENCE_S)
    assert site.archive.contents == [IMAGE]
    until(lambda: not site.waiting())
    look(site)
    site.stop_inner()
    logged = (site.directory / "log" / "front.log").read_bytes()
    assert b"prepare_to_put" in logged, "the logs are those that were read"
    audited = b"".join(content for name, content in site.outer_disk().items() if "audit" in name.parts)
    assert b"srmPrepareToPut" in audited


def test_nor_after_the_door_was_killed(site: HandInSite, srm: SrmClient, door: HttpClient) -> None:
    token, path = begin(srm, site)
    assert send(door, path) == 201
    noise = [one.read_bytes() for one in site.waiting()]
    site.processes.restart("transfer", signal.SIGKILL)
    look(site)
    with pytest.raises(MdmError, match="upload it again"):
        stored(srm, token, site.surl(NAME))
    assert noise
    assert len(zlib.compress(noise[0])) > len(noise[0]), "what is left is noise"
    before = len(site.archive.has)
    site.start_inner()
    time.sleep(1.0)
    site.stop_inner()
    assert len(site.archive.has) == before


def test_what_goes_wrong_tells_nothing_of_it(site: HandInSite, srm: SrmClient, door: HttpClient) -> None:
    """Wrong digests, other callers, other names: refusals are logged, with nothing of the image."""
    _, path = begin(srm, site)
    bad = door.request("PUT", path, IMAGE, (("Digest", "adler32=00000001"),), repeatable=False)
    assert bad.status == 400
    assert not [word for word in TYPED if word in bad.body]
    for target in (f"/vo/ingest/{NAME}/x", f"/vo/ingest/{NAME}", f"/vo/{NAME}", f"/.upload/{NAME}"):
        for method in ("GET", "MKCOL", "DELETE", "PROPFIND", "MOVE"):
            door.request(method, target, b"", repeatable=False)
    stranger = HttpClient(f"https://localhost:{site.ports['webdav']}", site.bob)
    try:
        assert stranger.request("PUT", path, IMAGE, repeatable=False).status == 404
        assert stranger.request("PUT", f"/vo/ingest/{NAME}", IMAGE, repeatable=False).status == 404
    finally:
        stranger.close()
    with pytest.raises(NotSupported, match="https only"):
        srm.prepare_to_put({site.surl("b-" + NAME): 0}, ["gsiftp"])
    limited = site.pki.proxy(site.physician, limited=True)
    with SrmClient.connect(f"httpg://localhost:{site.ports['srm']}", limited) as client:
        (refused,) = client.prepare_to_put({site.surl("c-" + NAME): 0}).files
        with pytest.raises(NotAuthorised):
            refused.status.check()
    with SrmClient.connect(f"httpg://localhost:{site.ports['srm']}", site.bob) as client:
        (refused,) = client.prepare_to_put({site.surl("d-" + NAME): 0}).files
        with pytest.raises(NotFound):
            refused.status.check()
    look(site)


def test_the_doors_leave_no_core_dump(site: HandInSite) -> None:
    """Their memory has the images."""
    _, process = site.processes._running["transfer"]
    limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_the_log_is_lines_that_a_program_reads(site: HandInSite) -> None:
    lines = (site.directory / "log" / "transfer.log").read_text().splitlines()
    assert all("event" in json.loads(line) for line in lines)
