"""zeep, a client that nobody here wrote, drives all 39 operations from the WSDL that we write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zeep
from zeep.transports import Transport

from srm_dicom.client.http import HttpClient
from srm_dicom.identity.credential import Credential
from srm_dicom.srm.contract import contract
from srm_dicom.srm.wsdl import document

SURL = "srm://localhost/d/known"
VALUES: dict[str, Any] = {
    "string": "x",
    "anyURI": SURL,
    "int": 1,
    "unsignedLong": 1,
    "boolean": False,
    "dateTime": "2026-01-01T00:00:00Z",
}


OF_A_TOKEN = (
    "srmStatusOfGetRequest",
    "srmStatusOfPutRequest",
    "srmPutDone",
    "srmStatusOfCopyRequest",
    "srmStatusOfLsRequest",
    "srmSuspendRequest",
    "srmResumeRequest",
    "srmStatusOfReserveSpaceRequest",
    "srmReleaseSpace",
    "srmUpdateSpace",
    "srmStatusOfUpdateSpaceRequest",
    "srmChangeSpaceForFiles",
    "srmStatusOfChangeSpaceForFilesRequest",
    "srmExtendFileLifeTimeInSpace",
    "srmPurgeFromSpace",
    "srmStatusOfBringOnlineRequest",
    "srmReleaseFiles",
    "srmAbortRequest",
    "srmAbortFiles",
    "srmGetRequestSummary",
    "srmExtendFileLifeTime",
)
"""What nobody may ask about a token that is nobody's."""


class InProcess(Transport):
    """Carries zeep's messages to the application without a socket."""

    def __init__(self, site: Any) -> None:
        super().__init__()
        self._site = site

    def post(self, address: str, message: bytes, headers: dict[str, str]) -> Any:
        answer = self._site.http("POST", message)
        return SimpleNamespace(
            status_code=int(answer.status[:3]),
            content=answer.body,
            headers={"Content-Type": "text/xml; charset=utf-8"},
            encoding="utf-8",
        )


class OverHttpg(Transport):
    """Carries zeep's messages over httpg, with a proxy."""

    def __init__(self, http: HttpClient) -> None:
        super().__init__()
        self._http = http

    def post(self, address: str, message: bytes, headers: dict[str, str]) -> Any:
        answer = self._http.request("POST", "/srm/managerv2", message, headers.items())
        return SimpleNamespace(
            status_code=answer.status,
            content=answer.body,
            headers={"Content-Type": answer.header("content-type")},
            encoding="utf-8",
        )


@pytest.fixture(scope="module")
def wsdls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    ours = tmp_path_factory.mktemp("wsdl") / "ours.wsdl"
    ours.write_bytes(document())
    published = Path(__file__).parents[4] / "shared" / "reference" / "srm.v2.2.wsdl"
    return {"ours": ours, "published": published}


@pytest.fixture(scope="module")
def proxy(pki: Any) -> Credential:
    return pki.proxy(pki.user("Zeep"))


@pytest.fixture(scope="module")
def clients(wsdls: dict[str, Path]) -> dict[str, zeep.Client]:
    """One client a contract, read once; each test gives it a transport of its own."""
    return {name: zeep.Client(str(path)) for name, path in wsdls.items() if path.exists()}


@pytest.fixture(params=["ours", "published"])
def client(request: pytest.FixtureRequest, clients: dict[str, zeep.Client]) -> zeep.Client:
    if request.param not in clients:
        pytest.skip("the published contract is not at hand")
    return clients[request.param]


@pytest.fixture
def service(client: zeep.Client, site: Any) -> Any:
    client.transport = InProcess(site)
    return client.service


@pytest.fixture
def service_over_httpg(client: zeep.Client, port: int, proxy: Credential) -> Iterator[Any]:
    http = HttpClient(f"httpg://localhost:{port}", proxy)
    client.transport = OverHttpg(http)
    yield client.service
    http.close()


def minimal(type_name: str) -> Any:
    """The least that the contract allows: its mandatory elements."""
    model = contract()
    if type_name in model.enums:
        return model.enums[type_name][0]
    if type_name not in model.types:
        return VALUES[type_name]
    fields = [field for field in model.types[type_name] if not field.optional]
    return {f.name: [minimal(f.type)] if f.many else minimal(f.type) for f in fields}


@pytest.mark.parametrize("name", contract().operations)
def test_every_operation(service: Any, name: str) -> None:
    drive(service, name, prepared="SRM_REQUEST_QUEUED", listed="SRM_SUCCESS")


def test_every_operation_over_httpg(service_over_httpg: Any) -> None:
    for name in contract().operations:
        # The broker knows Alice alone: what exists is hidden from this caller.
        drive(service_over_httpg, name, prepared="SRM_FAILURE", listed="SRM_FAILURE")


def drive(service: Any, name: str, *, prepared: str, listed: str) -> None:
    answer = getattr(service, name)(minimal(f"{name}Request"))
    if name == "srmPing":
        assert answer.versionInfo == "v2.2"
        return
    codes = {
        "srmPrepareToGet": prepared,
        "srmBringOnline": prepared,
        "srmReleaseFiles": "SRM_INVALID_REQUEST",
        "srmPrepareToPut": "SRM_INVALID_REQUEST",
        "srmGetSpaceMetaData": "SRM_FAILURE",
    }
    codes |= dict.fromkeys(("srmLs", "srmCheckPermission", "srmGetPermission"), listed)
    codes |= dict.fromkeys(OF_A_TOKEN, "SRM_INVALID_REQUEST")
    status = getattr(answer, "returnStatus", answer)  # zeep unwraps a message of one element
    assert status.statusCode == codes.get(name, "SRM_SUCCESS")


def test_zeep_reads_a_listing(service: Any) -> None:
    answer = service.srmLs({"arrayOfSURLs": {"urlArray": ["srm://localhost/d"]}, "fullDetailedList": True})
    (top,) = answer.details.pathDetailArray
    assert [child.path for child in top.arrayOfSubPaths.pathDetailArray] == [
        "/d/indexed",
        "/d/known",
        "/d/sub",
    ]
    known = top.arrayOfSubPaths.pathDetailArray[1]
    assert (known.size, known.checkSumValue, known.createdAtTime.year) == (524300, "0d370270", 2026)
