"""prepareToGet, its status, release and abort."""

from __future__ import annotations

import pytest

from srm_dicom import errors
from srm_dicom.broker.views import FileState, RequestKind

KNOWN, OTHER, NONE = (
    "srm://localhost/d/known",
    "srm://localhost:8446/srm/managerv2?SFN=/d/indexed",
    "srm://localhost/no",
)
FILE = "arrayOfFileStatuses/statusArray"


def get(*surls: str, extra: str = "") -> str:
    files = "".join(f"<requestArray><sourceSURL>{s}</sourceSURL></requestArray>" for s in surls)
    return f"<arrayOfFileRequests>{files}</arrayOfFileRequests>{extra}"


def token_of(answer) -> str:
    assert answer.text("requestToken")
    return f"<requestToken>{answer.text('requestToken')}</requestToken>"


GET = "<arrayOfFileRequests><requestArray><sourceSURL>srm://localhost/d/known</sourceSURL></requestArray></arrayOfFileRequests>"
COPY = (
    "<arrayOfFileRequests><requestArray><sourceSURL>srm://h/d/f</sourceSURL><targetSURL>srm://h/d/g</targetSURL>"
    "</requestArray></arrayOfFileRequests>"
)
PUT_OF_SIZE = (
    "<arrayOfFileRequests><requestArray><targetSURL>srm://h/d/f</targetSURL>"
    "<expectedFileSize>{}</expectedFileSize></requestArray></arrayOfFileRequests>"
)
GUARANTEE = "<newSizeOfGuaranteedSpaceDesired>60</newSizeOfGuaranteedSpaceDesired>"
RESERVATION = (
    "<retentionPolicyInfo><retentionPolicy>REPLICA</retentionPolicy></retentionPolicyInfo>"
    "<desiredSizeOfGuaranteedSpace>{}</desiredSizeOfGuaranteedSpace>"
)


def test_the_wish_reaches_the_broker_as_it_was_said(site) -> None:
    protocols = "<stringArray>gsiftp</stringArray><stringArray>https</stringArray>"
    extra = (
        "<userRequestDescription>mine</userRequestDescription><desiredTotalRequestTime>3600</desiredTotalRequestTime>"
        "<desiredPinLifeTime>60</desiredPinLifeTime><transferParameters><arrayOfTransferProtocols>"
        f"{protocols}</arrayOfTransferProtocols></transferParameters>"
    )
    answer = site.call("srmPrepareToGet", get(KNOWN, OTHER, extra=extra))
    assert answer.code == "SRM_REQUEST_QUEUED"
    (wish,) = site.broker.wishes
    assert (wish.kind, wish.surls) == (RequestKind.GET, (KNOWN, OTHER))
    assert (wish.protocols, wish.total_s, wish.pin_s) == (("gsiftp", "https"), 3600, 60)
    assert wish.description == "mine"


def test_queued_file_has_a_wait_and_no_turl(site) -> None:
    answer = site.call("srmPrepareToGet", get(KNOWN))
    assert answer.text(f"{FILE}/sourceSURL") == KNOWN
    assert answer.text(f"{FILE}/status/statusCode") == "SRM_REQUEST_QUEUED"
    assert answer.text(f"{FILE}/estimatedWaitTime") == "2"
    assert answer.text(f"{FILE}/transferURL") is None
    assert answer.text("remainingTotalRequestTime") == "3600"


def test_unknown_file_fails_alone(site) -> None:
    answer = site.call("srmPrepareToGet", get(NONE, KNOWN))
    assert answer.code == "SRM_REQUEST_INPROGRESS"
    codes = [s.findtext("status/statusCode") for s in answer.part.iter("statusArray")]
    assert codes == ["SRM_INVALID_PATH", "SRM_REQUEST_QUEUED"]


def test_a_file_on_its_way_to_the_client(site) -> None:
    token = token_of(site.call("srmPrepareToGet", get(KNOWN)))
    site.broker.settle("token-0", FileState.IN_PROGRESS)
    assert site.call("srmStatusOfGetRequest", token).code == "SRM_REQUEST_INPROGRESS"
    site.broker.settle("token-0", FileState.PINNED)
    ready = site.call("srmStatusOfGetRequest", token)
    assert ready.code == "SRM_SUCCESS"
    assert ready.text(f"{FILE}/status/statusCode") == "SRM_FILE_PINNED"
    assert ready.text(f"{FILE}/transferURL") == "gsiftp://localhost:2811/d/f"
    assert ready.text(f"{FILE}/remainingPinTime") == "300"
    assert ready.text(f"{FILE}/fileSize") == "524300"
    released = site.call("srmReleaseFiles", token)
    assert (released.code, released.text(f"{FILE}/surl")) == ("SRM_SUCCESS", KNOWN)
    assert released.text(f"{FILE}/status/statusCode") == "SRM_SUCCESS"
    site.broker.settle("token-0", FileState.RELEASED)
    after = site.call("srmStatusOfGetRequest", token)
    assert after.text(f"{FILE}/status/statusCode") == "SRM_RELEASED"
    assert after.text(f"{FILE}/transferURL") is None


