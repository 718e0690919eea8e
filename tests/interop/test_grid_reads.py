"""ARC, Globus and zeep read from the SRM: commands, exit codes, bytes, and the habits that they have."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection
from zeep.transports import Transport

from srm_dicom.identity.credential import Credential
from srm_dicom.srm.wsdl import document

ROOT = "/biomed.test/mdm/site/heart-v1"
PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "srm.v2.2.wsdl"
ARC = pytest.mark.interop("arcls", "arccp")


@pytest.fixture(scope="module")
def series(grid):
    """Three files that are staged."""
    surls = grid.series("grid", 3)
    request = grid.alices().srmBringOnline({"arrayOfFileRequests": wanted(surls)})
    settled(grid.alices().srmStatusOfBringOnlineRequest, request.requestToken)
    return surls


def wanted(surls):
    return {"requestArray": [{"sourceSURL": surl} for surl in surls]}


def settled(status, token, deadline_s=30.0) -> Any:
    """Poll as a client does that waits for as long as it is told."""
    until = time.monotonic() + deadline_s
    while True:
        answer = status({"requestToken": token})
        waits = [file.estimatedWaitTime for file in answer.arrayOfFileStatuses.statusArray]
        if not any(waits):
            return answer
        assert time.monotonic() < until, answer
        time.sleep(max(filter(None, waits)))


# --- ARC


@ARC
def test_arcls_long(grid, series):
    result = grid.run("arcls", "-l", grid.surl(f"{ROOT}/grid"))
    assert result.code == 0, result.said
    rows = {line.split()[0]: line.split() for line in result.out.splitlines()[1:] if line.strip()}
    for surl in series:
        row = rows[surl.rpartition("/")[2]]
        assert row[1:3] == ["file", str(len(grid.sealed(surl)))]
        assert f"adler32:{grid.adler32(surl)}" in row


@ARC
def test_arcls_checks_permission(grid, series):
    result = grid.run("arcls", "-c", series[0])
    assert result.code == 0, result.said
    assert "passed" in result.said


@ARC
def test_arccp(grid, series, tmp_path):
    result = grid.run("arccp", series[0], tmp_path / "copy")
    assert result.code == 0, result.said
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[0])


@ARC
def test_arccp_of_a_directory(grid, series, tmp_path):
    short = f"srm://localhost:{grid.server.port}{ROOT}/grid/"
    result = grid.run("arccp", "-r", short, f"{tmp_path}/copies/")
    assert result.code == 0, result.said
    copies = {path.name: path.read_bytes() for path in (tmp_path / "copies").iterdir()}
    assert copies == {surl.rpartition("/")[2]: grid.sealed(surl) for surl in series}


@ARC
def test_arccp_waits_for_a_slow_file_as_long_as_it_is_told(grid, tmp_path):
    (surl,) = grid.series("slow-arc", 1, slow_s=3)
    pins = grid.pins()
    result = grid.run("arccp", surl, tmp_path / "copy")
    assert result.code == 0, result.said
    assert (tmp_path / "copy").read_bytes() == grid.sealed(surl)
    assert grid.pins() == pins, "ARC releases by the token alone"


@ARC
def test_arccp_says_what_is_not_there(grid, tmp_path):
    result = grid.run("arccp", grid.surl(f"{ROOT}/grid/none"), tmp_path / "copy")
    assert result.code == 1
    assert "no such file or directory" in result.said


@ARC
def test_arc_with_every_kind_of_credential(grid, series, tmp_path, credential):
    listed = grid.run("arcls", grid.surl(f"{ROOT}/grid"), credential=credential)
    assert (listed.code, len(listed.out.split())) == (0, len(series)), listed.said
    result = grid.run("arccp", series[0], tmp_path / "copy", credential=credential)
    assert result.code == 0, result.said
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[0])


# --- Globus


@pytest.mark.interop("globus-url-copy")
def test_globus_url_copy_of_a_turl(grid, series, tmp_path, credential):
    asked = {"arrayOfFileRequests": wanted(series[:1])}
    asked["transferParameters"] = {"arrayOfTransferProtocols": {"stringArray": ["gsiftp"]}}
    srm = service(grid, grid.wsdl, credential)
    request = srm.srmPrepareToGet(asked)
    ready = settled(srm.srmStatusOfGetRequest, request.requestToken)
    (file,) = ready.arrayOfFileStatuses.statusArray
    copy = ("globus-url-copy", file.transferURL, f"file://{tmp_path}/copy")
    result = grid.run(*copy, credential=credential)
    assert result.code == 0, result.said
    assert (tmp_path / "copy").read_bytes() == grid.sealed(series[0])
    assert file.fileSize == len(grid.sealed(series[0]))
    released = srm.srmReleaseFiles({"requestToken": request.requestToken})
    assert released.returnStatus.statusCode == "SRM_SUCCESS"


# --- zeep


class HttpgConnection(HTTPSConnection):
    """TLS, then the byte that says that nothing is delegated."""

    def connect(self):
        super().connect()
        self.sock.sendall(b"0")


class HttpgPool(HTTPSConnectionPool):
    ConnectionCls = HttpgConnection


class Httpg(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        self.poolmanager = PoolManager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": HttpgPool}

    def cert_verify(self, *_):
        """The context verifies."""


def service(grid, wsdl: Path, credential: Credential | None = None) -> Any:
    context = ssl.create_default_context(capath=str(grid.pki.trust_dir))
    mine = credential or grid.alice
    context.load_cert_chain(str(mine.certificate), str(mine.key))
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Httpg(context))
    client = zeep.Client(str(wsdl), transport=Transport(session=session))
    binding = "{http://srm.lbl.gov/StorageResourceManager}srmSoapBinding"
    return client.create_service(binding, f"https://localhost:{grid.server.port}/srm/managerv2")


@pytest.fixture(scope="module", autouse=True)
def _services(grid, tmp_path_factory):
    """One service a contract; `grid.alices()` is over ours."""
    ours = tmp_path_factory.mktemp("wsdl") / "srm.v2.2.wsdl"
    ours.write_bytes(document())
    grid.wsdl = ours
    made = {"ours": service(grid, ours)}
    if PUBLISHED.exists():
        made["published"] = service(grid, PUBLISHED)
    grid.alices = lambda contract="ours": made.get(contract)


@pytest.fixture(params=["ours", "published"])
def srm(grid, request):
    made = grid.alices(request.param)
    if made is None:
        pytest.skip("the published contract is not at hand")
    return made


def test_the_whole_read_path_over_httpg(grid, srm, request):
    surls = grid.series(f"zeep-{len(grid.requests())}", 2)
    names = {"arrayOfSURLs": {"urlArray": surls}}
    assert srm.srmPing({}).versionInfo == "v2.2"
    assert srm.srmGetTransferProtocols({}).protocolInfo.protocolArray[0].transferProtocol == "gsiftp"
    listed = srm.srmLs({**names, "fullDetailedList": True, "numOfLevels": 0})
    assert {one.fileLocality for one in listed.details.pathDetailArray} == {"NEARLINE"}
    asked = {"arrayOfFileRequests": wanted(surls), "userRequestDescription": surls[0]}
    bring = srm.srmBringOnline(asked).requestToken
    assert settled(srm.srmStatusOfBringOnlineRequest, bring).returnStatus.statusCode == "SRM_SUCCESS"
    get = srm.srmPrepareToGet({**asked, "desiredPinLifeTime": 100})
    assert get.returnStatus.statusCode == "SRM_SUCCESS", "what is online is pinned at once"
    assert srm.srmStatusOfGetRequest({"requestToken": bring}).returnStatus.statusCode == "SRM_INVALID_REQUEST"
    token = get.requestToken
    extended = srm.srmExtendFileLifeTime({"requestToken": token, **names, "newPinLifeTime": 900})
    assert {one.pinLifetime for one in extended.arrayOfFileStatuses.statusArray} <= {899, 900}
    found = srm.srmGetRequestTokens({"userRequestDescription": surls[0]})
    assert {one.requestToken for one in found.arrayOfRequestTokens.tokenArray} == {bring, token}
    summed = srm.srmGetRequestSummary({"arrayOfRequestTokens": {"stringArray": [bring, token]}})
    told = [(one.requestType, one.numOfCompletedFiles) for one in summed.arrayOfRequestSummaries.summaryArray]
    assert told == [("BRING_ONLINE", 2), ("PREPARE_TO_GET", 2)]
    aborted = srm.srmAbortFiles({"requestToken": token, "arrayOfSURLs": {"urlArray": surls[1:]}})
    assert aborted.returnStatus.statusCode == "SRM_SUCCESS"
    subset = {"requestToken": token, "arrayOfSourceSURLs": {"urlArray": surls[::-1]}}
    states = srm.srmStatusOfGetRequest(subset).arrayOfFileStatuses.statusArray
    assert [one.status.statusCode for one in states] == ["SRM_ABORTED", "SRM_FILE_PINNED"]
    check = srm.srmCheckPermission(names)
    assert {one.permission for one in check.arrayOfPermissions.surlPermissionArray} == {"R"}
    shown = srm.srmGetPermission(names)
    assert {one.owner for one in shown.arrayOfPermissionReturns.permissionArray} == {"service"}
    assert srm.srmReleaseFiles({**names, "requestToken": bring}).returnStatus.statusCode == "SRM_SUCCESS"
    gone = {"requestToken": token}
    abort = srm.srmAbortRequest(gone)
    assert getattr(abort, "returnStatus", abort).statusCode == "SRM_SUCCESS"
    assert srm.srmStatusOfGetRequest(gone).returnStatus.statusCode == "SRM_ABORTED"
