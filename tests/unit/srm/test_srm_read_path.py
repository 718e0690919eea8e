"""Requests over SOAP and the real broker: kinds, subsets, pins, withdrawals, and who may ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.states import Event, after, before
from srm_dicom.broker.views import FileState
from srm_dicom.db.database import Database
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.rights.acl import Acl
from srm_dicom.srm.service import application
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR_S = 3600
DIRECTORY = "/vo/mdm/site/heart-v1/p/s"
ALICE = Principal("/CN=Alice", (), False, NOW + timedelta(days=9))
BOB = Principal("/CN=Bob", ("/vo",), False, NOW + timedelta(days=9))
EVE = Principal("/CN=Eve", (), False, NOW + timedelta(days=9))
ACL = Acl.parse('user:"/CN=Alice":rx, user:"/CN=Bob":rx, user:"/CN=Secret Colleague":rx')
STATUSES = "arrayOfFileStatuses/statusArray"


def surl(name: str) -> str:
    return f"srm://localhost{DIRECTORY}/{name}"


def urls(element: str, *names: str) -> str:
    return f"<{element}>{''.join(f'<urlArray>{surl(name)}</urlArray>' for name in names)}</{element}>"


def token(text: str | None) -> str:
    return f"<requestToken>{text}</requestToken>"


class House:
    """The real broker over files that are staged when a test says so."""

    def __init__(self, directory, site):
        self.clock = FakeClock(NOW)
        self.stores = Stores.open(database_url(directory, "names"))
        self.stores.namespace.make_directory(parse_path(DIRECTORY), ACL, NOW)
        self.audit = AuditLog(directory / "audit", "front", "host", self.clock)
        access = FileAccess(self.stores.namespace, {}, self.audit, self.clock)
        nodes = {"node": {"gsiftp": "gsiftp://localhost:2811"}}
        broker = Broker(BrokerSettings("localhost", nodes), self.stores, access, self.clock)
        site.app = application(broker)
        self.call = site.call
        self.guids: dict[str, Guid] = {}

    def add(self, *names):
        with self.stores.database.transaction():
            for name in names:
                guid = Guid(f"00000000-0000-4000-8000-{len(self.guids):012d}")
                self.guids[name] = guid
                path = SitePath(f"{DIRECTORY}/{name}")
                self.stores.namespace.add_file(Entry(path, Kind.FILE, "", ACL, NOW, guid=guid))

    def stage(self, *names):
        guids = [self.guids[name] for name in names]
        now = self.clock.now()
        self.stores.staged.add([Staged(guid, "node", 1, 1000) for guid in guids], now)
        pinned = after(FileState.QUEUED, Event.PUBLISH)
        self.stores.requests.pin(guids, before(Event.PUBLISH), pinned, now)

    def ask(self, operation, *names, principal=ALICE, more=""):
        wanted = "".join(
            f"<requestArray><sourceSURL>{surl(name)}</sourceSURL></requestArray>" for name in names
        )
        files = f"<arrayOfFileRequests>{wanted}</arrayOfFileRequests>"
        return self.call(f"srm{operation}", files + more, principal).text("requestToken")

    def codes(self, operation, inner, principal=ALICE):
        answer = self.call(f"srm{operation}", inner, principal)
        files = [one.findtext("status/statusCode") for one in answer.part.iterfind(STATUSES)]
        return answer.code, files


@pytest.fixture
def rows_read(monkeypatch):
    """How many rows each SELECT brought."""
    counts = []

    def counting(read):
        def counted(*arguments):
            told = read(*arguments)
            counts.append(len(told[1] if isinstance(told, tuple) else told))
            return told

        return counted

    for name in ("_read", "rows"):
        monkeypatch.setattr(Database, name, counting(getattr(Database, name)))
    return counts


@pytest.fixture
def house(tmp_path, site):
    house = House(tmp_path, site)
    house.add("a", "b", "c")
    return house


def test_bring_online_from_the_queue_to_the_release(house):
    bring = house.ask("BringOnline", "a", "b")
    status = "StatusOfBringOnlineRequest"
    assert house.codes(status, token(bring)) == ("SRM_REQUEST_QUEUED", ["SRM_REQUEST_QUEUED"] * 2)
    house.stage("a")
    waiting = house.call(f"srm{status}", token(bring), ALICE)
    assert waiting.code == "SRM_REQUEST_INPROGRESS"
    assert [one.findtext("estimatedWaitTime") for one in waiting.part.iterfind(STATUSES)] == [None, "1"]
    house.clock.advance(45)
    older = house.call(f"srm{status}", token(bring), ALICE)
    assert [one.findtext("estimatedWaitTime") for one in older.part.iterfind(STATUSES)] == [None, "4"]
    house.stage("b")
    assert house.codes(status, token(bring)) == ("SRM_SUCCESS", ["SRM_SUCCESS"] * 2)
    held = house.call(f"srm{status}", token(bring), ALICE).text(f"{STATUSES}/remainingPinTime")
    assert held == str(12 * HOUR_S - 45)
    assert house.codes("ReleaseFiles", token(bring)) == ("SRM_SUCCESS", ["SRM_SUCCESS"] * 2)
    assert house.codes(status, token(bring)) == ("SRM_SUCCESS", ["SRM_RELEASED"] * 2)


def test_bring_online_of_what_cannot_be(house):
    later = "<deferredStartTime>60</deferredStartTime>"
    wanted = (
        f"<arrayOfFileRequests><requestArray><sourceSURL>{surl('a')}</sourceSURL></requestArray>"
        "</arrayOfFileRequests>"
    )
    assert house.call("srmBringOnline", wanted + later, ALICE).code == "SRM_NOT_SUPPORTED"
    assert house.call("srmBringOnline", "<arrayOfFileRequests/>", ALICE).code == "SRM_INVALID_REQUEST"
    bring = house.ask("BringOnline", "none", "a")
    codes = house.codes("StatusOfBringOnlineRequest", token(bring))
    assert codes == ("SRM_REQUEST_INPROGRESS", ["SRM_INVALID_PATH", "SRM_REQUEST_QUEUED"])


def test_kinds_of_requests_are_kept_apart(house):
    get, bring = house.ask("PrepareToGet", "a"), house.ask("BringOnline", "a")
    assert house.codes("StatusOfBringOnlineRequest", token(get)) == ("SRM_INVALID_REQUEST", [])
    assert house.codes("StatusOfGetRequest", token(bring)) == ("SRM_INVALID_REQUEST", [])
    assert house.codes("StatusOfGetRequest", token(get))[0] == "SRM_REQUEST_QUEUED"


@pytest.mark.parametrize(("kind", "status"), [("PrepareToGet", "Get"), ("BringOnline", "BringOnline")])
def test_subsets_in_the_order_asked(house, kind, status):
    request = house.ask(kind, "a", "b", "c")
    house.stage("b")
    subset = urls("arrayOfSourceSURLs", "c", "b", "other")
    answer = house.call(f"srmStatusOf{status}Request", token(request) + subset, ALICE)
    assert answer.code == "SRM_REQUEST_INPROGRESS"
    told = [
        (one.findtext("sourceSURL")[-1], one.findtext("status/statusCode"))
        for one in answer.part.iterfind(STATUSES)
    ]
    there = "SRM_FILE_PINNED" if status == "Get" else "SRM_SUCCESS"
    assert told == [("c", "SRM_REQUEST_QUEUED"), ("b", there), ("r", "SRM_INVALID_PATH")]


def test_a_release_ends_one_pin_of_two(house):
    first, second = house.ask("PrepareToGet", "a"), house.ask("PrepareToGet", "a")
    house.stage("a")
    assert house.codes("ReleaseFiles", token(first) + urls("arrayOfSURLs", "a"))[0] == "SRM_SUCCESS"
    assert house.codes("StatusOfGetRequest", token(first)) == ("SRM_SUCCESS", ["SRM_RELEASED"])
    assert house.codes("StatusOfGetRequest", token(second)) == ("SRM_SUCCESS", ["SRM_FILE_PINNED"])
    assert house.stores.requests.pinned() == {house.guids["a"]}


def test_a_release_by_surl_ends_all_of_ones_own_pins_and_nobody_elses(house):
    mine = [house.ask("PrepareToGet", "a", "b"), house.ask("BringOnline", "a")]
    bobs = house.ask("PrepareToGet", "a", principal=BOB)
    house.stage("a", "b")
    answer = house.codes("ReleaseFiles", urls("arrayOfSURLs", "a", "c"))
    assert answer == ("SRM_PARTIAL_SUCCESS", ["SRM_SUCCESS", "SRM_INVALID_PATH"]), "one status a SURL"
    assert house.codes("StatusOfGetRequest", token(mine[0]))[1] == ["SRM_RELEASED", "SRM_FILE_PINNED"]
    assert house.codes("StatusOfBringOnlineRequest", token(mine[1]))[1] == ["SRM_RELEASED"]
    assert house.codes("StatusOfGetRequest", token(bobs), BOB)[1] == ["SRM_FILE_PINNED"]


def test_the_full_form_of_a_surl_is_echoed_and_means_the_same(house):
    request = house.ask("PrepareToGet", "a")
    full = f"srm://localhost:8446/srm/managerv2?SFN={DIRECTORY}/a"
    answer = house.call("srmReleaseFiles", f"<arrayOfSURLs><urlArray>{full}</urlArray></arrayOfSURLs>", ALICE)
    assert (answer.code, answer.text(f"{STATUSES}/surl")) == ("SRM_SUCCESS", full)
    assert house.codes("StatusOfGetRequest", token(request))[1] == ["SRM_RELEASED"]


def extend(request, *names, pin_s=None, file_s=None):
    lifetimes = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in (("newFileLifeTime", file_s), ("newPinLifeTime", pin_s))
        if value is not None
    )
    return (token(request) if request else "") + urls("arrayOfSURLs", *names) + lifetimes


def pins(house, inner):
    answer = house.call("srmExtendFileLifeTime", inner, ALICE)
    return answer.code, [
        (one.findtext("status/statusCode"), one.findtext("pinLifetime"))
        for one in answer.part.iterfind(STATUSES)
    ]


def test_pins_are_extended_and_never_shortened(house):
    request = house.ask("PrepareToGet", "a", "b", more="<desiredPinLifeTime>100</desiredPinLifeTime>")
    house.stage("a")
    assert pins(house, extend(request, "a", pin_s=300)) == ("SRM_SUCCESS", [("SRM_SUCCESS", "300")])
    assert pins(house, extend(request, "a", pin_s=50)) == ("SRM_SUCCESS", [("SRM_SUCCESS", "300")])
    assert pins(house, extend(request, "b", pin_s=500)) == ("SRM_SUCCESS", [("SRM_SUCCESS", None)])
    house.stage("b")
    left = house.call("srmStatusOfGetRequest", token(request) + urls("arrayOfSourceSURLs", "b"), ALICE)
    assert left.text(f"{STATUSES}/remainingPinTime") == "500", "a file that still waited is pinned for longer"
    house.clock.advance(200)
    assert house.codes("StatusOfGetRequest", token(request))[1] == ["SRM_FILE_PINNED"] * 2
    week_s = 7 * 24 * HOUR_S
    assert pins(house, extend(request, "a", pin_s=10**9))[1] == [("SRM_SUCCESS", str(week_s))]


def test_what_holds_no_pin_is_not_extended(house):
    request = house.ask("PrepareToGet", "a", "b", more="<desiredPinLifeTime>100</desiredPinLifeTime>")
    house.stage("a", "b")
    house.codes("ReleaseFiles", token(request) + urls("arrayOfSURLs", "a"))
    inner = extend(request, "a", "b", "none", pin_s=300)
    code, files = pins(house, inner)
    assert code == "SRM_PARTIAL_SUCCESS"
    assert files == [("SRM_RELEASED", None), ("SRM_SUCCESS", "300"), ("SRM_INVALID_PATH", None)]
    assert pins(house, extend(request, "a", pin_s=300)) == ("SRM_FAILURE", [("SRM_RELEASED", None)])
    house.clock.advance(301)
    assert pins(house, extend(request, "b", pin_s=300))[1] == [("SRM_FILE_LIFETIME_EXPIRED", None)]


@pytest.mark.parametrize("file_s", [60, -1])
def test_files_are_permanent(house, file_s):
    answer = house.call("srmExtendFileLifeTime", extend(None, "a", "none", file_s=file_s), ALICE)
    told = [one.findtext("fileLifetime") for one in answer.part.iterfind(STATUSES)]
    assert (answer.code, told) == ("SRM_PARTIAL_SUCCESS", ["-1", None])


@pytest.mark.parametrize(
    "inner",
    [
        extend(None, "a"),
        extend(None, "a", pin_s=60),
        extend("none", "a", pin_s=60),
        extend("none", pin_s=60),
        extend(None, "a", file_s=-2),
        extend("none", "a", pin_s=-2),
    ],
)
def test_an_extension_that_makes_no_sense(house, inner):
    assert pins(house, inner) == ("SRM_INVALID_REQUEST", [])


def test_files_are_withdrawn_one_by_one(house):
    request = house.ask("PrepareToGet", "a", "b", "c")
    house.stage("c")
    inner = token(request) + urls("arrayOfSURLs", "b", "none", "c")
    codes = house.codes("AbortFiles", inner)
    assert codes == ("SRM_PARTIAL_SUCCESS", ["SRM_SUCCESS", "SRM_INVALID_PATH", "SRM_SUCCESS"])
    states = ["SRM_REQUEST_QUEUED", "SRM_ABORTED", "SRM_ABORTED"]
    assert house.codes("StatusOfGetRequest", token(request)) == ("SRM_REQUEST_INPROGRESS", states)
    assert house.codes("AbortFiles", token(request) + urls("arrayOfSURLs", "b"))[0] == "SRM_SUCCESS"
    house.codes("AbortFiles", token(request) + urls("arrayOfSURLs", "a"))
    assert house.codes("StatusOfGetRequest", token(request))[0] == "SRM_ABORTED"


def tokens(house, description, principal=ALICE):
    inner = f"<userRequestDescription>{description}</userRequestDescription>" if description else ""
    answer = house.call("srmGetRequestTokens", inner, principal)
    return answer.code, [
        one.findtext("requestToken") for one in answer.part.iterfind("arrayOfRequestTokens/tokenArray")
    ]


def test_requests_are_found_again_by_their_description(house):
    word = "<userRequestDescription>Cohort</userRequestDescription>"
    first = house.ask("PrepareToGet", "a", more=word)
    house.clock.advance(1)
    second = house.ask("BringOnline", "a", more=word)
    other = house.ask("PrepareToGet", "a", more=word.replace("Cohort", "cohort"))
    assert tokens(house, "Cohort") == ("SRM_SUCCESS", [second, first])
    assert tokens(house, "cohort") == ("SRM_SUCCESS", [other])
    assert tokens(house, "COHORT") == ("SRM_INVALID_REQUEST", [])
    assert set(tokens(house, None)[1]) == {first, second, other}
    assert tokens(house, "Cohort", BOB) == ("SRM_INVALID_REQUEST", [])
    assert tokens(house, None, BOB) == ("SRM_SUCCESS", [])


def test_requests_are_summed_up(house):
    get, bring = house.ask("PrepareToGet", "a", "b", "none"), house.ask("BringOnline", "c")
    house.stage("a")
    listed = "".join(f"<stringArray>{one}</stringArray>" for one in (bring, get, "none"))
    answer = house.call(
        "srmGetRequestSummary", f"<arrayOfRequestTokens>{listed}</arrayOfRequestTokens>", ALICE
    )
    told = [
        tuple(one.findtext(name) for name in ("requestType", "totalNumFilesInRequest", "status/statusCode"))
        + tuple(one.findtext(f"numOf{name}Files") for name in ("Completed", "Waiting", "Failed"))
        for one in answer.part.iterfind("arrayOfRequestSummaries/summaryArray")
    ]
    assert answer.code == "SRM_PARTIAL_SUCCESS"
    assert told == [
        ("BRING_ONLINE", "1", "SRM_REQUEST_QUEUED", "0", "1", "0"),
        ("PREPARE_TO_GET", "3", "SRM_REQUEST_INPROGRESS", "1", "1", "1"),
        (None, None, "SRM_INVALID_REQUEST", None, None, None),
    ]
    mine = f"<arrayOfRequestTokens><stringArray>{get}</stringArray></arrayOfRequestTokens>"
    assert house.call("srmGetRequestSummary", mine, BOB).code == "SRM_INVALID_REQUEST"


def test_permissions_are_told_of_the_caller_alone(house):
    house.stores.namespace.set_acl(
        SitePath(f"{DIRECTORY}/b"), Acl.parse('user:"/CN=Secret Colleague":rx, group:"/vo":r')
    )
    asked = urls("arrayOfSURLs", "a", "b", "none")
    check = house.call("srmCheckPermission", asked, ALICE)
    told = [
        (one.findtext("permission"), one.findtext("status/statusCode"))
        for one in check.part.iter("surlPermissionArray")
    ]
    assert check.code == "SRM_PARTIAL_SUCCESS"
    codes = ["SRM_SUCCESS", "SRM_AUTHORIZATION_FAILURE", "SRM_INVALID_PATH"]
    assert [code for _, code in told] == codes
    assert told[0][0] == "RX"
    shown = house.call("srmGetPermission", asked, BOB)
    assert shown.code == "SRM_PARTIAL_SUCCESS"
    groups = [
        (one.findtext("groupID"), one.findtext("mode")) for one in shown.part.iter("groupPermissionArray")
    ]
    assert groups == [("members", "RX"), ("/vo", "R")]
    for answer in (check, shown):
        assert b"Secret" not in answer.body
        assert b"Alice" not in answer.body
    hidden = house.call("srmGetPermission", asked, EVE)
    assert {one.findtext("status/statusCode") for one in hidden.part.iter("permissionArray")} == {
        "SRM_INVALID_PATH"
    }


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("StatusOfBringOnlineRequest", ""),
        ("AbortFiles", urls("arrayOfSURLs", "a")),
        ("ExtendFileLifeTime", urls("arrayOfSURLs", "a") + "<newPinLifeTime>60</newPinLifeTime>"),
        ("ReleaseFiles", ""),
        ("AbortRequest", ""),
    ],
)
def test_a_token_is_its_owners_only(house, operation, more):
    request = house.ask("BringOnline", "a")
    assert house.codes(operation, token(request) + more, EVE) == ("SRM_AUTHORIZATION_FAILURE", [])
    assert house.codes("StatusOfBringOnlineRequest", token(request))[0] == "SRM_REQUEST_QUEUED"


def test_five_thousand_files_are_one_request_and_cheap_to_poll(house, rows_read):
    names = [f"many-{number:04d}" for number in range(5000)]
    house.add(*names)
    poll = token(house.ask("BringOnline", *names))
    rows_read.clear()
    assert house.call("srmStatusOfBringOnlineRequest", poll, ALICE).code == "SRM_REQUEST_QUEUED"
    assert len(names) <= sum(rows_read) < len(names) + 10
    rows_read.clear()
    subset = urls("arrayOfSourceSURLs", names[4000])
    assert house.codes("StatusOfBringOnlineRequest", poll + subset)[1] == ["SRM_REQUEST_QUEUED"]
    assert 0 < sum(rows_read) < 10
    assert house.codes("ReleaseFiles", urls("arrayOfSURLs", *names))[0] == "SRM_SUCCESS"
