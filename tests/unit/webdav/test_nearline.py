"""Waiting for a file that is being staged, with a broker that is told what to answer."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from srm_dicom.broker.views import FileState, FileView, RequestKind, RequestView
from srm_dicom.errors import NotAuthorised, RequestUnknown, SourceUnavailable
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import parse, refusal
from srm_dicom.ids import SitePath, Surl, Token
from srm_dicom.testing.clock import FakeClock
from srm_dicom.transfer.nearline import Nearline, NearlineSettings
from srm_dicom.wire.dav.prefer import Patience

END = datetime(2040, 1, 1, tzinfo=UTC)
ALICE = Principal("/CN=Alice", (), False, END)
PATH = SitePath("/vo/file")


@dataclass
class Staging:
    """A broker whose files are there after some time."""

    clock: FakeClock
    ready_s: float
    failure: Exception | None = None
    submitted: list = field(default_factory=list)
    forgotten: bool = False

    def submit(self, principal, wish):
        self.submitted.append((principal.dn, wish.surls, self.clock.monotonic_s()))
        return self._view(len(self.submitted) - 1)

    def cover(self, principal, surls, operation, scope):
        if not all(principal.in_scope(scope, Surl.parse(surl).path) for surl in surls):
            raise refusal(scope)

    def status(self, principal, token, surls, kind):
        assert kind is RequestKind.BRING_ONLINE
        if self.forgotten:
            raise RequestUnknown("gone")
        return self._view(int(token))

    def _view(self, number):
        late = self.clock.monotonic_s() - self.submitted[number][2] >= self.ready_s
        state = (FileState.FAILED if self.failure else FileState.PINNED) if late else FileState.QUEUED
        file = FileView("", state, self.failure if late else None, wait_s=None if late else 7)
        return RequestView(Token(str(number)), RequestKind.BRING_ONLINE, (file,), (state,), 1, END)


@pytest.fixture
def clock():
    return FakeClock(datetime(2026, 11, 1, tzinfo=UTC))


def nearline(broker, **options):
    return Nearline(broker, NearlineSettings("se", wait_s=30.0, **options), broker.clock)


def test_it_is_there_in_time(clock):
    broker = Staging(clock, ready_s=5.0)
    assert nearline(broker).bring(ALICE, PATH, None) is None
    assert 5.0 <= clock.monotonic_s() - broker.submitted[0][2] < 8.0
    assert broker.submitted[0][:2] == ("/CN=Alice", ("srm://se/vo/file",))


@pytest.mark.parametrize(("wait_s", "waited_s"), [(None, 30.0), (10.0, 10.0), (999.0, 30.0), (0.0, 0.0)])
def test_it_is_late(clock, wait_s, waited_s):
    broker = Staging(clock, ready_s=100.0)
    assert nearline(broker).bring(ALICE, PATH, wait_s) == 7
    assert clock.monotonic_s() - broker.submitted[0][2] == pytest.approx(waited_s)


def test_who_comes_back_asks_about_the_same_request(clock):
    broker = Staging(clock, ready_s=50.0)
    door = nearline(broker)
    assert door.bring(ALICE, PATH, None) == 7
    assert door.bring(ALICE, PATH, None) is None
    assert len(broker.submitted) == 1
    assert door.bring(ALICE, PATH, 0.0) == 7, "it has been evicted since: a new request"
    assert door.bring(replace(ALICE, dn="/CN=Bob"), PATH, 0.0) == 7
    assert len(broker.submitted) == 3


def test_a_request_that_is_gone_is_made_again(clock):
    broker = Staging(clock, ready_s=50.0)
    door = nearline(broker)
    door.bring(ALICE, PATH, 0.0)
    broker.forgotten = True
    with pytest.raises(RequestUnknown):
        door.bring(ALICE, PATH, 1.0)
    assert len(broker.submitted) == 2


def test_why_it_cannot_be_had(clock):
    broker = Staging(clock, ready_s=1.0, failure=SourceUnavailable("the archive does not answer"))
    with pytest.raises(SourceUnavailable):
        nearline(broker).bring(ALICE, PATH, None)


def test_so_many_wait_and_no_more(clock):
    broker = Staging(clock, ready_s=5.0)
    door = nearline(broker, waiting=1)
    assert door._turns.take("/CN=Bob")
    assert door.bring(ALICE, PATH, None) == 7
    assert clock.monotonic_s() == broker.submitted[0][2]


def test_one_identity_waits_on_half_of_the_connections_and_leaves_the_others_to_others(clock):
    broker = Staging(clock, ready_s=5.0)
    door = nearline(broker, waiting=4)
    assert door._turns.take(ALICE.dn)
    assert door._turns.take(ALICE.dn)
    assert door.bring(ALICE, PATH, None) == 7
    assert door.bring(replace(ALICE, dn="/CN=Bob"), PATH, None) is None


def test_a_token_for_reading_alone(clock):
    broker = Staging(clock, ready_s=0.0)
    with pytest.raises(NotAuthorised):
        nearline(broker).bring(replace(ALICE, scopes=parse("storage.read:/", "/")), PATH, None)
    assert not broker.submitted
    assert nearline(broker).bring(replace(ALICE, scopes=parse("storage.stage:/", "/")), PATH, None) is None


def test_a_manifest_comes_with_its_file(clock):
    broker = Staging(clock, ready_s=0.0)
    assert nearline(broker).bring(ALICE, SitePath("/vo/file.manifest"), None) is None
    assert broker.submitted[0][1] == ("srm://se/vo/file",)


def test_no_more_is_remembered_than_the_bound(clock):
    broker = Staging(clock, ready_s=99.0)
    door = nearline(broker, remembered=3)
    for number in range(5):
        door.bring(ALICE, SitePath(f"/vo/{number}"), 0.0)
    assert len(door._asked) == 3


@pytest.mark.parametrize(
    ("prefer", "agent", "patience"),
    [
        (None, None, Patience(None, False)),
        ("wait=20", "curl/8", Patience(20.0, False)),
        ("respond-async", None, Patience(0.0, True)),
        ("respond-async, wait=5; x", None, Patience(5.0, True)),
        ("wait=soon, return=minimal", None, Patience(None, False)),
        (None, "gfal2-util/1.8.0 gfal2/2.21.3 neon/0.0.29", Patience(None, True)),
    ],
)
def test_patience(prefer, agent, patience):
    assert Patience.read(prefer, agent) == patience
