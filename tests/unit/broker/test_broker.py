"""The life of a request, from submit to scratch and back, with a plugin that lives in memory."""

import errno
import os
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.audit.event import Action
from srm_dicom.audit.line import decode
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker import soon
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.names import forget
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.soon import MOST_FILES
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.states import ACTIVE, TRANSITIONS, Event, after, before
from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.clock import SystemClock
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.db.database import Database
from srm_dicom.errors import (
    InternalError,
    InvalidRequest,
    NotAuthorised,
    NotDelivered,
    NotFound,
    NotSupported,
    ObjectRefused,
    RequestUnknown,
    SourceUnavailable,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.plugin.api import Batch, PluginContext, StoragePlugin
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.acl import Acl, Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.requestrows import HELD, OPEN
from srm_dicom.store.stores import Stores
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url

REPORT = '{"profile":"basic","removed":["00100010"]}'
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PRIVATE = X25519PrivateKey.generate()
DIRECTORY = parse_path("/vo/mdm/site/heart-v1/p/s")


class Waiting(SystemClock):
    """A clock that waits, and tells the time of the house."""

    def __init__(self, clock):
        self.now = clock.now


class MemoryPlugin(StoragePlugin):
    """Bytes by GUID; what `failures` has is raised or refused instead."""

    def __init__(self, context):
        super().__init__(context)
        self.bytes: dict[str, bytes] = {}
        self.down = False
        self.refused: set[str] = set()
        self.visits: list[Batch] = []

    def discover(self, selector, release):
        yield from ()

    def plan(self, files):
        return [Batch("memory", "all", tuple(files))]

    def stage(self, batch, sink, deadline_s):
        self.visits.append(batch)
        if self.down:
            raise SourceUnavailable("the memory does not answer")
        for ref in batch.files:
            if ref.guid not in self.bytes:
                continue
            slot = sink.open(ref)
            if ref.guid in self.refused:
                slot.refuse("burned in text")
                continue
            slot.write(self.bytes[ref.guid])
            slot.commit(REPORT)


@dataclass
class House:
    path: object
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))

    def __post_init__(self):
        self.stores = Stores.open(database_url(self.path, "names"))
        self.area = ScratchArea(self.path / "scratch")
        self.plugin = MemoryPlugin(PluginContext("memory", {}, self.path, self.clock))
        self.project = Project(
            "heart",
            "permit 1",
            "test",
            "basic",
            "consent",
            NOW + timedelta(days=1000),
            (
                Member(Tag.USER, "/CN=Alice", frozenset({"file"})),
                Member(Tag.GROUP, "/vo", frozenset({"file"})),
            ),
        )
        self.audit = AuditLog(self.path / "audit", "front", "host", self.clock)
        access = FileAccess(self.stores.namespace, {"heart": self.project}, self.audit, self.clock)
        nodes = {"node": {"gsiftp": "gsiftp://node:2811", "https": "https://node:8443"}}
        self.broker = Broker(BrokerSettings("localhost", nodes), self.stores, access, self.clock)
        self.holding = Broker(
            BrokerSettings("localhost", nodes, hold_s=1000.0), self.stores, access, Waiting(self.clock)
        )
        self.holding_briefly = Broker(
            BrokerSettings("localhost", nodes, hold_s=0.2), self.stores, access, Waiting(self.clock)
        )
        self.signing_key = Ed25519PrivateKey.generate()
        publisher = Publisher("node", self.area, self.stores, self.signing_key, self.clock)
        (self.path / "spool").mkdir()
        self.stager = Stager(
            StagerSettings("worker", visit_s=5.0),
            {"memory": PluginHost(self.plugin, name="memory")},
            self.stores,
            publisher,
            Sealing(b"s" * 32, SlotSettings(self.path / "spool", spool_above_bytes=1000)),
            self.audit,
            self.clock,
        )
        self.janitor = Janitor("node", self.area, self.stores, SpaceSettings(), self.clock)
        release = Release("heart", "basic", "v1")
        self.stores.namespace.make_directory(DIRECTORY, self.project.directory_acl(), NOW, release)

    def file(self, name, content=b"x" * 5000, acl=None):
        guid = Guid(str(uuid.uuid5(uuid.NAMESPACE_URL, name)))
        path = SitePath(f"{DIRECTORY}/{name}")
        self.stores.namespace.add_file(
            Entry(
                path, Kind.FILE, "", acl or self.project.file_acl(), NOW, guid,
                release=Release("heart", "basic", "v1"), key_id="k",
                public_key=PRIVATE.public_key().public_bytes_raw(), plugin="memory", plugin_ref=b"ref",
            )
        )  # fmt: skip
        self.plugin.bytes[guid] = content
        return guid

    def stage(self):
        for visit in self.stager.claim():
            self.stager.visit(visit)