def test_status_of_a_subset_in_the_order_asked(site) -> None:
    token = token_of(site.call("srmPrepareToGet", get(KNOWN, NONE, OTHER)))
    subset = (
        f"<arrayOfSourceSURLs><urlArray>{OTHER}</urlArray><urlArray>{KNOWN}</urlArray></arrayOfSourceSURLs>"
    )
    answer = site.call("srmStatusOfGetRequest", token + subset)
    assert [s.findtext("sourceSURL") for s in answer.part.iter("statusArray")] == [OTHER, KNOWN]
    assert answer.code == "SRM_REQUEST_INPROGRESS", "the request-level status is that of all its files"


def test_failure_tells_the_reason_at_the_file(site) -> None:
    token = token_of(site.call("srmPrepareToGet", get(KNOWN)))
    site.broker.settle("token-0", FileState.FAILED, errors.ObjectRefused("burnt-in annotation"))
    answer = site.call("srmStatusOfGetRequest", token)
    assert answer.code == "SRM_FAILURE"
    assert answer.text(f"{FILE}/status/explanation") == "burnt-in annotation"


def test_abort(site) -> None:
    token = token_of(site.call("srmPrepareToGet", get(KNOWN)))
    assert site.call("srmAbortRequest", token).code == "SRM_SUCCESS"
    answer = site.call("srmStatusOfGetRequest", token)
    assert answer.code == "SRM_ABORTED"
    assert answer.text(f"{FILE}/status/statusCode") == "SRM_ABORTED"


@pytest.mark.parametrize("operation", ["srmStatusOfGetRequest", "srmAbortRequest", "srmReleaseFiles"])
def test_tokens_are_bound_to_their_owner(site, stranger, operation: str) -> None:
    token = token_of(site.call("srmPrepareToGet", get(KNOWN)))
    assert site.call(operation, token, stranger).code == "SRM_AUTHORIZATION_FAILURE"
    assert site.call(operation, "<requestToken>none</requestToken>").code == "SRM_INVALID_REQUEST"


def test_release_by_surl_and_by_nothing(site) -> None:
    site.call("srmPrepareToGet", get(KNOWN, OTHER))
    by_surl = f"<arrayOfSURLs><urlArray>{OTHER}</urlArray></arrayOfSURLs>"
    assert site.call("srmReleaseFiles", by_surl).text(f"{FILE}/surl") == OTHER
    assert site.call("srmReleaseFiles", "").code == "SRM_INVALID_REQUEST"
    assert site.call("srmReleaseFiles", "<requestToken></requestToken>").code == "SRM_INVALID_REQUEST"


def test_a_whole_directory_is_not_supported(site) -> None:
    option = "<dirOption><isSourceADirectory>true</isSourceADirectory></dirOption>"
    inner = get(KNOWN).replace("</sourceSURL>", f"</sourceSURL>{option}")
    assert site.call("srmPrepareToGet", inner).code == "SRM_NOT_SUPPORTED"


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<arrayOfFileRequests/>",
        "<arrayOfFileRequests><requestArray/></arrayOfFileRequests>",
        get(KNOWN, extra="<desiredPinLifeTime>-5</desiredPinLifeTime>"),
        get(KNOWN, extra="<desiredPinLifeTime>soon</desiredPinLifeTime>"),
        get(KNOWN, extra="<desiredPinLifeTime>99999999999</desiredPinLifeTime>"),
        get(KNOWN, extra="<desiredFileStorageType>FOR_EVER</desiredFileStorageType>"),
    ],
)
def test_what_makes_no_sense_is_an_invalid_request(site, inner: str) -> None:
    answer = site.call("srmPrepareToGet", inner)
    assert answer.code == "SRM_INVALID_REQUEST"
    assert answer.text("returnStatus/explanation")


def test_protocol_words_are_logged_only_if_they_are_protocols(site, capsys) -> None:
    words = "<stringArray>gsiftp</stringArray><stringArray>Jane Doe</stringArray>"
    extra = (
        f"<transferParameters><arrayOfTransferProtocols>{words}</arrayOfTransferProtocols></transferParameters>"
        "<userRequestDescription>Jane Doe</userRequestDescription>"
    )
    site.call("srmPrepareToGet", get(KNOWN, extra=extra))
    logged = "".join(capsys.readouterr())
    assert "gsiftp" in logged
    assert "Jane" not in logged


@pytest.mark.parametrize("size", ["-5", "-1", str(2**64), "1" * 40])
@pytest.mark.parametrize(
    ("operation", "inner"),
    [
        ("srmPrepareToPut", PUT_OF_SIZE),
        ("srmReserveSpace", RESERVATION),
        (
            "srmUpdateSpace",
            "<spaceToken>t</spaceToken><newSizeOfTotalSpaceDesired>{}</newSizeOfTotalSpaceDesired>",
        ),
    ],
)
def test_a_size_is_an_unsigned_long(site, operation: str, inner: str, size: str) -> None:
    answer = site.call(operation, inner.format(size))
    assert answer.code == "SRM_INVALID_REQUEST"
    assert "is not an xsd:unsignedLong" in answer.text("returnStatus/explanation")


