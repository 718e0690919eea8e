"""A registrar over real rows, and catalogues that do as they are told."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Areas
from srm_dicom.broker.names import Names
from srm_dicom.client.destroying import Destruction
from srm_dicom.db.database import Database
from srm_dicom.errors import (
    AlreadyExists,
    CatalogueUnavailable,
    KeyServerUnavailable,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath
from srm_dicom.plugin.api import Discovered, Patient
from srm_dicom.registry.destruction import Destroyer, Destructions
from srm_dicom.registry.erasure import Erasure
from srm_dicom.registry.journal import Arrival, Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.registrar import Feed, Registrar, RegistrarSettings
from srm_dicom.registry.saga import Catalogues, Saga
from srm_dicom.registry.unregistering import Unregistering
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
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
        for record in records:
            if self.records.setdefault(record.guid, record).key_id != record.key_id:
                raise AlreadyExists("the name is taken by another file or key")

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
        for guid in guids if collection in self.ends else ():
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
                Member(Tag.USER, "/CN=Carol", frozenset({"write"})),
            ),
        )  # fmt: skip
        places, projects = Places("vo", "site", "se.test:8446"), {"heart": project}
        catalogues = Catalogues(self.keys, self.files, [self.metadata], threshold=2)
        saga = Saga(
            places, projects, self.journal, self.stores.namespace,
            catalogues, Ed25519PrivateKey.generate(),
            self.clock, generation=self.stores.unregistrations.generation,
        )  # fmt: skip
        feeds = {"memory": Feed(None, ("heart",), projects, sealed=True)}
        self.audit = AuditLog(path / "audit", "registrar", "host", self.clock)
        settings = RegistrarSettings(settle_s=60.0, publish_s=3600.0, level=level, batch=2)
        self.destructions = Destructions(Database(database_url(path, "journal")))
        self.destroyer = Destroyer(self.destructions, self.keys, self.audit, self.clock)
        self.unregistering = unregistering = Unregistering(
            places, self.stores, self.journal, catalogues, self.destroyer, self.audit, self.clock
        )
        self.registrar = Registrar(
            settings, feeds, self.journal, saga, self.stores.requests, self.audit, self.clock,
            unregistering=unregistering,
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
        self.projects = projects
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

    def arrive(self, *numbers, group="g", patient="p", release=RELEASE, ref=b"ref"):
        found = [
            Discovered(
                guid=Guid(f"00000000-0000-4000-8000-{number:012d}"),
                path=(patient, "s", f"{number}.dcm.c4gh"),
                group=group,
                plugin_ref=ref,
                attributes={"Modality": "CT", "Rows": 64, "SliceThickness": 5.0},
                nominative={"PatientName": SECRET},
            )
            for number in numbers
        ]
        self.journal.add([Arrival("memory", release, item) for item in found], self.clock.now())


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture
def make_house(tmp_path):
    """Return a function that makes a house with settings of its own."""
    return lambda **settings: House(tmp_path, **settings)
