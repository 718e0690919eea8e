"""A whole site in one process: every door's operations over one project, one that has ended, eight roles."""

from __future__ import annotations

import io
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mdm_files.application import FileCatalogueApplication
from mdm_files.settings import FileCatalogueSettings
from mdm_files.tree import Tree
from mdm_keys.access import Access as KeyAccess
from mdm_keys.ledger import DestructionLedger
from mdm_keys.service import KeyService
from mdm_keys.store import KeyStore
from mdm_metadata.commands import Session
from mdm_metadata.dispatch import Dispatcher
from mdm_metadata.settings import MetadataSettings
from mdm_metadata.tree import Collections
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Area, Areas, inherited
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.spaces import SpaceWish
from srm_dicom.broker.views import FileState, PutWish, RequestKind, Wish
from srm_dicom.crypto import keyrecord
from srm_dicom.crypto.signing import trusting
from srm_dicom.db.database import Database
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, join
from srm_dicom.registry.policy import shared_acl
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Received
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.delegations import Delegations
from srm_dicom.transfer.files import OpenedFile
from srm_dicom.transfer.intake import Intake
from srm_dicom.transfer.mover import Moved, Remote
from srm_dicom.transfer.performer import Performer
from srm_dicom.transfer.progress import Progress
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.storing import Line
from srm_dicom.transfer.tape import TapeApi, TapeSettings
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.transfer.written import WrittenFilesOfNode
from srm_dicom.turns import Turns
from srm_dicom.wire import names as wire
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.verbs import TABLE
from srm_dicom.wire.hydra.contract import SharedKey
from srm_dicom.wire.hydra.permissions import permission_of
from srm_dicom.wire.tape import CALLS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CONTENT = b"sealed" * 1000
RIGHTS: Mapping[str, tuple[str, ...]] = {
    "replica": ("file",),
    "finder": ("search",),
    "researcher": ("file", "key", "search", "write"),
    "physician": ("file", "key", "search", "nominative"),
}
ROLES = ("nobody", "replica", "finder", "researcher", "limited", "physician", "admin", "former", "emergency")
"""A limited proxy, an administrator, a member of a project that has ended, and one who has broken the glass,
beside those whom rights make."""


AREA = SitePath("/vo/data")


def principal(name: str, *, limited: bool = False) -> Principal:
    return Principal(f"/DC=test/CN={name}", (), limited, NOW + timedelta(days=1))


@dataclass(frozen=True)
class Objects:
    """What belongs to one project; `hidden` is a name beside `file` that does not exist."""

    project: str
    directory: SitePath
    file: SitePath
    guid: Guid
    key_id: str
    collection: SitePath

    @property
    def surl(self) -> str:
        return f"srm://localhost:8446{self.file}"

    @property
    def lfn(self) -> str:
        return f"/grid{self.file}"

    @property
    def entry(self) -> str:
        return f"{self.collection}/{self.guid}"


class Arrived:
    """A mover whose other side is everywhere and takes everything."""

    def check(self, remote: Remote) -> None:
        pass

    def push(self, file: OpenedFile, _remote: Remote, _progress: Progress) -> Moved:
        return Moved(file.size_bytes, "", verified=True)