def test_the_largest_sizes_are_answered(site) -> None:
    for size in (2**63, 2**64 - 1):
        assert site.call("srmPrepareToPut", PUT_OF_SIZE.format(size)).code == "SRM_SUCCESS"
        assert site.call("srmReserveSpace", RESERVATION.format(size)).code == "SRM_NO_FREE_SPACE"


@pytest.mark.parametrize(
    ("operation", "inner"),
    [
        ("srmPrepareToPut", PUT_OF_SIZE.format(1) + "<desiredFileLifeTime>{}</desiredFileLifeTime>"),
        ("srmPrepareToPut", PUT_OF_SIZE.format(1) + "<desiredPinLifeTime>{}</desiredPinLifeTime>"),
        ("srmPrepareToPut", PUT_OF_SIZE.format(1) + "<desiredTotalRequestTime>{}</desiredTotalRequestTime>"),
        ("srmPrepareToGet", GET + "<desiredPinLifeTime>{}</desiredPinLifeTime>"),
        ("srmPrepareToGet", GET + "<desiredTotalRequestTime>{}</desiredTotalRequestTime>"),
        ("srmBringOnline", GET + "<desiredLifeTime>{}</desiredLifeTime>"),
        ("srmCopy", COPY + "<desiredTargetSURLLifeTime>{}</desiredTargetSURLLifeTime>"),
        ("srmCopy", COPY + "<desiredTotalRequestTime>{}</desiredTotalRequestTime>"),
    ],
)
def test_a_lifetime_without_an_end_is_minus_one(site, operation: str, inner: str) -> None:
    assert site.call(operation, inner.format(-1)).code in ("SRM_SUCCESS", "SRM_REQUEST_QUEUED")
    assert site.call(operation, inner.format(-2)).code == "SRM_INVALID_REQUEST"


@pytest.mark.parametrize("name", ["rfio", "dcap", "gsidcap", "kdcap", "xroot"])
@pytest.mark.parametrize("operation", ["srmPrepareToGet", "srmPrepareToPut", "srmBringOnline"])
def test_every_list_of_protocols_is_logged(site, capsys, operation: str, name: str) -> None:
    transfer = (
        "<transferParameters><arrayOfTransferProtocols><stringArray>{}</stringArray>"
        "</arrayOfTransferProtocols></transferParameters>"
    )
    what = PUT_OF_SIZE.format(1) if operation == "srmPrepareToPut" else GET
    site.call(operation, what + transfer.format(name))
    assert f"['{name}']" in "".join(capsys.readouterr())


def test_what_is_empty_and_optional_was_not_said(site) -> None:
    empty = "<overwriteOption/><targetFileRetentionPolicyInfo/><desiredFileStorageType/>"
    assert site.call("srmPrepareToPut", PUT_OF_SIZE.format(1) + empty).code == "SRM_SUCCESS"
    empty = "<retentionPolicyInfo/><desiredSizeOfGuaranteedSpace>1</desiredSizeOfGuaranteedSpace>"
    assert site.call("srmReserveSpace", empty).code == "SRM_INVALID_REQUEST"


def test_a_space_that_is_smaller_than_its_owner_wanted_is_said_to_be(site) -> None:
    total = "<desiredSizeOfTotalSpace>{}</desiredSizeOfTotalSpace>"
    sizes = "sizeOfTotalReservedSpace", "sizeOfGuaranteedReservedSpace"
    for guaranteed, wanted, code, granted in (
        (10, 10, "SRM_SUCCESS", "10"),
        (10, 4, "SRM_SUCCESS", "10"),
        (10, 100, "SRM_LOWER_SPACE_GRANTED", "10"),
        (0, 100, "SRM_SUCCESS", "100"),
    ):
        answer = site.call("srmReserveSpace", RESERVATION.format(guaranteed) + total.format(wanted))
        assert (answer.code, *map(answer.text, sizes)) == (code, granted, granted)
    assert site.call("srmReserveSpace", RESERVATION.format(0)).code == "SRM_INVALID_REQUEST"
    token = answer.text("spaceToken")
    for inner, code, granted in (
        ("<newSizeOfTotalSpaceDesired>50</newSizeOfTotalSpaceDesired>", "SRM_SUCCESS", "50"),
        (
            "<newSizeOfTotalSpaceDesired>90</newSizeOfTotalSpaceDesired>" + GUARANTEE,
            "SRM_LOWER_SPACE_GRANTED",
            "60",
        ),
    ):
        answer = site.call("srmUpdateSpace", f"<spaceToken>{token}</spaceToken>{inner}")
        assert (answer.code, answer.text("sizeOfTotalSpace")) == (code, granted)


def test_so_many_spaces_are_told_of_at_once(site) -> None:
    def ask(count: int) -> str | None:
        tokens = "<stringArray>none</stringArray>" * count
        return site.call("srmGetSpaceMetaData", f"<arrayOfSpaceTokens>{tokens}</arrayOfSpaceTokens>").code

    assert ask(1000) == "SRM_FAILURE"
    assert ask(1001) == "SRM_TOO_MANY_RESULTS"
