"""How a file comes to be: the saga walked, broken off and walked again, against real rows."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from peewee import OperationalError

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Areas
from srm_dicom.broker.names import Names
from srm_dicom.client.destroying import Destruction
from srm_dicom.db.database import Database
from srm_dicom.errors import (
    CatalogueUnavailable,
    KeyServerUnavailable,
    NotAuthorised,
    NotFound,
    NotSupported,
    Overloaded,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath
from srm_dicom.plugin.api import Discovered, Patient
from srm_dicom.registry.destruction import Destroyer, Destructions
from srm_dicom.registry.erasure import Erasure
from srm_dicom.registry.journal import Arrival, Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.registrar import SERVICE, Feed, Registrar, RegistrarSettings, arrivals
from srm_dicom.registry.saga import Catalogues, Saga
from srm_dicom.registry.unregistering import Unregistering
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.store.requests import FileState
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url

NOW = datetime(2026, 11, 21, 12, 17, 30, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")
SECRET = "CANARY^ALICE"
PATIENT = "CANARY-4711"


@dataclass
class Keys:
    endpoints: tuple[str, ...] = ("a", "b", "c")
    registered: dict = field(default_factory=dict)
    removed: list = field(default_factory=list)
    destroyed: dict = field(default_factory=dict)
    down: bool = False
    silent: bool = False

    def register(self, records, acl):
        if self.down:
            raise KeyServerUnavailable("b does not answer")
        self.registered[records[0].charter.key_id] = (records, acl)

    def remove(self, key_id):
        self.removed.append(key_id)

    def destroy(self, halves):
        if self.silent:
            return dict.fromkeys(halves, Destruction(3, failures=dict.fromkeys(self.endpoints, "down")))
        self.destroyed.update(halves)
        told = Destruction(2, described=True, confirmed=frozenset(self.endpoints), failures={})
        return dict.fromkeys(halves, told)


@dataclass
class Files:
    records: dict = field(default_factory=dict)
    down: bool = False

    def register(self, records):
        if self.down:
            raise CatalogueUnavailable("the file catalogue does not answer")
        self.records.update((record.guid, record) for record in records)

    def unregister(self, references):
        if self.down:
            raise CatalogueUnavailable("the file catalogue does not answer")
        for reference in references:
            self.records.pop(reference.removeprefix("guid:"), None)


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

    def remove(self, collection, guids):
        assert collection in self.ends
        for guid in guids:
            self.entries.pop(guid, None)


class Knowing:
    """A plugin that knows one patient, whose files are below ``p``."""

    def patient_path(self, patient, release):
        return ("p" if (patient.id, patient.issuer) == (PATIENT, "HOSPITAL") else "nobody",)


class House:
    def __init__(self, path, level="index"):
        self.path = path
        self.clock = FakeClock(NOW)
        self.stores = Stores.open(database_url(path, "names"))
        self.journal = Journal(Database(database_url(path, "journal")), b"j" * 32)
        self.keys, self.files, self.metadata = Keys(), Files(), Metadata()
        project = Project(
            "heart", "p", "t", "basic", "c", NOW + timedelta(days=99),
            (
                Member(Tag.USER, "/CN=Alice", frozenset({"file", "key", "search", "ingest"})),
                Member(Tag.USER, "/CN=Bob", frozenset({"file", "key", "search"})),
            ),
        )  # fmt: skip
        places, projects = Places("vo", "site", "se.test:8446"), {"heart": project}
        catalogues = Catalogues(self.keys, self.files, [self.metadata], threshold=2)
        saga = Saga(
            places, projects, self.journal, self.stores.namespace,
            catalogues, Ed25519PrivateKey.generate(),
            self.clock, generation=self.stores.unregistrations.generation,
        )  # fmt: skip
        feeds = {"memory": Feed(None, (project,), sealed=True)}
        self.audit = AuditLog(path / "audit", "registrar", "host", self.clock)
        settings = RegistrarSettings(settle_s=60.0, publish_s=3600.0, level=level, batch=2)
        self.destructions = Destructions(Database(database_url(path, "journal")))
        self.destroyer = Destroyer(self.destructions, self.keys, self.audit, self.clock)
        unregistering = Unregistering(
            places, self.stores, self.journal, catalogues, self.destroyer, self.audit, self.clock
        )
        self.registrar = Registrar(
            settings, feeds, self.journal, saga, self.stores.requests, self.audit, self.clock,
            unregister=unregistering.step,
        )  # fmt: skip
        self.erasure = Erasure(
            places,
            self.stores,
            {"memory": Knowing()},
            self.journal,
            unregistering,
            self.destroyer,
            self.audit,
        )
        access = FileAccess(self.stores.namespace, projects, self.audit, self.clock)
        self.names = Names(self.stores, access, Areas(), self.clock)

    def name(self, number):
        return SitePath(f"/vo/mdm/site/heart-v1/p/s/{number}.dcm.c4gh")

    def entry(self, number):
        return self.stores.namespace.find(self.name(number))

    def remove(self, *numbers, by="Alice", limited=False):
        who = Principal(f"/CN={by}", (), limited=limited, expires=NOW + timedelta(days=1))
        return self.names.remove_files(who, [self.name(number) for number in numbers], "srmRm")

    def settle(self):
        self.registrar.step()
        self.destroyer.step()

    def erase(self, patient=PATIENT):
        who = [Patient(patient, "HOSPITAL")]
        return self.erasure.erase(who, self.erasure.find(who), "user:root")

    def arrive(self, *numbers, group="g", patient="p", release=RELEASE):
        found = [
            Discovered(
                guid=Guid(f"00000000-0000-4000-8000-{number:012d}"),
                path=(patient, "s", f"{number}.dcm.c4gh"),
                group=group,
                plugin_ref=b"ref",
                attributes={"Modality": "CT", "Rows": 64, "SliceThickness": 5.0},
                nominative={"PatientName": SECRET},
            )
            for number in numbers
        ]
        self.journal.add([Arrival("memory", release, item) for item in found], self.clock.now())


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


def test_what_comes_again_for_another_patient_keeps_its_name_and_keeps_nobody_waiting(house):
    """As after an archive has merged two patients, or by somebody who would have it so."""
    house.arrive(1)
    house.registrar.step()
    before = house.entry(1), house.metadata.entries[house.entry(1).guid]
    house.arrive(1, 2, patient="q")
    assert house.registrar.step()
    assert house.registrar.pending() == 0
    assert (house.entry(1), house.metadata.entries[house.entry(1).guid]) == before
    assert house.files.records[before[0].guid].lfn.endswith("/p/s/1.dcm.c4gh")
    assert house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/q/s/2.dcm.c4gh")) is not None
    house.arrive(1, patient="r")
    house.registrar.step()
    assert house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/r")) is None


def test_who_tells_of_an_arrival_hears_that_it_cannot_be_written_down_now(house, monkeypatch):
    """An archive sends again what was refused so, and not what broke its association."""

    def locked(*_):
        raise OperationalError("CANARY")

    monkeypatch.setattr(house.journal, "_columns", locked)
    tell = arrivals(house.journal, "memory", [RELEASE], house.clock)[RELEASE]
    with pytest.raises(Overloaded) as caught:
        tell(Discovered(Guid("g"), (), "g", b""))
    assert "CANARY" not in caught.value.message


def test_a_file_that_is_removed_is_forgotten_by_every_catalogue(house):
    house.arrive(1, 2)
    house.registrar.step()
    assert house.remove(1) == [None]
    assert house.entry(1) is None
    house.settle()
    left = {house.entry(2).guid}
    assert set(house.files.records) == set(house.metadata.entries) == left
    assert house.keys.destroyed == {}, "the series has a file left that is sealed to the same key"


def test_the_key_is_destroyed_with_the_last_file_of_its_series(house):
    house.arrive(1, 2)
    house.registrar.step()
    (key_id,) = house.keys.registered
    house.remove(1)
    house.settle()
    house.remove(2)
    house.settle()
    assert set(house.keys.destroyed) == {key_id}
    assert [order.done for order in house.destructions.orders()] == [True]
    assert house.files.records == house.metadata.entries == {}


def test_a_catalogue_that_is_down_is_asked_again(house):
    house.arrive(1)
    house.registrar.step()
    house.remove(1)
    house.files.down = True
    house.settle()
    assert len(house.files.records) == 1
    assert house.keys.destroyed == {}
    house.files.down = False
    house.settle()
    assert len(house.files.records) == 1, "it is left alone for a while"
    house.clock.advance(60)
    house.settle()
    assert house.files.records == {}
    assert len(house.keys.destroyed) == 1


def test_an_order_that_broke_off_is_given_again(house, monkeypatch):
    house.arrive(1)
    house.registrar.step()
    (key_id,) = house.keys.registered
    house.remove(1)

    def cut(_halves):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(house.destroyer, "order", cut)
        with pytest.raises(KeyboardInterrupt):
            house.registrar.step()
    house.settle()
    assert set(house.keys.destroyed) == {key_id}


def test_what_comes_again_is_another_generation_under_another_key(house):
    house.arrive(1)
    house.registrar.step()
    first = house.entry(1)
    house.stores.staged.add([Staged(first.guid, "node", 1, 100)], NOW)
    house.remove(1)
    assert house.stores.staged.find([first.guid]) == {}
    house.settle()
    house.arrive(1)
    house.settle()
    again = house.entry(1)
    assert (again.guid, again.generation) == (first.guid, 2)
    assert again.key_id != first.key_id
    house.remove(1)
    house.arrive(1)
    house.settle()
    assert house.entry(1).generation == 3


def test_what_came_again_before_the_catalogues_were_asked_stays(house):
    house.arrive(1)
    house.registrar.step()
    house.remove(1)
    house.files.down = True
    house.registrar.step()
    house.files.down = False
    house.arrive(1)
    house.registrar.step()
    house.clock.advance(60)
    house.settle()
    guid = house.entry(1).guid
    assert guid in house.files.records
    assert guid in house.metadata.entries
    assert house.keys.destroyed == {}


def test_a_key_that_arrivals_wait_for_is_kept(house):
    house.arrive(1)
    house.registrar.step()
    (key_id,) = house.keys.registered
    house.remove(1)
    house.arrive(2)
    house.settle()
    assert house.entry(2).key_id == key_id
    assert house.keys.destroyed == {}


def test_only_the_right_to_hand_in_removes_and_no_limited_credential(house):
    house.arrive(1)
    house.registrar.step()
    for failed in (house.remove(1, by="Bob"), house.remove(1, limited=True), house.remove(7)):
        assert isinstance(failed[0], NotAuthorised | NotFound)
    assert house.entry(1) is not None


def test_directories_go_when_they_are_empty_and_never_the_release(house):
    house.arrive(1)
    house.registrar.step()
    who = Principal("/CN=Alice", (), limited=False, expires=NOW + timedelta(days=1))
    house.names.remove_directory(who, SitePath("/vo/mdm/site/heart-v1/p"), "srmRmdir", recursive=True)
    house.settle()
    assert house.entry(1) is None
    assert house.files.records == {}
    with pytest.raises(NotAuthorised):
        house.names.remove_directory(who, SitePath("/vo/mdm/site/heart-v1"), "srmRmdir")


def test_nobody_makes_or_changes_names_of_registered_files(house):
    house.arrive(1)
    house.registrar.step()
    who = Principal("/CN=Alice", (), limited=False, expires=NOW + timedelta(days=1))
    with pytest.raises(NotSupported):
        house.names.make_directory(who, SitePath("/vo/mdm/site/heart-v1/p/new"), "srmMkdir")
    with pytest.raises(NotSupported):
        house.names.rename(who, house.name(1), house.name(2), "srmMv")


def test_a_patient_is_found_and_erased_in_every_release_and_nobody_else(house, capsys):
    house.arrive(1, 2)
    house.arrive(3, group="other", patient="q")
    house.arrive(4, group="old", release=Release("heart", "basic", "v0"))
    while house.registrar.step():
        pass
    keys = {house.entry(number).key_id for number in (1, 2)}
    house.stores.staged.add([Staged(house.entry(1).guid, "node", 1, 100)], NOW)
    house.arrive(5)
    who = [Patient(PATIENT, "HOSPITAL")]
    found = house.erasure.find(who)
    old = house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v0/p/s/4.dcm.c4gh"))
    keys.add(old.key_id)
    assert set(found.keys) == keys
    assert {file.guid for file in found.files} == {*(house.entry(n).guid for n in (1, 2)), old.guid}
    assert (found.staged, len(found.arrivals)) == (1, 1)
    erased = house.erase()
    assert erased.done
    assert (erased.files, erased.arrivals, erased.waiting, erased.left) == (3, 1, 0, 0)
    assert {order.key_id for order in erased.orders if order.done} == keys == set(house.keys.destroyed)
    other = house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/q/s/3.dcm.c4gh"))
    assert set(house.files.records) == set(house.metadata.entries) == {other.guid}
    assert house.stores.staged.find([file.guid for file in found.files]) == {}
    assert house.registrar.pending() == 0
    for gone in ("heart-v1/p", "heart-v0/p"):
        assert house.stores.namespace.find(SitePath(f"/vo/mdm/site/{gone}")) is None
    assert not house.erasure.find(who).files
    kept = house.audit.path.read_text() + "".join(capsys.readouterr())
    assert '"operation":"erase"' in kept
    assert not [word for word in (PATIENT, SECRET, "HOSPITAL") if word in kept]


def test_who_has_the_same_id_from_somebody_else_is_another_patient(house):
    house.arrive(1)
    house.registrar.step()
    assert not house.erasure.find([Patient(PATIENT), Patient(PATIENT, "CLINIC")]).files


def test_a_patient_is_shown_nowhere():
    assert PATIENT not in f"{Patient(PATIENT)!r}{Patient(PATIENT)}"


def test_a_key_does_not_wait_for_a_catalogue_and_the_registrar_goes_on(house):
    house.arrive(1, 2)
    house.registrar.step()
    house.files.down = True
    erased = house.erase()
    assert (erased.done, erased.waiting, [order.done for order in erased.orders]) == (False, 2, [True])
    assert house.entry(1) is None
    house.files.down = False
    house.clock.advance(60)
    house.settle()
    assert house.files.records == {}


def test_an_erasure_is_not_done_before_the_key_servers_say_so(house):
    house.arrive(1)
    house.registrar.step()
    house.keys.silent = True
    erased = house.erase()
    assert (erased.done, erased.waiting, [order.done for order in erased.orders]) == (False, 0, [False])
    house.keys.silent = False
    house.settle()
    assert [order.done for order in house.destructions.orders()] == [True]


def test_a_key_that_somebody_elses_file_has_too_is_told(house):
    """Objects of one series that name two patients."""
    house.arrive(1)
    house.arrive(2, patient="q")
    house.registrar.step()
    key_id = house.entry(1).key_id
    erased = house.erase()
    assert (erased.done, erased.kept, list(erased.orders)) == (False, [key_id], [])
    assert house.keys.destroyed == {}


def test_a_key_without_a_file_goes_with_the_arrivals_that_it_was_made_for(house):
    house.arrive(1)
    group = house.journal.claim(NOW, NOW, 0.0)
    house.journal.intend_key(group, "key", b"p" * 32)
    erased = house.erase()
    assert (erased.arrivals, erased.files, erased.done) == (1, 0, True)
    assert set(house.keys.destroyed) == {"key"}


def test_what_comes_during_an_erasure_is_told(house, monkeypatch):
    house.arrive(1)
    house.registrar.step()
    step = house.destroyer.step
    monkeypatch.setattr(house.destroyer, "step", lambda: (house.arrive(2), step()))
    erased = house.erase()
    assert (erased.done, erased.left) == (False, 1)