def who(dn="/CN=Alice", fqans=()):
    return Principal(dn, tuple(fqans), limited=False, expires=NOW + timedelta(days=1))


def surl(name):
    return f"srm://localhost{DIRECTORY}/{name}"


def get(*names, **more):
    return Wish(RequestKind.GET, tuple(surl(name) for name in names), ("gsiftp",), **more)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_a_file_is_staged_sealed_and_served(house):
    guid = house.file("a")
    request = house.broker.submit(who(), get("a"))
    assert request.states == (FileState.QUEUED,)
    assert request.files[0].turl is None
    house.stage()
    file = house.broker.status(who(), request.token, None).files[0]
    assert file.state is FileState.PINNED
    assert file.turl == f"gsiftp://node:2811{DIRECTORY}/a"
    entry = house.stores.namespace.find_guid(guid)
    staged = house.area.path(StagedName(guid, 1)).read_bytes()
    assert staged.startswith(b"crypt4gh")
    assert len(staged) == file.size_bytes == entry.facts.size_bytes
    assert b"x" * 16 not in staged
    manifest = Manifest.verify(entry.facts.manifest, house.signing_key.public_key())
    assert (manifest.guid, manifest.size_bytes) == (guid, len(staged))


def test_an_answer_is_held_while_its_file_may_come_at_once(house, monkeypatch):
    if house.stores.database.is_sqlite:  # there it is told, and nobody has to look
        monkeypatch.setattr(soon, "_HEARD_S", 1000.0)
    house.file("a")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(house.holding.submit, who(), get("a"))
        while not (visits := house.stager.claim()):
            assert not answer.done()
        assert not answer.done()
        for visit in visits:
            house.stager.visit(visit)
        file = answer.result(30).files[0]
    assert (file.state, file.turl) == (FileState.PINNED, f"gsiftp://node:2811{DIRECTORY}/a")


def test_an_answer_is_not_held_for_ever_nor_for_many_files(house):
    names = [f"f{number}" for number in range(MOST_FILES + 1)]
    for name in names:
        house.file(name)
    began_s = time.monotonic()
    assert house.holding_briefly.submit(who(), get("f0")).states == (FileState.QUEUED,)
    assert time.monotonic() - began_s >= 0.2
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(house.holding.submit, who(), get(*names))
        assert set(answer.result(30).states) == {FileState.QUEUED}
        refused = pool.submit(house.holding.submit, who(), get("nothing"))
        assert refused.result(30).states == (FileState.FAILED,)


def test_what_the_audit_does_not_have_is_not_asked_for(house, monkeypatch):
    def broken(_fd):
        raise OSError(errno.EIO, "broken")

    house.file("a")
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", broken)
        with pytest.raises(InternalError, match="nothing is released"):
            house.broker.submit(who(), get("a"))
    assert house.broker.tokens(who(), None) == []
    assert house.stager.claim() == []
    assert house.broker.submit(who(), get("a")).states == (FileState.QUEUED,)


def test_what_was_done_to_a_file_is_in_the_audit_trail(house):
    guids = [house.file(name) for name in ("a", "b")]
    house.broker.submit(who(), get("a", "b"))
    house.stage()
    events = [decode(raw)[0].event for raw in house.audit.path.read_bytes().splitlines()]
    staged = [event for event in events if event.action is Action.STAGING]
    assert [(event.report, sorted(event.objects)) for event in staged] == [(REPORT, sorted(guids))]


def staged_in_audit(house):
    events = (decode(raw)[0].event for raw in house.audit.path.read_bytes().splitlines())
    return [guid for event in events if event.action is Action.STAGING for guid in event.objects]


