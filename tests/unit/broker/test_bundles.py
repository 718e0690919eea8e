"""``<series>.tar``: asked for, told of, held and served as one file, of which no copy exists."""

import errno
import gc
import os
import tarfile
import uuid
import zlib
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.event import Action
from srm_dicom.audit.line import decode
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.spending import Spending
from srm_dicom.broker.states import Event, after, before
from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.db.usage import Ledger
from srm_dicom.errors import BudgetExhausted, NotDelivered, NotFound, Overloaded, RequestExpired
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.rights.acl import Acl, Tag
from srm_dicom.rights.budget import Budget
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url
from srm_dicom.transfer.files import read_bytes
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.turns import Turns

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")
SERIES = parse_path("/vo/mdm/site/heart-v1/p/study/series")
TAR = SitePath(f"{SERIES}.tar")
SURL = f"srm://localhost{TAR}"
DESCRIPTORS = Path("/proc/self/fd")
QUEUED, PINNED, FAILED = FileState.QUEUED, FileState.PINNED, FileState.FAILED


def who(dn="/CN=Alice"):
    return Principal(dn, (), limited=False, expires=NOW + timedelta(days=1))


class House:
    """A node's files without a stager: `publish` does what one would do at the end."""

    def __init__(self, directory, objects_a_day=0):
        self.clock = FakeClock(NOW)
        self.stores = Stores.open(database_url(directory, "names"))
        self.area = ScratchArea(directory / "scratch")
        self.key = Ed25519PrivateKey.generate()
        alice = Member(Tag.USER, "/CN=Alice", frozenset({"file"}))
        until = NOW + timedelta(days=9)
        self.project = Project("heart", "permit", "test", "basic", "consent", until, (alice,))
        self.audit = AuditLog(directory / "audit", "front", "host", self.clock)
        access = FileAccess(self.stores.namespace, {"heart": self.project}, self.audit, self.clock)
        nodes = {"node": {"gsiftp": "gsiftp://node:2811"}, "other": {"gsiftp": "gsiftp://other:2811"}}
        self.broker = Broker(BrokerSettings("localhost", nodes), self.stores, access, self.clock)
        ledger = Ledger(self.stores.database, self.audit, self.clock)
        spending = Spending(ledger, Budget(objects=objects_a_day), {})
        self.files = StagedFilesOfNode(
            "node", self.area, self.stores, access, self.audit, self.clock, spending
        )
        self.stores.namespace.make_directory(SERIES, self.project.directory_acl(), NOW, RELEASE)

    def add(self, called, acl=None, public_key=b"k" * 32):
        path = SitePath(f"{SERIES}/{called}.dcm.c4gh")
        guid = Guid(str(uuid.uuid5(uuid.NAMESPACE_URL, path)))
        entry = Entry(
            path, Kind.FILE, "", acl or self.project.file_acl(), NOW, guid, RELEASE, public_key=public_key
        )
        self.stores.namespace.add_file(entry)
        return guid

    def publish(self, guid, data, generation=1, node="node"):
        digest = blake3(data).hexdigest()
        adler32 = f"{zlib.adler32(data):08x}"
        manifest = Manifest(guid, generation, len(data), adler32, digest, RELEASE, b"k" * 32).sign(self.key)
        incoming = self.area.begin()
        incoming.write(data)
        incoming.finish()
        self.area.publish([(StagedName(guid, generation), incoming.id)])
        self.stores.namespace.record_facts([(guid, Facts(len(data), adler32, manifest), generation)])
        self.stores.staged.add([Staged(guid, node, generation, len(data))], self.clock.now())
        self.stores.requests.pin(
            [guid], before(Event.PUBLISH), after(QUEUED, Event.PUBLISH), self.clock.now()
        )

    def submit(self, *surls, kind=RequestKind.GET):
        return self.broker.submit(who(), Wish(kind, surls or (SURL,), ("gsiftp",)))

    def status(self, token):
        return self.broker.status(who(), token, None)

    def read(self, start=0, end=None):
        with self.files.open(who(), TAR) as file:
            end = file.size_bytes if end is None else end
            file.charge(end - start)
            return b"".join(read_bytes(file, start, end, 1000))

    def events(self):
        return [decode(raw)[0].event for raw in self.audit.path.read_bytes().splitlines()]


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture
def series(house):
    """Three files that nobody has staged, and their bytes."""
    return {house.add(called): os.urandom(size) for called, size in (("c", 700), ("a", 0), ("b", 5000))}