class House:
    """One site; `roles` gives the caller of a role, `objects` what that role is about."""

    def __init__(self, directory: Path, patience: Patience | None = None) -> None:
        self.clock = FakeClock(NOW)
        self.directory = directory
        self.audit = AuditLog(directory / "audit", "house", "here", self.clock)
        self.signing_key = Ed25519PrivateKey.generate()
        self.sites = trusting(self.signing_key.public_key())
        self.roles = {name: principal(name) for name in (*RIGHTS, "nobody", "admin", "former")}
        self.roles["emergency"] = replace(principal("doctor"), emergency=True)
        self.roles["limited"] = Principal(self.roles["researcher"].dn, (), True, NOW + timedelta(days=1))
        members = tuple(
            Member(Tag.USER, self.roles[name].dn, frozenset(rights))  # type: ignore[arg-type]
            for name, rights in RIGHTS.items()
        )
        former = Member(Tag.USER, self.roles["former"].dn, frozenset(RIGHTS["physician"]))  # type: ignore[arg-type]
        self.projects = {
            "heart": self._project("heart", members, NOW + timedelta(days=30)),
            "old": self._project("old", (former,), NOW + timedelta(seconds=1)),
        }
        self._open(patience or Patience())
        self.heart, self.old = (self._fill(project) for project in self.projects.values())
        self.clock.advance(3600)

    def objects(self, role: str) -> Objects:
        return self.old if role == "former" else self.heart

    def close(self) -> None:
        for database in (self.stores.database, self.keys_db, self.files_db, self.metadata_db):
            database.close()
        self.audit.close()

    # --- doors -----------------------------------------------------------------------------------

    def ftp(self, verb: str, argument: str, caller: Principal) -> list[Reply]:
        """Do what a verb does, for a caller who has logged in; the replies that it gets."""
        dialogue = Dialogue(lambda: None)  # type: ignore[arg-type,return-value]
        dialogue.acceptor = SimpleNamespace(principal=caller, delegated=None, end_entity=b"")  # type: ignore[assignment]
        dialogue.directory = self.heart.directory
        dialogue.renaming = join(AREA, "file") if verb == "RNTO" else None
        answer = TABLE[verb].handler(dialogue, argument)
        if isinstance(answer, Reply):
            return [answer]
        replies: list[Reply] = []
        session = SimpleNamespace(dialogue=dialogue, reply=replies.append)
        performer = Performer(
            session,  # type: ignore[arg-type]
            self.served,
            self.written,
            Wire(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            self.clock,
            Line(replies.append, _nothing, _nothing),
            sums=Turns(1),
        )
        performer.perform(answer)
        return replies

    def https(self, method: str, path: str, caller: Principal) -> tuple[str, Any, bytes]:
        """Ask the HTTPS door; status, headers and body."""
        environ = {
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "REQUEST_METHOD": method,
            "HTTP_DEPTH": "0",
            "HTTP_DESTINATION": f"{AREA}/{uuid.uuid4()}" if method == "MOVE" else "https://elsewhere/x",
            "HTTP_CREDENTIAL": "none",
            "srm_dicom.principal": caller,
            "wsgi.input": io.BytesIO(b""),
        }
        head: list[Any] = []
        content = b"".join(self.webdav(environ, lambda *args: head.append(args)))  # type: ignore[arg-type,return-value]
        return *head[0][:2], content

    def tape(self, name: str, path: str, caller: Principal, token: str = "") -> tuple[str, bytes]:
        """Call the Tape REST API about a file; status and body."""
        call = CALLS[name]
        body = {"files": [{"path": path}]} if name == "stage" else {"paths": [path]}
        environ = {
            "PATH_INFO": call.path.replace("{id}", token or getattr(self, "token", "")),
            "REQUEST_METHOD": call.method,
            "srm_dicom.principal": caller,
            "wsgi.input": io.BytesIO(msgspec.json.encode(body)),
        }
        head: list[Any] = []
        content = b"".join(self.tape_api(environ, lambda *args: head.append(args)))  # type: ignore[arg-type,return-value]
        return head[0][0], content

    def names(self, call: str, request: wire.Message, caller: Principal) -> Any:
        """Call the file catalogue through its HTTPS edge; the answer as plain values."""
        body = msgspec.json.encode(request)
        environ = {
            "PATH_INFO": f"/v1/{call}",
            "REQUEST_METHOD": "POST",
            "srm_dicom.principal": caller,
            "wsgi.input": io.BytesIO(body),
        }
        head: list[Any] = []
        content = b"".join(self.catalogue(environ, lambda *args: head.append(args)))  # type: ignore[arg-type,return-value]
        return head[0][0], msgspec.json.decode(content)

    def command(self, caller: Principal, *lines: list[str]) -> list[bytes]:
        """Say commands to the metadata server in one session; the bytes that it answers."""
        session: Session = self.dispatcher.session(caller)
        return [self.dispatcher.answer(session, caller, words).data for words in lines]

    # --- writing ---------------------------------------------------------------------------------

    area_path = AREA

    @property
    def area_surl(self) -> str:
        return f"srm://localhost:8446{AREA}"

    def fill_area(self) -> None:
        """Let the researcher have a file and an empty directory where project members write."""
        acl = inherited(self.projects["heart"].area_acl(), directory=True)
        release, owner = Release("heart", "basic", "v1"), self.roles["researcher"].dn
        self.stores.namespace.make_directory(AREA, self.projects["heart"].area_acl(), NOW, release)
        for name, kind in (("file", Kind.FILE), ("directory", Kind.DIRECTORY)):
            if self.stores.namespace.find(join(AREA, name)) is None:
                guid = Guid(str(uuid.uuid4())) if kind is Kind.FILE else None
                entry = Entry(join(AREA, name), kind, owner, acl, NOW, guid, release, plugin="disk")
                self.stores.namespace.add_file(entry)

    def own_put(self) -> str:
        """Let the researcher put a file of which every byte is here."""
        self.fill_area()
        researcher = self.roles["researcher"]
        self.broker.names.remove_files(researcher, [join(AREA, "put")], "srmRm")
        wish = PutWish(RequestKind.PUT, (f"{self.area_surl}/put",))
        token = self.broker.puts.submit(researcher, wish).token
        (upload,) = self.stores.uploads.of_request(token).values()
        self.stores.uploads.received(upload.name, Received(0, "00000001"))
        return token

    def own_copy(self) -> str:
        """Let the researcher copy a file."""
        self.fill_area()
        source, target = f"{self.area_surl}/file", f"{self.area_surl}/{uuid.uuid4()}"
        wish = PutWish(RequestKind.COPY, (target,), sources=(source,))
        return self.broker.copies.submit(self.roles["researcher"], wish).token

    def own_space(self, description: str) -> str:
        """Let the researcher have a space, and a file in it."""
        self.fill_area()
        researcher = self.roles["researcher"]
        for token in self.broker.spaces.tokens(researcher, None):
            self.broker.spaces.release(researcher, token, force=True)
        wish = SpaceWish(size_bytes=1000, policy="REPLICA", description=description)
        token = self.broker.spaces.reserve(researcher, wish).space.token
        self.broker.spaces.move_files(researcher, [f"{self.area_surl}/file"], token)
        return token

    def own_waiting(self, state: FileState) -> str:
        """Let the researcher have a request whose file is in a state."""
        wish = Wish(RequestKind.GET, (self.heart.surl,))
        token = self.broker.submit(self.roles["researcher"], wish).token
        files = self.stores.requests.files(token)
        self.stores.requests.move([file.id for file in files], tuple(FileState), state)
        return token

    # --- filling ---------------------------------------------------------------------------------

    def _open(self, patience: Patience) -> None:
        here, clock = self.directory, self.clock
        self.stores = Stores.open(database_url(here, "names"))
        self.area = ScratchArea(here / "scratch")
        access = FileAccess(self.stores.namespace, self.projects, self.audit, clock, Guesses(patience, clock))
        self.broker = Broker(
            BrokerSettings("localhost:8446", {"node": {"gsiftp": "gsiftp://localhost:2811"}}),
            self.stores,
            access,
            clock,
            Areas([Area(AREA, "disk", Release("heart", "basic", "v1"))]),
        )
        self.served = StagedFilesOfNode("node", self.area, self.stores, access, self.audit, clock)
        settings = CopySettings("https://localhost:8443", here)
        copies = Copies(self.served, Arrived(), Delegations(clock), settings, clock)  # type: ignore[arg-type]
        self.written = WrittenFilesOfNode(self.area, self.broker.puts, self.broker.names)
        writes = Writes(self.served, self.written)
        self.webdav = WebDavDoor(self.served, more={**writes.handlers, **copies.handlers})
        self.tape_api = TapeApi(self.broker, TapeSettings("here", "https://localhost:8443"))
        admin = self.roles["admin"].dn
        self.intake = Intake(self.area, [admin], self.audit)
        self.keys_db = Database(database_url(here, "keys"))
        self.key_store = KeyStore(self.keys_db)
        key_access = KeyAccess(self.key_store, self.audit, frozenset({admin}), Guesses(patience, clock))
        ledger = DestructionLedger(here / "keys.destroyed")
        self.keys = KeyService(self.key_store, key_access, self.sites, clock, ledger)
        self.files_db = Database(database_url(here, "files"))
        self.catalogue = FileCatalogueApplication(
            FileCatalogueSettings("", registrars=(admin,), misses_per_minute=patience.misses),
            self.files_db,
            self.audit,
            clock,
        )
        self.tree = Tree(self.files_db)
        self.metadata_db = Database(database_url(here, "metadata"))
        self.dispatcher = Dispatcher(
            Collections(self.metadata_db),
            MetadataSettings("", registrars=(admin,), misses_per_minute=patience.misses),
            self.audit,
            clock,
        )

    def _project(self, name: str, members: tuple[Member, ...], end: datetime) -> Project:
        return Project(name, "permit", "test", "basic", "consent", end, members)

    def _fill(self, project: Project) -> Objects:
        top = SitePath(f"/vo/mdm/here/{project.id}-v1")
        directory = SitePath(f"{top}/p1/s1")
        guid = Guid(f"00000000-0000-4000-8000-{'1' if project.id == 'heart' else '2':0>12}")
        shares, public_key = self.key(project.valid_until)
        key_id = shares[0].item
        made = Objects(
            project.id,
            directory,
            SitePath(f"{directory}/i1.dcm.c4gh"),
            guid,
            key_id,
            SitePath(f"/mdm/here/{project.id}/image"),
        )
        self._fill_storage(project, made, public_key)
        admin = self.roles["admin"]
        self.keys.put_keys(admin, shares[:1], permission_of(project.key_acl()))
        self._fill_names(project, made, public_key)
        self._fill_metadata(project, made)
        return made

    def key(self, end: datetime) -> tuple[list[SharedKey], bytes]:
        """Make a key: the records of three servers, and its public half."""
        private = X25519PrivateKey.generate()
        records = keyrecord.issue(
            private.private_bytes_raw(),
            k=2,
            n=3,
            valid_until=end,
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
        )
        shares = [
            SharedKey(one.charter.key_id, one.share.index, one.share.data.hex(), one.charter.text)
            for one in records
        ]
        return shares, private.public_key().public_bytes_raw()

    def _fill_storage(self, project: Project, made: Objects, public_key: bytes) -> None:
        release = Release(project.id, "basic", "v1")
        names = self.stores.namespace
        names.make_directory(SitePath("/vo/mdm/here"), shared_acl(self.projects.values()), NOW)
        names.make_directory(made.directory, project.directory_acl(), NOW, release)
        names.add_file(
            Entry(
                made.file, Kind.FILE, "", project.file_acl(), NOW, made.guid, release,
                Facts(len(CONTENT), "00000001", "{}"), key_id=made.key_id, public_key=public_key,
                plugin="memory",
            )
        )  # fmt: skip
        incoming = self.area.begin()
        incoming.write(CONTENT)
        incoming.finish()
        self.area.publish([(StagedName(made.guid, 1), incoming.id)])
        self.stores.staged.add([Staged(made.guid, "node", 1, len(CONTENT))], NOW)

    def _fill_names(self, project: Project, made: Objects, public_key: bytes) -> None:
        record = wire.FileRecord(
            made.lfn, made.guid, (made.surl,), public_key.hex(), made.key_id, str(project.file_acl())
        )
        status, answer = self.names("register", wire.Register((record,)), self.roles["admin"])
        assert (status, answer["outcomes"][0]["status"]) == ("200 OK", "done"), answer

    def _fill_metadata(self, project: Project, made: Objects) -> None:
        parents = [f"/mdm{rest}" for rest in ("", "/here", f"/here/{project.id}")]
        acl = ",".join(str(entry) for entry in project.metadata_acl().entries)
        where = str(made.collection)
        answers = self.command(
            self.roles["admin"],
            *(["createdir", path, "plain"] for path in (*parents, where)),
            ["addattr", where, "Modality", "varchar(16)"],
            ["addnominative", where, "PatientName", "varchar(64)"],
            ["addentry", made.entry, "Modality", "CT", "PatientName", "Doe"],
            ["setacl", where, acl],
            ["setvalidity", where, project.valid_until.isoformat()],
        )
        assert all(answer.startswith(b"0") for answer in answers[-5:]), answers


class Wire:
    """A data port whose connections take everything and bring nothing."""

    def open(self, *_: Any) -> list[Any]:
        return [SimpleNamespace(send=_nothing, send_file=_nothing, receive_into=lambda *_: 0, close=_nothing)]

    def keep(self, *_: Any) -> None:
        return

    def listen(self, *_: Any) -> Any:
        return SimpleNamespace(host="127.0.0.1", port=1)

    def aim(self, *_: Any) -> None:
        return


def _nothing(*_: Any, **__: Any) -> None:
    return


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for tests that change nothing; guessing is free in it."""
    made = House(tmp_path_factory.mktemp("house"), Patience(misses=0))
    yield made
    made.close()


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Return a function that makes houses with settings of their own."""
    houses: list[House] = []

    def make(**settings: Any) -> House:
        houses.append(House(tmp_path / str(len(houses)), **settings))
        return houses[-1]

    yield make
    for made in houses:
        made.close()


@pytest.fixture
def roles() -> tuple[str, ...]:
    return ROLES
