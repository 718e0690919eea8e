"""Roles by operations: who may do what, as a table, and that every operation makes the check it declares.

A spy sits on the deciders. An operation that declares no right, one that is not in the table, and one
that did not make its check are all failures, so that a new operation cannot be forgotten.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from mdm_files.access import Access as NameAccess
from mdm_files.calls import CALLS
from mdm_keys.access import Access as KeyAccess
from mdm_keys.application import method_name
from mdm_keys.service import KeyService
from mdm_keys.store import HeldShare
from mdm_metadata.access import Access as MetadataAccess
from mdm_metadata.commands import COMMANDS
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker
from srm_dicom.broker.owned import Owned
from srm_dicom.broker.spaces import SpaceAccounts
from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.client.scratch import Piece
from srm_dicom.crypto import keyrecord, reshare, sealing
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.crypto.shamir import Share
from srm_dicom.errors import MdmError, Overloaded
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.declare import Declaration, OpenAccess, Right, declared
from srm_dicom.rights.evaluate import Decision
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.operations import OPERATIONS
from srm_dicom.srm.service import answer
from srm_dicom.srm.types import T, array
from srm_dicom.srm.v1.operations import OPERATIONS as V1_OPERATIONS
from srm_dicom.transfer.intake import Intake, calls
from srm_dicom.wire import names as wire
from srm_dicom.wire.dav.methods import METHODS
from srm_dicom.wire.gridftp.verbs import TABLE as VERBS
from srm_dicom.wire.hydra.contract import OPERATIONS as KEY_OPERATIONS
from srm_dicom.wire.hydra.contract import (
    SCHEMA,
    KeyReference,
    Permission,
    PermissionEntry,
    SealedPieces,
    SharedKey,
    StringPair,
)
from srm_dicom.wire.hydra.contract import Attribute as KeyAttribute
from srm_dicom.wire.hydra.permissions import permission_of
from srm_dicom.wire.tape import CALLS as TAPE_CALLS

# Columns: nobody, replica manager, cohort finder, researcher, the same with a limited proxy, physician,
# administrator (registrar, creator of keys, stager), member of a project that has ended, nobody's member who
# has broken the glass.
MATRIX = """
door     operation                     right         nobody replica finder researcher limited physician admin former emergency

srm      srmLs                         directory:r   .      +       .      +          +       +         .     .       +
srm      srmPrepareToGet               file:r        .      +       .      +          +       +         .     .       +
srm      srmBringOnline                file:r        .      +       .      +          +       +         .     .       +
srm      srmCheckPermission            directory:r   .      +       .      +          +       +         .     .       +
srm      srmGetPermission              directory:r   .      +       .      +          +       +         .     .       +
srm      srmStatusOfGetRequest         request:owner .      .       .      +          +       .         .     .       .
srm      srmReleaseFiles               request:owner .      .       .      +          +       .         .     .       .
srm      srmAbortRequest               request:owner .      .       .      +          +       .         .     .       .
srm      srmStatusOfBringOnlineRequest request:owner .      .       .      +          +       .         .     .       .
srm      srmExtendFileLifeTime         request:owner .      .       .      +          +       .         .     .       .
srm      srmAbortFiles                 request:owner .      .       .      +          +       .         .     .       .
srm      srmGetRequestTokens           request:owner .      .       .      +          +       .         .     .       .
srm      srmGetRequestSummary          request:owner .      .       .      +          +       .         .     .       .
srm      srmPrepareToPut               file:w        .      .       .      +          +       .         .     .       .
srm      srmMkdir                      file:w        .      .       .      +          +       .         .     .       .
srm      srmRmdir                      file:w        .      .       .      +          +       .         .     .       .
srm      srmRm                         file:w        .      .       .      +          +       .         .     .       .
srm      srmMv                         file:w        .      .       .      +          +       .         .     .       .
srm      srmSetPermission              file:p        .      .       .      +          .       .         .     .       .
srm      srmStatusOfPutRequest         request:owner .      .       .      +          +       .         .     .       .
srm      srmPutDone                    request:owner .      .       .      +          +       .         .     .       .
srm      srmCopy                       file:w        .      .       .      +          +       .         .     .       .
srm      srmStatusOfCopyRequest        request:owner .      .       .      +          +       .         .     .       .
srm      srmStatusOfReserveSpaceRequest request:owner .      .       .      +          +       .         .     .       .
srm      srmReleaseSpace               request:owner .      .       .      +          +       .         .     .       .
srm      srmUpdateSpace                request:owner .      .       .      +          +       .         .     .       .
srm      srmStatusOfUpdateSpaceRequest request:owner .      .       .      +          +       .         .     .       .
srm      srmGetSpaceMetaData           request:owner .      .       .      +          +       .         .     .       .
srm      srmGetSpaceTokens             request:owner .      .       .      +          +       .         .     .       .
srm      srmChangeSpaceForFiles        request:owner .      .       .      +          +       .         .     .       .
srm      srmExtendFileLifeTimeInSpace  request:owner .      .       .      +          +       .         .     .       .
srm      srmPurgeFromSpace             request:owner .      .       .      +          +       .         .     .       .
srm      srmSuspendRequest             request:owner .      .       .      +          +       .         .     .       .
srm      srmResumeRequest              request:owner .      .       .      +          +       .         .     .       .

