"""How a file comes to be: the saga walked, broken off and walked again, against real rows."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.log import AuditLog
from srm_dicom.db.database import Database
from srm_dicom.errors import CatalogueUnavailable, KeyServerUnavailable
from srm_dicom.ids import Guid, SitePath
from srm_dicom.plugin.api import Discovered
from srm_dicom.registry.journal import Arrival, Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.registrar import SERVICE, Feed, Registrar, RegistrarSettings
from srm_dicom.registry.saga import Catalogues, Saga
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.store.requests import FileState
from srm_dicom.store.stores import Stores
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url

NOW = datetime(2026, 11, 21, 12, 17, 30, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")
SECRET = "CANARY^ALICE"


@dataclass
class Keys:
    endpoints: tuple[str, ...] = ("a", "b", "c")
    registered: dict = field(default_factory=dict)
    removed: list = field(default_factory=list)
    down: bool = False

    def register(self, records, acl):
        if self.down:
            raise KeyServerUnavailable("b does not answer")
        self.registered[records[0].charter.key_id] = (records, acl)

    def remove(self, key_id):
        self.removed.append(key_id)


@dataclass
class Files:
    records: dict = field(default_factory=dict)
    down: bool = False

    def register(self, records):
        if self.down:
            raise CatalogueUnavailable("the file catalogue does not answer")
        self.records.update((record.guid, record) for record in records)


@dataclass
class Metadata:
    entries: dict = field(default_factory=dict)
    ends: dict = field(default_factory=dict)

    def set_acl(self, collection, acl):
        self.acl = acl

    def set_valid_until(self, collection, end):
        self.ends[collection] = end

    def register(self, collection, schema, entries):
        self.schema = {spec.name: (spec.type, spec.group) for spec in schema}
        self.entries.update((entry.guid, entry) for entry in entries)


class House:
    def __init__(self, path, level="index"):
        self.path = path
        self.clock = FakeClock(NOW)
        self.stores = Stores.open(database_url(path, "names"))
        self.journal = Journal(Database(database_url(path, "journal")), b"j" * 32)
        self.keys, self.files, self.metadata = Keys(), Files(), Metadata()
        project = Project(
            "heart", "p", "t", "basic", "c", NOW + timedelta(days=99),
            (Member(Tag.USER, "/CN=Alice", frozenset({"file", "key", "search"})),),
        )  # fmt: skip
        saga = Saga(
            Places("vo", "site", "se.test:8446"), {"heart": project}, self.journal, self.stores.namespace,
            Catalogues(self.keys, self.files, [self.metadata], threshold=2), Ed25519PrivateKey.generate(),
            self.clock,
        )  # fmt: skip
        feeds = {"memory": Feed(None, (project,), sealed=True)}
        self.audit = AuditLog(path / "audit", "registrar", "host", self.clock)
        settings = RegistrarSettings(settle_s=60.0, publish_s=3600.0, level=level, batch=2)
        self.registrar = Registrar(
            settings, feeds, self.journal, saga, self.stores.requests, self.audit, self.clock
        )

    def arrive(self, *numbers, group="g"):
        found = [
            Discovered(
                guid=Guid(f"00000000-0000-4000-8000-{number:012d}"),
                path=("p", "s", f"{number}.dcm.c4gh"),
                group=group,
                plugin_ref=b"ref",
                attributes={"Modality": "CT", "Rows": 64, "SliceThickness": 5.0},
                nominative={"PatientName": SECRET},
            )
            for number in numbers
        ]
        self.journal.add([Arrival("memory", RELEASE, item) for item in found], self.clock.now())


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_a_group_is_registered_everywhere_under_one_key(house):
    house.arrive(1, 2, 3)
    assert house.registrar.step()
    assert not house.registrar.step()
    assert house.registrar.pending() == 0
    ((key_id, (records, _)),) = house.keys.registered.items()
    assert {record.charter.project for record in records} == {"heart"}
    paths = [SitePath(f"/vo/mdm/site/heart-v1/p/s/{number}.dcm.c4gh") for number in (1, 2, 3)]
    entries = house.stores.namespace.find_many(paths)
    assert {entry.key_id for entry in entries.values()} == {key_id}
    assert all(entry.facts is None and entry.shown_at.day == 1 for entry in entries.values())
    assert len(house.files.records) == len(house.metadata.entries) == 3
    record = house.files.records["00000000-0000-4000-8000-000000000001"]
    assert record.lfn == "/grid/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh"
    assert record.surls == ("srm://se.test:8446/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh",)
    assert house.metadata.schema["PatientName"] == ("text", "nominative")
    assert house.metadata.schema["SliceThickness"] == ("float", "search")


def test_a_saga_that_broke_is_walked_again_with_the_same_key(house):
    house.arrive(1)
    house.files.down = True
    house.registrar.step()
    assert house.registrar.pending() == 1
    assert not house.registrar.step(), "it is left alone for a while"
    house.files.down = False
    house.clock.advance(60)
    house.registrar.step()
    assert house.registrar.pending() == 0
    assert len(house.keys.registered) == 1
    assert house.keys.removed == []


def test_half_a_key_is_undone_and_made_anew(house):
    house.arrive(1)
    house.keys.down = True
    house.registrar.step()
    assert house.stores.namespace.find(SitePath("/vo")) is None, "nothing has a name before it has a key"
    house.keys.down = False
    house.clock.advance(60)
    house.registrar.step()
    (key_id,) = house.keys.registered
    assert len(house.keys.removed) == 1
    assert house.keys.removed[0] != key_id


def test_files_appear_together_and_not_when_they_came(house):
    house.arrive(1)
    assert not house.registrar.step(house.registrar.settled())
    house.clock.advance(30 * 60)
    assert not house.registrar.step(house.registrar.settled()), "quiet for half an hour, and not yet the hour"
    house.clock.advance(13 * 60)
    assert house.registrar.step(house.registrar.settled())


def test_what_identifies_does_not_lie_in_the_journal(house):
    house.arrive(1)
    stored = b"".join(path.read_bytes() for path in house.path.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored
    assert b"SliceThickness" not in stored


def test_full_registration_is_a_request_of_our_own(tmp_path):
    house = House(tmp_path, level="full")
    house.arrive(1)
    house.registrar.step()
    assert house.stores.requests.counts() == {FileState.QUEUED: 1}
    rows = house.stores.requests.files_of_owner(SERVICE, [SitePath("/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh")])
    assert len(rows) == 1


def test_arrivals_that_come_again_change_nothing(house):
    house.arrive(1)
    house.registrar.step()
    before = house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh"))
    house.arrive(1)
    house.registrar.step()
    assert house.stores.namespace.find(before.path) == before
    assert len(house.keys.registered) == 1