def test_how_a_file_was_made_is_in_the_audit_trail_before_anybody_hears_of_it(house, monkeypatch):
    guid, pin, seen = house.file("a"), house.stores.requests.pin, []

    def look(*arguments):
        seen.append(staged_in_audit(house))
        return pin(*arguments)

    monkeypatch.setattr(house.stores.requests, "pin", look)
    house.broker.submit(who(), get("a"))
    house.stage()
    assert seen == [[guid]]


def test_what_the_audit_cannot_be_told_of_is_not_ready(house, monkeypatch):
    guid, fsync = house.file("a"), os.fsync
    asked = house.broker.submit(who(), get("a"))

    def broken(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink() == house.audit.path:
            raise OSError(errno.EIO, "broken")
        fsync(descriptor)

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", broken)
        house.stage()
    assert house.stores.staged.find([guid]) == {}
    assert house.broker.status(who(), asked.token, None).states == (FileState.FAILED,)
    assert house.stores.namespace.find_guid(guid).facts is None


def test_the_same_object_gives_the_same_bytes_and_another_a_new_generation(house):
    guid = house.file("a")
    house.broker.submit(who(), get("a"))
    house.stage()
    first = house.area.path(StagedName(guid, 1)).read_bytes()

    def again():
        house.stores.staged.remove(guid, "node")
        house.area.remove(StagedName(guid, 1))
        house.broker.submit(who(), get("a"))
        house.stage()

    again()
    assert house.area.path(StagedName(guid, 1)).read_bytes() == first
    house.plugin.bytes[guid] = b"y" * 5000
    again()
    assert house.stores.namespace.find_guid(guid).generation == 2
    assert house.area.path(StagedName(guid, 2)).read_bytes() != first


@pytest.mark.parametrize("again", [False, True], ids=["gone", "registered again"])
def test_what_lost_its_name_while_it_was_staged_is_not_announced(house, monkeypatch, again):
    guid, kept = house.file("a"), house.file("kept")
    house.broker.submit(who(), get("a", "kept"))
    stage = house.plugin.stage

    def removed_meanwhile(batch, sink, deadline_s):
        stage(batch, sink, deadline_s)
        removed = house.stores.namespace.find_guid(guid)
        with house.stores.database.transaction():
            house.stores.namespace.remove(removed.path)
            forget(house.stores, [removed])
            if again:
                other = X25519PrivateKey.generate().public_key().public_bytes_raw()
                house.stores.namespace.add_file(replace(removed, generation=2, public_key=other))
        if again:
            house.broker.submit(who(), get("a"))

    monkeypatch.setattr(house.plugin, "stage", removed_meanwhile)
    house.stage()
    assert set(house.stores.staged.find([guid, kept])) == {kept}
    now = house.stores.namespace.find_guid(guid)
    assert (now and (now.generation, now.facts)) == ((2, None) if again else None)
    waiting = house.stores.requests.counts()
    assert waiting == {FileState.ABORTED: 1, FileState.PINNED: 1} | ({FileState.QUEUED: 1} if again else {})
    house.janitor.tidy()
    assert set(house.area.names()) == {StagedName(kept, 1)}


def test_what_is_staged_is_pinned_at_once_and_moved_once(house):
    house.file("a")
    house.broker.submit(who(), get("a"))
    house.broker.submit(who("/CN=Bob", ["/vo"]), get("a"))
    house.stage()
    house.stage()
    assert len(house.plugin.visits) == 1
    assert house.broker.submit(who(), get("a")).states == (FileState.PINNED,)


def test_absent_and_forbidden_are_told_alike_unless_the_parent_may_be_listed(house):
    house.file("secret", acl=Acl.parse('user:"/CN=Bob":r'))
    stranger = house.broker.submit(who("/CN=Eve"), get("secret", "absent"))
    assert [type(file.failure) for file in stranger.files] == [NotFound, NotFound]
    assert len({file.failure.message for file in stranger.files}) == 1
    member = house.broker.submit(who(), get("secret", "absent"))
    assert [type(file.failure) for file in member.files] == [NotAuthorised, NotFound]


def test_one_unknown_file_does_not_stop_the_others(house):
    house.file("a")
    request = house.broker.submit(
        who(), Wish(RequestKind.GET, (surl("a"), "nonsense", surl("b")), ("gsiftp",))
    )
    assert request.states == (FileState.QUEUED, FileState.FAILED, FileState.FAILED)


def test_a_project_that_has_ended_grants_nothing(house):
    house.file("a")
    house.clock.advance(timedelta(days=2000).total_seconds())
    assert type(house.broker.submit(who(), get("a")).files[0].failure) is NotFound


def test_a_source_that_is_down_is_asked_again_and_fails_at_the_deadline(house):
    house.file("a")
    house.plugin.down = True
    request = house.broker.submit(who(), get("a", total_s=60))
    house.stage()
    file = house.broker.status(who(), request.token, None).files[0]
    assert file.state is FileState.IN_PROGRESS
    assert file.explanation == "the memory does not answer"
    house.stage()
    assert len(house.plugin.visits) == 1, "the pause is kept"
    house.clock.advance(10)
    house.stage()
    assert len(house.plugin.visits) == 2
    house.clock.advance(60)
    file = house.broker.status(who(), request.token, None).files[0]
    assert file.state is FileState.FAILED
    assert isinstance(file.failure, SourceUnavailable)


def test_who_gives_back_what_a_source_that_is_down_did_not_bring_has_done_so(house):
    house.file("a")
    house.file("b")
    house.plugin.down = True
    request = house.broker.submit(who(), get("a", "b"))
    house.stage()
    for _ in range(2):
        (file,) = house.broker.release(who(), request.token, [surl("a")])
        assert (file.state, file.failure) == (FileState.RELEASED, None)
    house.clock.advance(3600)
    house.broker.apply_time()
    failed = house.broker.release(who(), request.token, [surl("b")])[0]
    assert isinstance(failed.failure, SourceUnavailable)


def test_a_file_that_the_source_has_lost_is_asked_for_three_times(house):
    guid = house.file("a")
    del house.plugin.bytes[guid]
    request = house.broker.submit(who(), get("a"))
    for visits in (1, 2, 3):
        assert house.broker.status(who(), request.token, None).files[0].state is not FileState.FAILED
        house.stage()
        assert len(house.plugin.visits) == visits
        house.clock.advance(60)
    assert isinstance(house.broker.status(who(), request.token, None).files[0].failure, NotDelivered)


def test_an_outage_is_no_sign_that_a_file_is_lost(house):
    guid = house.file("a")
    house.plugin.down = True
    request = house.broker.submit(who(), get("a"))
    for visits in (1, 2, 3):
        house.stage()
        assert len(house.plugin.visits) == visits
        house.clock.advance(60)
    house.plugin.down = False
    content = house.plugin.bytes.pop(guid)
    house.stage()
    house.clock.advance(60)
    house.plugin.bytes[guid] = content
    house.stage()
    assert house.broker.status(who(), request.token, None).files[0].state is FileState.PINNED


def test_a_refused_object_fails_with_its_class_of_reason(house):
    guid = house.file("a")
    house.plugin.refused.add(guid)
    request = house.broker.submit(who(), get("a"))
    house.stage()
    file = house.broker.status(who(), request.token, None).files[0]
    assert isinstance(file.failure, ObjectRefused)
    assert file.failure.message == "burned in text"
    assert not list(house.area.names())


def test_release_abort_and_strangers(house):
    house.file("a")
    request = house.broker.submit(who(), get("a"))
    with pytest.raises(RequestUnknown, match=r"^you have no request with this token$"):
        house.broker.status(who(), "none", None)
    for act in (house.broker.status, house.broker.release, house.broker.extend):
        with pytest.raises(NotAuthorised, match=r"^this request is somebody else's$"):
            act(who("/CN=Eve"), request.token, [surl("a")], *((60,) if act == house.broker.extend else ()))
    for act in (house.broker.abort, house.broker.suspend, house.broker.resume, house.broker.forget):
        with pytest.raises(NotAuthorised):
            act(who("/CN=Eve"), request.token)
    with pytest.raises(RequestUnknown):  # numbers are few enough to be tried
        house.broker.numbers.token(who("/CN=Eve"), house.broker.numbers.of(request.token)[0])
    assert house.broker.numbers.token(who(), house.broker.numbers.of(request.token)[0]) == request.token
    house.stage()
    assert house.broker.release(who(), None, [surl("a")])[0].state is FileState.RELEASED
    assert house.broker.status(who(), request.token, None).states == (FileState.RELEASED,)
    second = house.broker.submit(who(), get("a"))
    assert house.broker.abort(who(), second.token).states == (FileState.ABORTED,)
    assert isinstance(house.broker.release(who(), None, [surl("a")])[0].failure, NotFound)


def test_no_common_protocol(house):
    house.file("a")
    with pytest.raises(NotSupported):
        house.broker.submit(who(), Wish(RequestKind.GET, (surl("a"),), ("dcap",)))
    spoken = Wish(RequestKind.GET, (surl("a"),), ("dcap", "https", "gsiftp"))
    house.broker.submit(who(), spoken)
    house.stage()
    assert house.broker.submit(who(), spoken).files[0].turl.startswith("https://")


def test_a_pin_ends_and_the_file_may_be_evicted_only_then(house):
    guid = house.file("a")
    house.broker.submit(who(), get("a", pin_s=100))
    house.stage()
    full = Janitor("node", house.area, house.stores, SpaceSettings(high_bytes=1, low_bytes=0), house.clock)
    full.tidy()
    assert house.area.path(StagedName(guid, 1)).exists()
    house.clock.advance(101)
    full.tidy()
    assert not house.area.path(StagedName(guid, 1)).exists()
    assert house.stores.staged.find([guid]) == {}


def test_what_is_staged_again_while_it_is_evicted_stays(house, monkeypatch):
    guid = house.file("a")
    first = house.broker.submit(who(), get("a")).token
    house.stage()
    house.broker.release(who(), first, None)
    full = Janitor("node", house.area, house.stores, SpaceSettings(high_bytes=1, low_bytes=0), house.clock)
    transaction, asked = house.stores.database.transaction, []

    @contextmanager
    def slow(**more):
        """After which the janitor's thread has to wait for others."""
        with transaction(**more):
            yield
        if not house.stores.staged.find([guid]):
            monkeypatch.undo()
            asked.append(house.broker.submit(who(), get("a")).token)
            house.stage()

    monkeypatch.setattr(house.stores.database, "transaction", slow)
    full.tidy()
    (again,) = asked
    assert house.broker.status(who(), again, None).files[0].turl
    assert house.area.path(StagedName(guid, 1)).exists()
    assert len(list((house.path / "scratch").rglob("*.*"))) == 1


def test_a_request_is_forgotten_when_it_has_been_over_for_long(house):
    for name in ("ended", "held"):
        house.file(name)
    ended = house.broker.submit(who(), get("ended", pin_s=600, total_s=60)).token
    held = house.broker.submit(who(), get("held", pin_s=7 * 24 * 3600, total_s=60)).token
    house.stage()
    brief = SpaceSettings(retention_s=3600)
    janitor = Janitor("node", house.area, house.stores, brief, house.clock)
    house.clock.advance(3000)
    janitor.tidy()
    janitor.forget_requests()
    assert house.broker.status(who(), ended, None).states == (FileState.EXPIRED,)
    house.clock.advance(3000)
    janitor.forget_requests()
    with pytest.raises(RequestUnknown):
        house.broker.status(who(), ended, None)
    assert house.broker.status(who(), held, None).states == (FileState.PINNED,)
    assert house.stores.requests.counts() == {FileState.PINNED: 1}


def test_after_a_crash_disk_and_rows_agree(house):
    lost, kept = house.file("lost"), house.file("kept")
    request = house.broker.submit(who(), get("lost", "kept"))
    house.stage()
    house.area.path(StagedName(lost, 1)).unlink()
    house.area.begin().write(b"half")
    stray = StagedName(Guid("00000000-0000-4000-8000-ffffffffffff"), 1)
    incoming = house.area.begin()
    incoming.finish()
    house.area.publish([(stray, incoming.id)])
    for path in (house.path / "scratch").rglob("*"):
        os.utime(path, (0, 0))
    house.janitor.sweep()
    assert set(house.area.names()) == {StagedName(kept, 1)}
    assert house.broker.status(who(), request.token, None).states == (FileState.QUEUED, FileState.PINNED)
    house.stage()
    assert house.broker.status(who(), request.token, None).states == (FileState.PINNED,) * 2


def test_who_holds_a_file_that_scratch_lost_waits_for_it_as_long_as_it_was_to_be_held(house):
    guid = house.file("a")
    held = house.broker.submit(who(), get("a", total_s=60, pin_s=3600)).token
    house.stage()
    house.clock.advance(1800)
    house.area.path(StagedName(guid, 1)).unlink()
    house.janitor.sweep()
    assert house.broker.status(who(), held, None).states == (FileState.QUEUED,)
    house.plugin.down = True
    house.stage()
    house.clock.advance(1799)
    assert house.broker.status(who(), held, None).states == (FileState.IN_PROGRESS,)
    house.plugin.down = False
    house.stage()
    assert house.broker.status(who(), held, None).files[0].turl
    house.area.path(StagedName(guid, 1)).unlink()
    house.janitor.sweep()
    house.clock.advance(3601)
    assert house.broker.status(who(), held, None).states == (FileState.FAILED,)


def test_what_came_while_it_was_suspended_is_there_when_it_is_resumed(house):
    for name in ("a", "b"):
        house.file(name)
    waits = house.broker.submit(who(), get("a", "b", pin_s=100)).token
    house.broker.suspend(who(), waits)
    house.broker.submit(who("/CN=Bob", ("/vo",)), get("a"))
    house.stage()
    house.clock.advance(50)
    house.broker.resume(who(), waits)
    first, second = house.broker.status(who(), waits, None).files
    assert (first.state, first.pin_left_s, second.state) == (FileState.PINNED, 100, FileState.QUEUED)
    house.stage()
    assert [len(visit.files) for visit in house.plugin.visits] == [1, 1]


def test_a_dead_stagers_lease_is_claimed_again(house):
    house.file("a")
    request = house.broker.submit(who(), get("a"))
    assert house.stager.claim(), "claimed, and then it dies"
    assert not house.stager.claim()
    house.clock.advance(11)
    house.stage()
    assert house.broker.status(who(), request.token, None).states == (FileState.PINNED,)


def test_a_visit_without_outcomes_ends_with_its_lease(house, monkeypatch):
    house.file("a")
    request = house.broker.submit(who(), get("a"))
    monkeypatch.setattr(house.stager, "_stage", lambda *_: house.clock.advance(6))
    house.stage()
    file = house.broker.status(who(), request.token, None).files[0]
    assert file.state is FileState.IN_PROGRESS
    assert file.explanation == "staging was not over when its time was up"


def test_two_stagers_never_claim_the_same_file(house):
    for number in range(50):
        house.file(f"f{number}")
    house.broker.submit(who(), get(*(f"f{number}" for number in range(50))))
    claimed = []
    threads = [threading.Thread(target=lambda: claimed.extend(house.stager.claim())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    guids = [ref.guid for visit in claimed for ref in visit.batch.files]
    assert len(guids) == len(set(guids)) == 50


def test_a_crowd_of_one_user_keeps_nobody_else_waiting(house):
    for number in range(30):
        house.file(f"f{number}")
    house.file("b")
    house.broker.submit(who(), get(*(f"f{number}" for number in range(30))))
    house.broker.submit(who("/CN=Bob", ["/vo"]), get("b"))
    claimed = house.stores.leases.claim(
        "worker", ACTIVE, FileState.IN_PROGRESS,
        now=house.clock.now(), lease_s=10, room=lambda owner, _source: 6 if "Alice" in owner else 10,
    )  # fmt: skip
    assert Counter(row.owner for row in claimed) == {"/CN=Alice": 6, "/CN=Bob": 1}
    house.stores.leases.give_back([row.id for row in claimed])
    house.stage()
    assert len(house.plugin.visits[0].files) == 31
    assert house.stores.requests.counts() == {FileState.PINNED: 31}


def test_what_waits_at_a_source_is_claimed_when_there_is_room_for_it(house):
    names = [f"f{number}" for number in range(8)]
    for name in names:
        house.file(name)
    house.broker.submit(who(), get(*names))
    leases, claiming = house.stores.leases, ("worker", ACTIVE, FileState.IN_PROGRESS)

    def claim(**room):
        times = {"now": house.clock.now(), "lease_s": 10}
        found = leases.claim(*claiming, **times, room=lambda _owner, source: room.get(source or "new", 0))
        return [row.id for row in found]

    first, second, third = claim(new=3), claim(new=2), claim(new=1)
    leases.give_back(first, "pacs")
    leases.give_back(second, "vna")
    leases.give_back(third)
    assert claim(vna=9) == second
    assert claim(pacs=2, new=9) == [*first[:2], *third, third[0] + 1, third[0] + 2]
    assert claim(pacs=9, vna=9, new=9) == first[2:]


def questions(house, monkeypatch):
    """A list of what the house's database is asked from now on."""
    asked, select, database = [], Database.select, house.stores.database

    def listening(self, *query):
        if self is database:  # threads of other tests may be at theirs
            asked.append(query)
        return select(self, *query)

    monkeypatch.setattr(Database, "select", listening)
    return asked


def test_a_claim_looks_at_what_it_takes_and_not_at_all_that_waits(house, monkeypatch):
    for number in range(3):
        house.file(f"f{number}")
    house.broker.submit(who(), get("f0", "f1", "f2"))
    select, asked = Database.select, questions(house, monkeypatch)
    house.stores.leases.claim(
        "w", ACTIVE, FileState.IN_PROGRESS, now=house.clock.now(), lease_s=9, room=lambda *_: 2
    )
    if not house.stores.database.is_sqlite:
        pytest.skip("only SQLite tells its plan in these words")
    plans = [
        row.detail
        for statement, parameters in asked
        for row in select(house.stores.database, f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]
    assert len(asked) == 6
    assert not [plan for plan in plans if "TEMP B-TREE" in plan or plan.startswith("SCAN request_file")]


def test_what_time_can_change_is_in_the_indices_that_are_asked_for_it(house, monkeypatch):
    waits = {*before(Event.FAIL), *before(Event.TIME_OUT), *before(Event.REFUSE)}
    assert {state for state in FileState if f"'{state.value}'" in OPEN} == waits
    assert {state for state in FileState if f"'{state.value}'" in HELD} == set(before(Event.EXPIRE))
    select, asked = Database.select, questions(house, monkeypatch)
    house.broker.apply_time()
    if not house.stores.database.is_sqlite:
        pytest.skip("only SQLite tells its plan in these words")
    ((statement, parameters),) = asked
    plan = [
        row.detail for row in select(house.stores.database, f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]
    assert any("request_file_held_by_pin (pin_until<?)" in step for step in plan)
    assert any("request_file_open_by_deadline (state=? AND deadline_at<?)" in step for step in plan)


def test_listing(house):
    for name in "abc":
        house.file(name)
    house.file("hidden", acl=Acl())
    top = house.broker.listing(who(), f"srm://localhost{DIRECTORY}", 1, 0, None)
    assert [child.path.rpartition("/")[2] for child in top.children] == ["a", "b", "c", "hidden"]
    assert isinstance(top.children[3].failure, NotAuthorised)
    assert top.children[3].entry is None
    page = house.broker.listing(who(), f"srm://localhost{DIRECTORY}", 1, 1, 2)
    assert [child.path[-1] for child in page.children] == ["b", "c"]
    assert page.more
    assert isinstance(
        house.broker.listing(who("/CN=Eve"), f"srm://localhost{DIRECTORY}", 1, 0, None).failure, NotFound
    )
    file = house.broker.listing(who(), surl("a"), 0, 0, None)
    assert file.entry.facts is None
    assert not file.online


def test_the_table_of_states_is_closed():
    for state, follows in TRANSITIONS.items():
        assert set(follows.values()) <= set(FileState), state
    for event in Event:
        assert len({after(state, event) for state in before(event)}) == 1, "an event leads to one state"
    with pytest.raises(InternalError):
        after(FileState.FAILED, Event.PUBLISH)


def test_who_wants_no_end_gets_as_much_as_the_site_gives(house):
    house.file("a")
    forever = house.broker.submit(who(), get("a", pin_s=-1, total_s=-1))
    assert forever.remaining_s == 24 * 3600
    house.stage()
    (file,) = house.broker.status(who(), forever.token, None).files
    assert file.pin_left_s == 7 * 24 * 3600
    brief = house.broker.submit(who(), get("a", pin_s=60))
    (file,) = house.broker.extend(who(), brief.token, [surl("a")], -1)
    assert file.pin_left_s == 7 * 24 * 3600
    with pytest.raises(InvalidRequest):
        house.broker.submit(who(), get("a", pin_s=-2))