srm1     get                           file:r        .      +       .      +          +       +         .     .       +
srm1     pin                           file:r        .      +       .      +          +       +         .     .       +
srm1     getFileMetaData               directory:r   .      +       .      +          +       +         .     .       +
srm1     mkPermanent                   directory:r   .      +       .      +          +       +         .     .       +
srm1     getEstGetTime                 directory:r   .      +       .      +          +       +         .     .       +
srm1     put                           file:w        .      .       .      +          +       .         .     .       .
srm1     copy                          file:w        .      .       .      +          +       .         .     .       .
srm1     advisoryDelete                file:w        .      .       .      +          +       .         .     .       .
srm1     getRequestStatus              request:owner .      .       .      +          +       .         .     .       .
srm1     setFileStatus                 request:owner .      .       .      +          +       .         .     .       .
srm1     unPin                         request:owner .      .       .      +          +       .         .     .       .

https    GET                           file:r        .      +       .      +          +       +         .     .       +
https    HEAD                          directory:r   .      +       .      +          +       +         .     .       +
https    PROPFIND                      directory:r   .      +       .      +          +       +         .     .       +
https    COPY                          file:r        .      +       .      +          +       +         .     .       +
https    PUT                           file:w        .      .       .      +          +       .         .     .       .
https    DELETE                        file:w        .      .       .      +          +       .         .     .       .
https    MKCOL                         file:w        .      .       .      +          +       .         .     .       .
https    MOVE                          file:w        .      .       .      +          +       .         .     .       .

tape     stage                         file:r        .      +       .      +          +       +         .     .       +
tape     archiveinfo                   directory:r   .      +       .      +          +       +         .     .       +
tape     poll                          request:owner .      .       .      +          +       .         .     .       .
tape     cancel                        request:owner .      .       .      +          +       .         .     .       .
tape     delete                        request:owner .      .       .      +          +       .         .     .       .
tape     release                       request:owner .      .       .      +          +       .         .     .       .

gridftp  RETR                          file:r        .      +       .      +          +       +         .     .       +
gridftp  ERET                          file:r        .      +       .      +          +       +         .     .       +
gridftp  SIZE                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  MDTM                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  MLST                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  MLSD                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  MLSR                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  LIST                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  NLST                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  CKSM                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  CWD                           directory:r   .      +       .      +          +       +         .     .       +
gridftp  CDUP                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  STOR                          file:w        .      .       .      +          +       .         .     .       .
gridftp  STOU                          file:w        .      .       .      .          .       .         .     .       .
gridftp  APPE                          file:w        .      .       .      +          +       .         .     .       .
gridftp  ESTO                          file:w        .      .       .      +          +       .         .     .       .
gridftp  DELE                          file:w        .      .       .      +          +       .         .     .       .
gridftp  MKD                           file:w        .      .       .      +          +       .         .     .       .
gridftp  RMD                           file:w        .      .       .      +          +       .         .     .       .
gridftp  RNFR                          directory:r   .      +       .      +          +       +         .     .       +
gridftp  RNTO                          file:w        .      .       .      +          +       .         .     .       .