def publish(house, series):
    for guid, data in series.items():
        house.publish(guid, data)


def test_one_request_for_all_of_them(house, series):
    view = house.submit()
    assert (view.states, len(view.files)) == ((QUEUED,), 1)
    first, *others = series
    house.publish(first, series[first])
    waiting = house.status(view.token)
    assert (waiting.states, waiting.files[0].turl) == ((QUEUED,), None)
    assert waiting.files[0].explanation == "1 of 3 files are staged"
    publish(house, {guid: series[guid] for guid in others})
    ready = house.status(view.token)
    assert ready.states == (PINNED,)
    assert ready.files[0].turl == f"gsiftp://node:2811{TAR}"
    assert ready.files[0].surl == SURL
    summary = house.broker.summaries(who(), [view.token])[0]
    assert summary.states == {PINNED: 1}


def test_it_is_a_tar_of_the_very_files(house, series):
    publish(house, series)
    whole = house.read()
    with tarfile.open(fileobj=BytesIO(whole)) as tar:
        assert tar.getnames() == [f"series/{called}.dcm.c4gh" for called in "abc"]
        assert {tar.extractfile(info).read() for info in tar} == set(series.values())
    info = house.files.stat(who(), TAR)
    assert (info.size_bytes, info.adler32, info.online) == (len(whole), f"{zlib.adler32(whole):08x}", True)
    assert house.read(600, 3000) == whole[600:3000]


def test_its_manifest_is_a_line_for_each(house, series):
    publish(house, series)
    with house.files.open(who(), SitePath(f"{TAR}.manifest")) as file:
        lines = b"".join(read_bytes(file, 0, file.size_bytes, 100)).decode().split("\n")
    manifests = [Manifest.verify(line, house.key.public_key()) for line in lines]
    entries = house.stores.namespace.children(SERIES)
    assert [manifest.guid for manifest in manifests] == [entry.guid for entry in entries]


def test_it_is_listed_nowhere_and_described_to_who_asks(house, series):
    assert [info.path for info in house.files.listdir(who(), SitePath(SERIES.rpartition("/")[0]))] == [SERIES]
    (told,) = house.broker.entries(who(), [SURL], "srmLs")
    assert (told.entry.facts, told.online) == (None, False)
    publish(house, series)
    (told,) = house.broker.entries(who(), [SURL], "srmLs")
    assert told.entry.facts.size_bytes == len(house.read())
    assert told.online


def test_it_is_for_who_may_read_every_file(house, series):
    publish(house, series)
    assert house.submit().states == (PINNED,)
    house.publish(house.add("hidden", acl=Acl.parse('user:"/CN=Bob":r')), b"secret")
    with pytest.raises(NotFound):
        house.files.open(who(), TAR)
    with pytest.raises(NotFound):
        house.files.stat(who(), SitePath(f"{TAR}.manifest"))
    view = house.submit()
    assert isinstance(view.files[0].failure, NotFound)
    with pytest.raises(NotFound):
        house.files.open(who("/CN=Mallory"), TAR)


@pytest.mark.parametrize("called", ["", "/a.dcm.c4gh", "/none"])
def test_what_has_none(house, series, called):
    with pytest.raises(NotFound):
        house.files.stat(who(), SitePath(f"{SERIES.rpartition('/')[0]}{called}.tar"))


def test_a_directory_with_anything_else_has_none(house, series):
    house.add("clear", public_key=b"")
    with pytest.raises(NotFound):
        house.files.stat(who(), TAR)


def test_a_file_that_fails_fails_it_and_keeps_the_reason(house, series):
    view = house.submit(SURL, f"srm://localhost{SERIES}/a.dcm.c4gh")
    lost = next(iter(series))
    house.stores.requests.move_guid(lost, before(Event.FAIL), FAILED, failure=NotDelivered("it is lost"))
    status = house.status(view.token)
    assert status.states == (FAILED, QUEUED)
    assert status.files[0].failure.message == "it is lost"


def test_what_is_held_for_it_is_given_back(house, series):
    publish(house, series)
    view = house.submit()
    assert house.stores.requests.pinned() == set(series)
    (released,) = house.broker.release(who(), None, [SURL])
    assert released.failure is None
    assert house.stores.requests.pinned() == set()
    assert house.status(view.token).states == (FileState.RELEASED,)
    assert house.submit(kind=RequestKind.BRING_ONLINE).states == (PINNED,)


