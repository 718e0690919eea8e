"""Our own client against our own server: in process, and over true httpg with a proxy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from srm_dicom import errors
from srm_dicom.broker.views import FileState
from srm_dicom.client.http import Response
from srm_dicom.client.srm import SrmClient, endpoint_of
from srm_dicom.client.srm_views import STATUS_ERROR, SUCCESS, WAITING
from srm_dicom.srm.contract import contract
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.pki import TestPki as Pki

KNOWN = "srm://localhost/d/known"


class InProcess:
    """Stands in for `HttpClient`."""

    def __init__(self, site: Any, canned: Response | None = None) -> None:
        self.site, self.canned, self.repeatable = site, canned, []

    def request(self, method, target, body=b"", headers=(), *, repeatable=None) -> Response:
        assert target == "/srm/managerv2"
        self.repeatable.append(repeatable)
        if self.canned is not None:
            return self.canned
        answer = self.site.http(method, body)
        return Response(int(answer.status[:3]), (), answer.body)

    def close(self) -> None:
        pass


@pytest.fixture
def client(site: Any) -> SrmClient:
    return SrmClient(InProcess(site), clock=FakeClock())


def test_ping(client: SrmClient) -> None:
    told = client.ping()
    assert (told.version, told.about["backend_type"]) == ("v2.2", "srm-dicom")


def test_ls(client: SrmClient) -> None:
    top = client.ls("srm://localhost/d", levels=2)
    assert top.is_directory
    assert [child.name for child in top.children] == ["indexed", "known", "sub"]
    indexed, known, sub = top.children
    assert (indexed.size_bytes, indexed.checksum) == (None, None)
    assert (known.size_bytes, known.checksum) == (524300, ("adler32", "0d370270"))
    assert known.created_at is not None
    assert known.created_at.utcoffset() is not None
    assert [child.path for child in sub.children] == ["/d/sub/deep"]


def test_ls_of_nothing(client: SrmClient) -> None:
    with pytest.raises(errors.NotFound, match=r"no such file.*SRM_INVALID_PATH"):
        client.ls("srm://localhost/none")


def test_entries_page_by_page(small_site: Any) -> None:
    client = SrmClient(InProcess(small_site))
    with pytest.raises(errors.TooLarge):
        client.ls("srm://localhost/d")
    assert len(list(client.entries("srm://localhost/d", page=4))) == 12
    assert len(list(client.entries("srm://localhost/d", page=3))) == 12


def test_get_wait_release(site: Any, client: SrmClient) -> None:
    request = client.prepare_to_get([KNOWN], ["gsiftp"], pin_s=60, description="mine")
    assert [file.surl for file in request.waiting] == [KNOWN]
    assert request.waiting[0].wait_s == 2
    seen = []

    def progress(now: Any) -> None:
        seen.append(now.status.code)
        if len(seen) == 3:
            site.broker.settle(request.token, FileState.PINNED)

    ready = client.wait(request, 60, progress)
    assert seen == ["SRM_REQUEST_QUEUED"] * 3 + ["SRM_SUCCESS"]
    (file,) = ready.files
    assert (file.turl, file.size_bytes, file.pin_left_s) == ("gsiftp://localhost:2811/d/f", 524300, 300)
    (released,) = client.release(request.token)
    assert (released.surl, released.status.is_success) == (KNOWN, True)


def test_wait_has_a_deadline(client: SrmClient) -> None:
    request = client.prepare_to_get([KNOWN])
    with pytest.raises(errors.RequestExpired):
        client.wait(request, 30)


def test_failed_file_is_told_at_the_file(site: Any, client: SrmClient) -> None:
    request = client.prepare_to_get([KNOWN, "srm://localhost/none"])
    site.broker.settle(request.token, FileState.PINNED)
    ready, failed = client.wait(request, 5).files
    assert ready.status.is_success
    assert isinstance(failed.status.error(), errors.NotFound)


def test_abort_and_unknown_tokens(client: SrmClient) -> None:
    request = client.prepare_to_get([KNOWN])
    client.abort(request.token)
    assert client.status(request.token).status.code == "SRM_ABORTED"
    for call in (client.abort, client.status, client.release):
        with pytest.raises(errors.InvalidRequest, match="no request has this token"):
            call("none")


def test_only_what_may_be_repeated_is(site: Any) -> None:
    http = InProcess(site)
    client = SrmClient(http)
    client.status(client.prepare_to_get([KNOWN]).token)
    assert http.repeatable == [False, True]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<a/>", errors.InternalError),
        (200, b"hello", errors.InternalError),
        (503, b"", errors.Overloaded),
        (413, b"", errors.TooLarge),
    ],
)
def test_answers_that_are_no_soap(site: Any, status: int, body: bytes, error: type[Exception]) -> None:
    client = SrmClient(InProcess(site, Response(status, (), body)))
    with pytest.raises(error):
        client.ping()


def test_every_status_of_the_standard_is_understood() -> None:
    codes = set(contract().enums["TStatusCode"])
    assert set(STATUS_ERROR) <= codes
    assert codes >= SUCCESS | WAITING
    assert not set(STATUS_ERROR) & (SUCCESS | WAITING)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("srm://host/p/f", ("httpg://host:8446", "/srm/managerv2")),
        ("srm://host:1/p/f", ("httpg://host:1", "/srm/managerv2")),
        ("srm://host:1/any/path?SFN=/p/f", ("httpg://host:1", "/any/path")),
        ("httpg://host:1/srm/managerv2", ("httpg://host:1", "/srm/managerv2")),
        ("https://host", ("https://host:8446", "/srm/managerv2")),
        ("srm://[::1]:1/p", ("httpg://[::1]:1", "/srm/managerv2")),
    ],
)
def test_endpoint_of(url: str, endpoint: tuple[str, str]) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize("url", ["", "/p/f", "gsiftp://h/f", "srm:///p", "srm://h:none/p"])
def test_endpoint_of_nonsense(url: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        endpoint_of(url)


def test_client_needs_no_server_libraries() -> None:
    loaded = "{m.split('.')[0] for m in sys.modules}"
    code = f"import sys, srm_dicom.client.srm; print({{'spyne', 'peewee'}} & {loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- over true httpg -----------------------------------------------------------------------------


def test_over_httpg_the_caller_is_the_proxy_s_owner(site: Any, port: int, pki: Pki) -> None:
    alice = pki.user("Alice")
    with SrmClient.connect(f"srm://localhost:{port}/d/known", pki.proxy(alice)) as client:
        assert client.ping().version == "v2.2"
        request = client.prepare_to_get([KNOWN])
    assert site.broker.requests[request.token].owner == pki.dn(alice)


def test_nobody_there_is_told_as_such(pki: Pki) -> None:
    with (
        SrmClient.connect("srm://localhost:1/d", pki.user("Early")) as client,
        pytest.raises(errors.SourceUnavailable),
    ):
        client.ping()