keys     getKeys                       key:g         .      .       .      +          .       +         .     .       +
keys     getAttributes                 key:g         .      .       .      +          .       +         .     .       +
keys     listAttributes                key:g         .      .       .      +          .       +         .     +       +
keys     getPermission                 key:p         .      .       .      .          .       .         +     .       .
keys     setPermission                 key:p         .      .       .      .          .       .         +     .       .
keys     createEntry                   keys:create   .      .       .      .          .       .         +     .       .
keys     putKeys                       keys:create   .      .       .      .          .       .         +     .       .
keys     setAttributes                 key:s         .      .       .      .          .       .         +     .       .
keys     clearAttributes               key:s         .      .       .      .          .       .         +     .       .
keys     removeEntry                   key:d         .      .       .      .          .       .         +     .       .
keys     removeKeys                    key:d         .      .       .      .          .       .         +     .       .
keys     describeKeys                  key:s         .      .       .      .          .       .         +     .       .
keys     destroyKeys                   key:d         .      .       .      .          .       .         +     .       .
keys     dealKeys                      key:s         .      .       .      .          .       .         +     .       .
keys     takeKeys                      keys:create   .      .       .      .          .       .         +     .       .
keys     adoptKeys                     keys:create   .      .       .      .          .       .         +     .       .

metadata listattr                      metadata:r    .      .       +      +          +       +         +     .       +
metadata dir                           metadata:r    .      .       +      +          +       +         +     .       +
metadata listentries                   metadata:r    .      .       +      +          +       +         +     .       +
metadata cd                            metadata:r    .      .       +      +          +       +         +     .       +
metadata getattr                       metadata:r    .      .       +      +          +       +         .     .       +
metadata find                          metadata:r    .      .       +      +          +       +         .     .       +
metadata selectattr                    metadata:r    .      .       +      +          +       +         .     .       +
metadata findall                       metadata:r    .      .       +      +          +       +         .     .       +
metadata getattr-nominative            metadata:n    .      .       .      .          .       +         .     .       +
metadata find-nominative               metadata:n    .      .       .      .          .       +         .     .       +
metadata myrights                      metadata:r    .      .       +      +          +       +         +     .       +
metadata createdir                     metadata:p    .      .       .      .          .       .         +     .       .
metadata getvalidity                   metadata:p    .      .       .      .          .       .         +     .       .
metadata setvalidity                   metadata:p    .      .       .      .          .       .         +     .       .
metadata addattr                       metadata:p    .      .       .      .          .       .         +     .       .
metadata addnominative                 metadata:p    .      .       .      .          .       .         +     .       .
metadata acl_show                      metadata:p    .      .       .      .          .       .         +     .       .
metadata acl_add                       metadata:p    .      .       .      .          .       .         +     .       .
metadata acl_remove                    metadata:p    .      .       .      .          .       .         +     .       .
metadata setacl                        metadata:p    .      .       .      .          .       .         +     .       .
metadata addentry                      metadata:w    .      .       .      .          .       .         +     .       .
metadata addentries                    metadata:w    .      .       .      .          .       .         +     .       .
metadata setattr                       metadata:w    .      .       .      .          .       .         +     .       .
metadata updateattr                    metadata:w    .      .       .      .          .       .         +     .       .
metadata upload                        metadata:w    .      .       .      .          .       .         +     .       .
metadata put                           metadata:w    .      .       .      .          .       .         +     .       .
metadata commit                        metadata:w    .      .       .      .          .       .         +     .       .
metadata abort                         metadata:w    .      .       .      .          .       .         +     .       .
metadata rm                            metadata:w    .      .       .      .          .       .         +     .       .
metadata rmdir                         metadata:p    .      .       .      .          .       .         +     .       .

files    lookup                        name:r        .      +       .      +          +       +         +     +       +
files    list                          name:r        .      +       .      +          +       +         +     +       +
files    tree                          name:r        .      +       .      +          +       +         +     +       +
files    getacl                        name:w        .      .       .      .          .       .         +     .       .
files    setacl                        name:w        .      .       .      .          .       .         +     .       .
files    setcomment                    name:w        .      .       .      .          .       .         +     .       .
files    delcomment                    name:w        .      .       .      .          .       .         +     .       .
files    addreplica                    name:w        .      .       .      .          .       .         +     .       .
files    delreplica                    name:w        .      .       .      .          .       .         +     .       .
files    register                      name:w        .      .       .      .          .       .         +     .       .
files    mkdir                         name:w        .      .       .      .          .       .         +     .       .
files    rename                        name:w        .      .       .      .          .       .         +     .       .
files    unregister                    name:w        .      .       .      .          .       .         +     .       .
files    remove                        name:w        .      .       .      .          .       .         +     .       .