def test_pins_are_extended_and_withdrawn_together(house, series):
    view = house.submit()
    publish(house, series)
    house.broker.extend(who(), view.token, [SURL], 7 * 24 * 3600)
    house.clock.advance(24 * 3600)
    assert house.status(view.token).files[0].pin_left_s == 6 * 24 * 3600
    house.broker.abort(who(), view.token)
    assert house.stores.requests.counts() == {FileState.ABORTED: 3}


def test_an_evicted_file_or_another_generation_must_be_asked_for(house, series):
    publish(house, series)
    first = next(iter(series))
    house.publish(first, b"other bytes", generation=2)
    assert b"other bytes" in house.read()
    house.stores.staged.remove(first, "node")
    with pytest.raises(RequestExpired):
        house.read()
    assert house.submit().states == (QUEUED,)


def evict(house):
    Janitor("node", house.area, house.stores, SpaceSettings(high_bytes=1, low_bytes=0), house.clock).tidy()
    assert not list(house.stores.staged.on_node("node"))


def test_what_is_evicted_while_it_is_sent_is_sent_to_the_end(house, series):
    publish(house, series)
    whole = house.read()
    with house.files.open(who(), TAR) as file:
        pieces = read_bytes(file, 0, file.size_bytes, 100)
        begun = next(pieces)
        evict(house)
        assert begun + b"".join(pieces) == whole
    with pytest.raises(RequestExpired):
        house.read()


def test_what_is_gone_before_all_of_it_is_open_must_be_asked_for(house, series):
    publish(house, series)
    gc.collect()
    before_count = len(list(DESCRIPTORS.iterdir()))
    house.area.remove(StagedName(list(series)[-1], 1))
    with pytest.raises(RequestExpired):
        house.read()
    assert len(list(DESCRIPTORS.iterdir())) <= before_count


def test_no_identity_has_all_descriptors_and_none_are_lost(house, series):
    publish(house, series)
    house.files._descriptors = turns = Turns(8)
    with house.files.open(who(), TAR):
        assert not turns.full_for("/CN=Alice")
        with pytest.raises(Overloaded):
            house.files.open(who(), TAR)
        assert house.files.open(who(), SitePath(f"{TAR}.manifest")).size_bytes
    assert house.read()
    house.area.remove(StagedName(next(iter(series)), 1))
    with pytest.raises(RequestExpired):
        house.read()
    assert turns.take("/CN=Alice", count=4)


def test_a_process_without_descriptors_loses_none(house, series, monkeypatch):
    """What is not a file's own, between and behind the files, needs one too, when all of them are open."""
    publish(house, series)
    house.files._descriptors = turns = Turns(8)
    gc.collect()
    before_count = len(list(DESCRIPTORS.iterdir()))

    def scarce(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", scarce)
    with pytest.raises(OSError, match="Too many"):
        house.files.open(who(), TAR)
    assert len(list(DESCRIPTORS.iterdir())) <= before_count
    assert turns.take("/CN=Alice", count=4)


def test_files_on_two_nodes_are_no_one_file(house, series):
    first, second, third = series
    for guid, node in ((first, "node"), (second, "other"), (third, "other")):
        house.publish(guid, series[guid], node=node)
    file = house.submit().files[0]
    assert (file.state, file.turl) == (FAILED, None)
    assert "several nodes" in file.failure.message


@pytest.mark.parametrize(("objects_a_day", "paid"), [(3, True), (2, False)])
def test_every_file_is_paid_for_and_named_in_the_log(tmp_path, objects_a_day, paid):
    house = House(tmp_path, objects_a_day)
    series = {house.add(called): b"x" for called in "abc"}
    publish(house, series)
    with nullcontext() if paid else pytest.raises(BudgetExhausted):
        house.read()
    (released,) = [event for event in house.events() if event.action is Action.BYTES_RELEASED]
    assert set(released.objects) == {TAR, *series}


def test_no_descriptor_is_left_open(house, series):
    publish(house, series)
    gc.collect()  # what tests before have left may go at any time
    before_count = len(list(DESCRIPTORS.iterdir()))
    house.read(0, 2000)
    with house.files.open(who(), TAR) as file:
        next(iter(read_bytes(file, 600, 2000, 10)))
    assert len(list(DESCRIPTORS.iterdir())) <= before_count
