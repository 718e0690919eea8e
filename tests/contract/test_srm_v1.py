"""SRM v1.1 beside v2.2: zeep drives every operation over httpg, from the WSDL that we write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from zeep.exceptions import Fault

from srm_dicom.client.http import HttpClient
from srm_dicom.srm.v1.contract import SIGNATURES
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.testing.v1 import V1

PATIENCE_S = 30.0
CONTENT = b"an image of eighty thousand rows\n" * 9


class User:
    """SRM v1.1 and the https door, as one user has them."""

    def __init__(self, element: StorageElement, credential: Any, directory: Path) -> None:
        self.srm = HttpClient(f"httpg://localhost:{element.srm.port}", credential)
        self.door = HttpClient(f"https://localhost:{element.webdav.port}", credential)
        self.call = V1(self.srm, directory).call

    def send(self, turl: str, data: bytes) -> None:
        answer = self.door.request("PUT", urlsplit(turl).path, data)
        assert answer.status in (200, 201, 204)

    def read(self, turl: str) -> bytes:
        return self.door.request("GET", urlsplit(turl).path).body

    def write(self, surl: str, data: bytes = CONTENT) -> Any:
        """Put a file, as a client of v1.1 does; the last answer."""
        put = self.call("put", ["here"], [surl], [len(data)], [True], ["https"])
        (file,) = put.fileStatuses
        assert (put.state, file.state) == ("Active", "Ready"), put
        running = self.call("setFileStatus", put.requestId, file.fileId, "Running")
        assert running.fileStatuses[0].state == "Running"
        self.send(file.TURL, data)
        return self.call("setFileStatus", put.requestId, file.fileId, "Done")

    def wait(self, request: Any) -> Any:
        """Ask for a request until nothing of it is pending."""
        until = time.monotonic() + PATIENCE_S
        while any(file.state in ("Pending", "Running") for file in request.fileStatuses):
            assert time.monotonic() < until, request
            time.sleep(0.05)
            request = self.call("getRequestStatus", request.requestId)
        return request


@pytest.fixture(scope="module")
def alice(element: StorageElement, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    made = User(element, element.alice, tmp_path_factory.mktemp("alice"))
    yield made
    made.srm.close()
    made.door.close()


@pytest.fixture(scope="module")
def bob(element: StorageElement, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    made = User(element, element.bob, tmp_path_factory.mktemp("bob"))
    yield made
    made.srm.close()
    made.door.close()


@pytest.fixture
def surl(element: StorageElement) -> str:
    return f"srm://localhost:{element.srm.port}/srm/managerv1?SFN={ROOT}/{uuid4().hex}"


def test_put_and_get(alice: User, surl: str) -> None:
    done = alice.write(surl)
    assert (done.type, done.state, done.errorMessage) == ("Put", "Done", None)
    assert done.fileStatuses[0].state == "Done"
    got = alice.wait(alice.call("get", [surl], ["gsiftp2", "https"]))
    (file,) = got.fileStatuses
    assert (got.type, got.state, file.state, file.size) == ("Get", "Active", "Ready", len(CONTENT))
    assert alice.call("setFileStatus", got.requestId, file.fileId, "Running").state == "Active"
    assert alice.read(file.TURL) == CONTENT
    released = alice.call("setFileStatus", got.requestId, file.fileId, "Done")
    assert (released.state, released.fileStatuses[0].isPinned) == ("Done", False)


def test_metadata_and_delete(alice: User, surl: str) -> None:
    alice.write(surl)
    (about,) = alice.call("getFileMetaData", [surl])
    assert (about.SURL, about.size, about.isPermanent) == (surl, len(CONTENT), True)
    assert (about.checksumType, len(about.checksumValue)) == ("adler32", 8)
    assert about.permMode & 0o400
    assert alice.call("advisoryDelete", [surl]) is None
    with pytest.raises(Fault, match="no such file"):
        alice.call("getFileMetaData", [surl])
    with pytest.raises(Fault, match="no such file"):
        alice.call("advisoryDelete", [surl])


def test_copy(alice: User, surl: str) -> None:
    alice.write(surl)
    copied = alice.wait(alice.call("copy", [surl], [f"{surl}-2"], [True]))
    (file,) = copied.fileStatuses
    assert (copied.type, copied.state, file.state) == ("Copy", "Done", "Done")
    assert (file.sourceFilename, file.destFilename) == (surl, f"{surl}-2")
    assert alice.call("setFileStatus", copied.requestId, file.fileId, "Done").state == "Done"
    away = alice.call("copy", ["srm://elsewhere.test/x"], [f"{surl}-3"], [True])
    assert (away.state, away.fileStatuses[0].state) == ("Failed", "Failed")
    assert "copies nothing to or from that host" in away.errorMessage


def test_pin_and_unpin(alice: User, surl: str) -> None:
    alice.write(surl)
    pinned = alice.wait(alice.call("pin", [surl]))
    assert (pinned.type, pinned.state, pinned.fileStatuses[0].isPinned) == ("Pin", "Active", True)
    unpinned = alice.call("unPin", [surl], pinned.requestId)
    assert (unpinned.requestId, unpinned.state) == (pinned.requestId, "Done")
    got = alice.wait(alice.call("get", [surl], ["https"]))
    by_turl = alice.call("pin", [got.fileStatuses[0].TURL])
    assert alice.wait(by_turl).state == "Active"


def test_what_leaves_no_request(alice: User, surl: str) -> None:
    assert alice.call("ping") is True
    assert set(alice.call("getProtocols")) == {"gsiftp", "https"}
    alice.write(surl)
    assert alice.call("mkPermanent", [surl]).state == "Done"
    assert alice.call("getEstGetTime", [surl], ["https"]).estTimeToStart >= 0
    assert alice.call("getEstPutTime", ["x"], [f"{surl}-2"], [1], [True], ["https"]).estTimeToStart == 0
    missing = alice.call("mkPermanent", [f"{surl}-none"])
    assert (missing.requestId, missing.state) == (0, "Failed")
    assert "no such file" in missing.errorMessage


def test_each_operation_is_driven_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in SIGNATURES if f'call("{name}"' not in text} == set()


def test_some_files_of_a_request_fail(alice: User, surl: str) -> None:
    alice.write(surl)
    got = alice.wait(alice.call("get", [f"{surl}-none", surl, "no surl"], ["https"]))
    assert [file.state for file in got.fileStatuses] == ["Failed", "Ready", "Failed"]
    assert got.state == "Active"
    assert f"{surl}-none: no such file" in got.errorMessage


def test_done_without_bytes_gives_a_put_up(alice: User, surl: str) -> None:
    put = alice.call("put", ["here"], [surl], [9], [True], ["https"])
    file = put.fileStatuses[0].fileId
    told = alice.call("setFileStatus", put.requestId, file, "Done")
    assert (told.state, told.fileStatuses[0].fileId) == ("Failed", file)
    assert "not been uploaded" in told.errorMessage
    assert alice.write(surl).state == "Done"


def test_a_put_never_takes_the_place_of_a_file(alice: User, surl: str) -> None:
    alice.write(surl)
    again = alice.call("put", ["here"], [surl], [9], [True], ["https"])
    assert (again.state, "exists" in again.errorMessage) == ("Failed", True)


def test_numbers_are_their_owners(alice: User, bob: User, surl: str) -> None:
    alice.write(surl)
    got = alice.wait(alice.call("get", [surl], ["https"]))
    file = got.fileStatuses[0].fileId
    for told in (
        bob.call("getRequestStatus", got.requestId),
        bob.call("setFileStatus", got.requestId, file, "Done"),
        bob.call("unPin", [surl], got.requestId),
        alice.call("getRequestStatus", 2**31 - 1),
    ):
        assert (told.requestId, told.state) == (0, "Failed")
        assert "you have no request" in told.errorMessage
    assert alice.call("getRequestStatus", got.requestId).state == "Active"


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("get", ([], ["https"]), "no file"),
        ("get", (["srm://localhost/x"], ["dcap"]), "transfer protocols"),
        ("put", (["x"], ["srm://localhost/x"], [], [True], ["https"]), "one size"),
        ("put", (["x"], ["srm://localhost/x"], [-1], [True], ["https"]), "one size"),
        ("copy", (["srm://localhost/x"], [], [True]), "one source"),
        ("getRequestStatus", (-1,), "no request"),
    ],
)
def test_what_makes_no_sense_is_told(alice: User, operation: str, arguments: Any, reason: str) -> None:
    told = alice.call(operation, *arguments)
    assert told.state == "Failed"
    assert reason in told.errorMessage


def test_a_state_that_clients_do_not_set(alice: User, surl: str) -> None:
    put = alice.call("put", ["here"], [surl], [9], [True], ["https"])
    file = put.fileStatuses[0].fileId
    assert "no other state" in alice.call("setFileStatus", put.requestId, file, "Ready").errorMessage
    assert "no file" in alice.call("setFileStatus", put.requestId, file + 1, "Done").errorMessage
    assert alice.call("setFileStatus", put.requestId, file, "Failed").state == "Failed"