intake   incoming                      scratch:w     .      .       .      .          .       .         +     .       .
intake   publish                       scratch:w     .      .       .      .          .       .         +     .       .
intake   read                          scratch:w     .      .       .      .          .       .         +     .       .
"""  # noqa: E501 - a table

MINE = "a request of my own"

OPEN = {
    "srm": {
        *("srmPing", "srmGetTransferProtocols", "srmReserveSpace"),
        *("srmStatusOfLsRequest", "srmStatusOfChangeSpaceForFilesRequest"),
    },
    "srm1": {"ping", "getProtocols", "getEstPutTime"},
    "https": {"OPTIONS", "POST", "PROPPATCH", "LOCK", "UNLOCK"},
    "gridftp": {
        *("AUTH", "ADAT", "USER", "PASS", "QUIT", "NOOP", "FEAT", "HELP", "SYST", "STAT", "SITE", "CCC"),
        *("TYPE", "MODE", "STRU", "PBSZ", "PROT", "DCAU", "OPTS", "REST", "ALLO", "SBUF", "PWD", "ABOR"),
        *("PASV", "EPSV", "SPAS", "PORT", "EPRT", "SPOR"),
    },
    "keys": {
        *("checkPermission", "getVersion", "getSchemaVersion", "getInterfaceVersion", "getServiceMetadata"),
        *("listSchemas", "describeSchema", "query", "createSchema", "addSchemaAttributes"),
        *("removeSchemaAttributes", "dropSchema"),
    },
    "tape": {"discover"},
    "metadata": {"pwd", "whoami", "help"},
    "files": set(),
    "intake": set(),
}
"""Operations that anyone may call who was let in; SRM's unsupported ones beside these."""

REFUSED = {"STOU"}
"""Nobody may, whoever asks, so that nothing is decided."""

CHECKS: dict[Right, set[str]] = {
    Right.FILE_READ: {"file:r"},
    Right.FILE_LIST: {"file:r", "file:x"},
    Right.OWN_REQUEST: {"request:owner"},
    Right.METADATA_SEARCH: {"metadata:r", "metadata:n"},
    Right.METADATA_NOMINATIVE: {"metadata:n"},
}
"""What a decider is asked for a right, where that is not the right's own name."""


@dataclass(frozen=True)
class Row:
    door: str
    operation: str
    right: Right
    cells: dict[str, bool]

    def __str__(self) -> str:
        return f"{self.door}-{self.operation}"

    @property
    def name(self) -> str:
        return self.operation.removesuffix("-nominative")


def parse(table: str) -> list[Row]:
    head, *lines = [line.split() for line in table.splitlines() if line]
    return [
        Row(door, operation, Right(right), dict(zip(head[3:], (cell == "+" for cell in cells), strict=True)))
        for door, operation, right, *cells in lines
    ]


ROWS = parse(MATRIX)


# --- every operation of every door ---------------------------------------------------------------


def operations() -> Iterator[tuple[str, str, Declaration | None]]:
    """Yield every operation that there is, and what it declares."""
    for name, operation in OPERATIONS.items():
        if operation.since is not None:
            yield "srm", name, operation.right
    tables: dict[str, Mapping[str, Any]] = {
        "srm1": V1_OPERATIONS,
        "https": METHODS,
        "tape": TAPE_CALLS,
        "gridftp": VERBS,
        "metadata": COMMANDS,
        "files": CALLS,
    }
    for door, table in tables.items():
        for name, each in table.items():
            yield door, name, each.right
    for name in KEY_OPERATIONS:
        yield "keys", name, declared(getattr(KeyService, method_name(name)))
    for intake_call in calls(Intake(None, (), None)).values():  # type: ignore[arg-type]
        yield "intake", intake_call.__name__, declared(intake_call)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("door", "name", "declaration"), list(operations()))
def test_every_operation_declares_its_right_and_is_in_the_table(
    door: str, name: str, declaration: Declaration | None
) -> None:
    rights = {row.right for row in ROWS if (row.door, row.operation) == (door, name)}
    if isinstance(declaration, OpenAccess):
        assert name in OPEN[door], f"{name} is open to all and not on the list of those"
        assert declaration.reason
        assert not rights
    else:
        assert rights == {declaration}, f"{name} declares {declaration}, the table has {rights}"


def test_the_table_has_nothing_else() -> None:
    known = {(door, name) for door, name, _ in operations()}
    assert {(row.door, row.name) for row in ROWS} <= known
    assert {(door, name) for door, names in OPEN.items() for name in names} <= known


def test_what_srm_does_not_do_is_open_and_refused_to_all(house: Any) -> None:
    for operation in OPERATIONS.values():
        if operation.since is None:
            assert isinstance(operation.right, OpenAccess)
            with pytest.raises(MdmError):
                answer(operation, T[operation.request](), Caller(house.roles["physician"], house.broker))


# --- the spy -------------------------------------------------------------------------------------


@dataclass
class Spy:
    """What the deciders were asked."""

    asked: set[str] = field(default_factory=set)

    def on(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, tell: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def spied(*args: Any, **kwargs: Any) -> Any:
            self.asked.add(tell(*args, **kwargs))
            return real(*args, **kwargs)

        is_static = isinstance(vars(owner)[name], staticmethod)
        monkeypatch.setattr(owner, name, staticmethod(spied) if is_static else spied)

    def made(self, right: Right, *, allowed: bool) -> bool:
        """Tell whether the check of a right was made; a refusal may come from another one of its kind."""
        if allowed:
            return bool(self.asked & CHECKS.get(right, {right.value}))
        kind = right.value.partition(":")[0].replace("directory", "file").removesuffix("s")
        return any(one.partition(":")[0].removesuffix("s") == kind for one in self.asked)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    made = Spy()
    made.on(monkeypatch, FileAccess, "_allows", lambda _s, _p, _e, letter, *_: f"file:{letter}")
    made.on(monkeypatch, FileAccess, "administer", lambda *_: "file:p")
    made.on(monkeypatch, Owned, "request", lambda *_: "request:owner")
    made.on(monkeypatch, Broker, "tokens", lambda *_: "request:owner")
    for name in ("own", "views", "tokens"):
        made.on(monkeypatch, SpaceAccounts, name, lambda *_: "request:owner")
    made.on(monkeypatch, Broker, "summaries", lambda *_: "request:owner")
    made.on(monkeypatch, KeyAccess, "decide", lambda _k, _p, right: right.value)
    made.on(monkeypatch, KeyAccess, "require_creator", lambda *_: "keys:create")
    made.on(monkeypatch, NameAccess, "_may", lambda _s, _n, letter: f"name:{letter}")
    made.on(monkeypatch, NameAccess, "owned", lambda *_: "name:w")
    made.on(monkeypatch, MetadataAccess, "_decide", lambda _s, _c, letter: f"metadata:{letter}")
    made.on(monkeypatch, MetadataAccess, "require_registrar", lambda *_: "metadata:p")
    made.on(monkeypatch, Intake, "_check", lambda *_: "scratch:w")
    return made


# --- calling them --------------------------------------------------------------------------------


def may(house: Any, row: Row, role: str) -> bool:
    """Call an operation as a role; tell whether it did what was asked."""
    caller, objects = house.roles[role], house.objects(role)
    try:
        return DOORS[row.door](house, row.operation, caller, objects)
    except MdmError:
        return False


def srm(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    surls = array("ArrayOfAnyURI", [objects.surl])
    files = array("ArrayOfTGetFileRequest", [T.TGetFileRequest(sourceSURL=objects.surl)])
    token = {"requestToken": house.token} if hasattr(house, "token") else {}
    tokens = array("ArrayOfString", [house.token]) if token else None
    arguments: dict[str, dict[str, Any]] = {
        "srmPrepareToGet": {"arrayOfFileRequests": files},
        "srmBringOnline": {"arrayOfFileRequests": files},
        "srmAbortFiles": {"arrayOfSURLs": surls, **token},
        "srmExtendFileLifeTime": {"arrayOfSURLs": surls, "newPinLifeTime": 9, **token},
        "srmGetRequestTokens": {"userRequestDescription": MINE},
        "srmGetRequestSummary": {"arrayOfRequestTokens": tokens},
        **{key: {"arrayOfSURLs": surls} for key in ("srmLs", "srmCheckPermission", "srmGetPermission")},
        **writing(house, token),
        **spaces(house),
    }
    operation = OPERATIONS[name]
    request = T[operation.request](**arguments.get(name, token))
    try:
        response = answer(operation, request, Caller(caller, house.broker))
    except Overloaded:
        return name == "srmPutDone"  # the file is complete, and waits for the inner zone
    code = response.returnStatus.statusCode
    return code in ("SRM_SUCCESS", "SRM_REQUEST_QUEUED", "SRM_REQUEST_INPROGRESS")


def srm1(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    house.fill_area()
    (number, *_) = house.broker.numbers.of(house.token) if hasattr(house, "token") else (0,)
    file, new = f"{house.area_surl}/file", f"{house.area_surl}/{uuid4()}"
    arguments: dict[str, tuple[Any, ...]] = {
        "get": ([objects.surl], []),
        "getEstGetTime": ([objects.surl], []),
        "put": ([""], [new], [1], [True], []),
        "copy": ([file], [new], [True]),
        "advisoryDelete": ([file],),
        "getRequestStatus": (number,),
        "setFileStatus": (number, number, "Done"),
        "unPin": ([objects.surl], number),
    }
    handler = V1_OPERATIONS[name].handler
    told = handler(Caller(caller, house.broker), *arguments.get(name, ([objects.surl],)))
    return not isinstance(told, dict) or told["state"] != "Failed"


def spaces(house: Any) -> dict[str, dict[str, Any]]:
    """Tell how a space is asked about, and the file that stands in it."""
    space = getattr(house, "token", "")
    files = {"arrayOfSURLs": array("ArrayOfAnyURI", [f"{house.area_surl}/file"])}
    return {
        "srmReleaseSpace": {"spaceToken": space},
        "srmUpdateSpace": {"spaceToken": space, "newLifeTime": 100},
        "srmGetSpaceMetaData": {"arrayOfSpaceTokens": array("ArrayOfString", [space])},
        "srmGetSpaceTokens": {"userSpaceTokenDescription": MINE},
        "srmChangeSpaceForFiles": {"targetSpaceToken": space, **files},
        "srmExtendFileLifeTimeInSpace": {"spaceToken": space, **files},
        "srmPurgeFromSpace": {"spaceToken": space, **files},
    }


def writing(house: Any, token: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Let there be names to write, remove and move, and tell how that is asked for."""
    house.fill_area()
    file, directory = f"{house.area_surl}/file", f"{house.area_surl}/directory"
    put = array("ArrayOfTPutFileRequest", [T.TPutFileRequest(targetSURL=f"{house.area_surl}/{uuid4()}")])
    copy = array(
        "ArrayOfTCopyFileRequest",
        [T.TCopyFileRequest(sourceSURL=file, targetSURL=f"{house.area_surl}/{uuid4()}")],
    )
    return {
        "srmPrepareToPut": {"arrayOfFileRequests": put},
        "srmCopy": {"arrayOfFileRequests": copy},
        "srmMkdir": {"SURL": f"{house.area_surl}/{uuid4()}"},
        "srmRmdir": {"SURL": directory},
        "srmRm": {"arrayOfSURLs": array("ArrayOfAnyURI", [file])},
        "srmMv": {"fromSURL": file, "toSURL": f"{house.area_surl}/{uuid4()}"},
        "srmSetPermission": {"SURL": file, "permissionType": "ADD", "otherPermission": "R"},
        "srmPutDone": {"arrayOfSURLs": array("ArrayOfAnyURI", [f"{house.area_surl}/put"]), **token},
    }


def https(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    house.fill_area()
    path = {
        "PUT": f"{house.area_path}/{uuid4()}",
        "MKCOL": f"{house.area_path}/{uuid4()}",
        "DELETE": f"{house.area_path}/file",
        "MOVE": f"{house.area_path}/file",
    }.get(name, objects.file)
    status, _, _ = house.https(name, path, caller)
    waits = name == "PUT" and status.startswith("503")  # the file is complete, and waits for the inner zone
    return bool(status.startswith("2")) or waits


def tape(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    status, answer = house.tape(name, objects.file, caller)
    if name == "stage":  # each file has an answer of its own
        progress = house.tape("poll", objects.file, caller, msgspec.json.decode(answer)["requestId"])[1]
        return bool(msgspec.json.decode(progress)["files"][0]["state"] != "FAILED")
    if name == "archiveinfo":
        return "locality" in msgspec.json.decode(answer)[0]
    return bool(status.startswith("2"))


def gridftp(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    house.fill_area()
    argument = {
        "ERET": f"P 0 10 {objects.file}",
        "CKSM": f"ADLER32 0 -1 {objects.file}",
        **dict.fromkeys(("MLSD", "MLSR", "LIST", "NLST", "CWD"), objects.directory),
        **dict.fromkeys(("STOR", "APPE", "MKD", "RNTO"), f"{house.area_path}/{uuid4()}"),
        "ESTO": f"A 0 {house.area_path}/{uuid4()}",
        "DELE": f"{house.area_path}/file",
        "RMD": f"{house.area_path}/directory",
    }.get(name, objects.file)
    try:
        replies = house.ftp(name, argument, caller)
    except Overloaded:
        return name in ("STOR", "APPE", "ESTO")  # the file is complete, and waits for the inner zone
    return bool(all(100 <= reply.code < 400 for reply in replies))


def keys(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    shares, _ = house.key(house.projects["heart"].valid_until)
    known = house.key_store.find([objects.key_id])[objects.key_id].shares[0]
    record = [
        KeyAttribute("edskey", known.share.hex().upper()),
        KeyAttribute("edskeyindex", str(known.index)),
        KeyAttribute("edskeycommitments", known.charter),
    ]
    acl = permission_of(Acl.parse('user:"/CN=x":g'))
    arguments: dict[str, tuple[Any, ...]] = {
        "getAttributes": (objects.key_id, []),
        "listAttributes": (objects.key_id,),
        "setPermission": ([PermissionEntry(objects.key_id, acl)],),
        "createEntry": ([StringPair("fresh", SCHEMA)],),
        "putKeys": (shares[:1], Permission()),
        "setAttributes": (objects.key_id, record),
        "clearAttributes": (objects.key_id, ["edskey"]),
        "removeKeys": ([KeyReference(objects.key_id)],),
        "destroyKeys": ([StringPair(objects.key_id, "0" * 64)],),
        **next_generation(house, known),
    }
    method = getattr(house.keys, method_name(name))
    given = method(caller, *arguments.get(name, ([objects.key_id],)))
    return not any(getattr(one, "exception", "") for one in given or ())


def next_generation(house: Any, known: HeldShare) -> dict[str, tuple[Any, ...]]:
    """Arguments of the three steps in which a key server deals a share to itself; what they need is done."""
    charter = Charter.verify(known.charter, house.sites)
    own = house.key_store.own_key(lambda: b"")
    dealers = [index for index in range(1, charter.n + 1) if index != known.index][: charter.k - 1]
    dealt = [Share(known.index, known.share), *(Share(index, secrets.token_bytes(32)) for index in dealers)]
    indices, receiver = [share.index for share in dealt], sealing.public_key_of(own)
    order = reshare.order(charter, 2, indices, [receiver], 1, house.signing_key)
    dealings = [reshare.deal(order, share, secrets.token_bytes).pieces[0] for share in dealt]
    share = reshare.take(order, own, dealings).share
    house.key_store.keep_pending(charter.key_id, 2, share.data)
    adopted = keyrecord.sign_charter(
        charter.key_id,
        generation=2,
        k=1,
        hashes=[keyrecord.share_hash(charter.key_id, 2, share)],
        public_key=charter.public_key,
        valid_until=charter.valid_until,
        signing_key=house.signing_key,
    )
    keys = [SharedKey(charter.key_id, 1, "", adopted.text)]
    pieces = [SealedPieces(order.text, tuple(piece.hex() for piece in dealings))]
    return {"dealKeys": ([order.text],), "takeKeys": (pieces,), "adoptKeys": (keys, Permission())}


def metadata(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    where, entry = str(objects.collection), objects.entry
    upload = ["upload", where, "Modality"]
    put = ["put", objects.guid, "MR"]
    lines: dict[str, list[list[str]]] = {
        "getattr": [["getattr", entry, "Modality"]],
        "find": [["find", where, 'Modality = "CT"']],
        "selectattr": [["selectattr", f"{where}:Modality", ""]],
        "findall": [["findall", "Modality", ""]],
        "getattr-nominative": [["getattr", entry, "PatientName"]],
        "find-nominative": [["find", where, 'PatientName = "Doe"']],
        "createdir": [["createdir", f"{where}/new"]],
        "setvalidity": [["setvalidity", where, "2040-01-01T00:00:00Z"]],
        "addattr": [["addattr", where, "Rows", "int"]],
        "addnominative": [["addnominative", where, "PatientID", "text"]],
        "acl_add": [["acl_add", where, 'user:"/CN=x"', "r"]],
        "acl_remove": [["acl_remove", where, 'user:"/CN=x"']],
        "setacl": [["setacl", where, 'user:"/CN=x":rn']],
        "addentry": [["addentry", f"{where}/new"]],
        "addentries": [["addentries", f"{where}/new"]],
        "setattr": [["setattr", entry, "Modality", "PT"]],
        "updateattr": [["updateattr", entry, "Modality", '"PT"', ""]],
        "upload": [upload, ["commit"]],
        "put": [upload, put, ["commit"]],
        "commit": [upload, put, ["commit"]],
        "abort": [upload, ["abort"]],
        "rm": [["rm", entry]],
        "rmdir": [["rm", f"{where}/*"], ["rmdir", where]],
    }
    answer = house.command(caller, *lines.get(name, [[name, where]]))[-1]
    if name == "abort":  # drops what `upload` began; whoever may not upload has nothing to drop
        return bool(answer.startswith(b"0")) and caller.dn == house.roles["admin"].dn
    nothing = name == "findall" and objects.guid.encode() not in answer
    return bool(answer.startswith(b"0")) and not nothing


def files(house: Any, name: str, caller: Principal, objects: Any) -> bool:
    lfn, above, surl = objects.lfn, objects.lfn.rpartition("/")[0], "srm://elsewhere/x"
    fresh = wire.FileRecord(f"{above}/new", "00000000-0000-4000-8000-00000000000f", (surl,))
    requests: dict[str, wire.Message] = {
        "lookup": wire.Lookup((lfn,)),
        "list": wire.Listing(above),
        "tree": wire.Listing(above),
        "register": wire.Register((fresh,)),
        "unregister": wire.References((lfn,)),
        "remove": wire.References((lfn,)),
        "mkdir": wire.MakeDirectory(f"{above}/new"),
        "rename": wire.Rename(lfn, f"{above}/renamed"),
        "getacl": wire.Reference(lfn),
        "setacl": wire.SetAcl((lfn,), 'user:"/CN=x":r'),
        "setcomment": wire.SetComment(lfn, "seen"),
        "delcomment": wire.Reference(lfn),
        "addreplica": wire.Replica(lfn, surl),
        "delreplica": wire.Replica(lfn, objects.surl),
    }
    status, answer = house.names(name, requests[name], caller)
    items = [*answer.get("items", ()), *answer.get("outcomes", ())]
    changed = all(item.get("status", "done") == "done" for item in items)
    return bool(status == "200 OK") and changed and not any(item.get("error") for item in items)


def intake(house: Any, name: str, caller: Principal, _objects: Any) -> bool:
    incoming = house.area.begin()
    incoming.write(b"uploaded")
    incoming.finish()
    piece = msgspec.json.encode(Piece(incoming.id, 0, 8))
    body = {"publish": b"[]", "read": piece}.get(name, b"sealed")
    getattr(house.intake, name)(caller, io.BytesIO(body))
    return True


DOORS: dict[str, Callable[[Any, str, Principal, Any], bool]] = {
    "srm": srm,
    "srm1": srm1,
    "https": https,
    "tape": tape,
    "gridftp": gridftp,
    "keys": keys,
    "metadata": metadata,
    "files": files,
    "intake": intake,
}


def test_a_check_that_is_not_made_is_found(house: Any, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = next(row for row in ROWS if row.operation == "srmLs")
    monkeypatch.setattr(FileAccess, "_sight", lambda *_: Decision(allowed=True, rule="nobody asked"))
    assert may(house, listing, "nobody")
    assert not spy.made(listing.right, allowed=True)


def test_jobs_fetch_keys_where_the_project_allows_them(house: Any) -> None:
    acl = replace(house.projects["heart"], jobs=True).key_acl()
    house.keys.set_permission(house.roles["admin"], [PermissionEntry(house.heart.key_id, permission_of(acl))])
    row = next(row for row in ROWS if row.operation == "getKeys")
    assert may(house, row, "limited")
    assert may(house, row, "researcher")
    assert not may(house, row, "nobody")


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row: Row, house: Any, roles: tuple[str, ...], spy: Spy) -> None:
    assert tuple(row.cells) == roles
    if row.right is Right.OWN_REQUEST:
        house.token = own_request(house, row.operation)
    found, checked = {}, {}
    for role in sorted(roles, key=lambda role: row.cells[role]):  # who may change it comes last
        if row.cells[role] and row.right is Right.OWN_REQUEST:
            house.token = own_request(house, row.operation)
        spy.asked.clear()
        found[role] = may(house, row, role)
        checked[role] = row.operation in REFUSED or spy.made(row.right, allowed=found[role])
    assert found == row.cells
    assert all(checked.values()), f"not checked for {[role for role in roles if not checked[role]]}"


def own_request(house: Any, operation: str) -> str:
    """Let the researcher make the request that an operation is about; its token."""
    kind = RequestKind.GET if operation.startswith("srm") else RequestKind.BRING_ONLINE
    if "Put" in operation:
        return str(house.own_put())
    if operation == "srmStatusOfCopyRequest":
        return str(house.own_copy())
    if "Space" in operation:
        return str(house.own_space(MINE))
    if operation in ("srmSuspendRequest", "srmResumeRequest"):
        return str(house.own_waiting(FileState.SUSPENDED if "Resume" in operation else FileState.QUEUED))
    kind = RequestKind.BRING_ONLINE if "BringOnline" in operation else kind
    wish = Wish(kind, (house.heart.surl,), description=MINE)
    return str(house.broker.submit(house.roles["researcher"], wish).token)
