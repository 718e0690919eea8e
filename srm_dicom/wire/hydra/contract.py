"""Hydra's ``MetadataCatalog`` contract as data: types, operations, and which error is which exception.

The operations of the published interface stand first; those for many keys at once, ``...Keys``, are ours.
A type is a dataclass whose snake_case fields are lowerCamelCase elements on the wire; a tuple is a list.
`mdm_keys.wsdl` writes the WSDL from this, `messages` reads and writes by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from srm_dicom import errors
from srm_dicom.errors import MdmError

SERVICE = "http://glite.org/wsdl/services/org.glite.data.catalog.service.meta"
TYPES = "http://glite.org/wsdl/services/org.glite.data.catalog"

INTERFACE_VERSION = "1.2.0"
SCHEMA = "eds"
MAX_KEYS_PER_CALL = 10_000
MAX_MESSAGE_CHARS = 500


# --- types ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Perm:
    """Eight permissions, in the order of the published schema."""

    permission: bool = False
    remove: bool = False
    read: bool = False
    write: bool = False
    list: bool = False
    execute: bool = False
    get_metadata: bool = False
    set_metadata: bool = False

    @classmethod
    def of(cls, letters: str | frozenset[str]) -> Perm:
        """Return the permissions of some letters."""
        return cls(*(letter in letters for letter in LETTERS))

    @property
    def letters(self) -> frozenset[str]:
        """The letters of ``pdrwlxgs`` that are granted."""
        granted = (getattr(self, field.name) for field in dataclasses.fields(self))
        return frozenset(letter for letter, is_granted in zip(LETTERS, granted, strict=True) if is_granted)


LETTERS = "pdrwlxgs"


@dataclass(frozen=True, slots=True)
class ACLEntry:
    """One named principal: a DN or an FQAN."""

    principal_perm: Perm = Perm()
    principal: str = ""


@dataclass(frozen=True, slots=True)
class BasicPermission:
    """Owner, group and everybody else."""

    user_name: str = ""
    group_name: str = ""
    user_perm: Perm = Perm()
    group_perm: Perm = Perm()
    other_perm: Perm = Perm()


@dataclass(frozen=True, slots=True)
class Permission(BasicPermission):
    """Base permissions and named principals."""

    acl: tuple[ACLEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class PermissionEntry:
    """The permission of one key."""

    item: str = ""
    permission: Permission = Permission()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One field of a key's record."""

    name: str = ""
    value: str = ""
    type: str = "string"


@dataclass(frozen=True, slots=True)
class StringPair:
    """A key id and the name of a schema."""

    string1: str = ""
    string2: str = ""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A bulk call's record: a share (hex), and what the registering site signed about all shares."""

    item: str = ""
    index: int = 0
    share: str = ""
    charter: str = ""


@dataclass(frozen=True, slots=True)
class KeyReference:
    """A key, or with a generation other than 0 only that generation of it."""

    item: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What became of one key of a bulk call.

    Attributes:
        exception: empty when it went well.
        message: the words of the exception.
        is_new: the call has added something that was not there.
        keys: the newest generation first: what `getKeys` releases; without their shares what
            `describeKeys` tells, and what `destroyKeys` has destroyed.
    """

    item: str = ""
    exception: str = ""
    message: str = ""
    is_new: bool = False
    keys: tuple[SharedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a server dealt of its share (see `crypto.reshare`); bytes in hex digits."""

    item: str = ""
    exception: str = ""
    message: str = ""
    blinded: str = ""
    pieces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedPieces:
    """What the dealers of a signed order sealed for one receiver, in hex digits."""

    order: str = ""
    pieces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What a server made of pieces: the hash of its new share, that share under its mask, and `checks`.

    Attributes:
        checks: for each spare dealer, how what it dealt differs from what the others say it should.
    """

    item: str = ""
    exception: str = ""
    message: str = ""
    hash: str = ""
    blinded: str = ""
    checks: tuple[str, ...] = ()


STRUCTURES: tuple[type, ...] = (
    Perm,
    ACLEntry,
    BasicPermission,
    Permission,
    PermissionEntry,
    Attribute,
    StringPair,
    SharedKey,
    KeyReference,
    KeyStatus,
    Dealt,
    SealedPieces,
    Taken,
)

EXCEPTIONS = (
    "AuthorizationException",
    "ExistsException",
    "NotExistsException",
    "InvalidArgumentException",
    "InternalException",
)

_AUTHORIZATION, _EXISTS, _NOT_EXISTS, _INVALID, _INTERNAL = EXCEPTIONS

EXCEPTION_OF: Mapping[type[MdmError], str] = {
    errors.NotAuthenticated: _AUTHORIZATION,
    errors.NotAuthorised: _AUTHORIZATION,
    errors.NotFound: _NOT_EXISTS,
    errors.AlreadyExists: _EXISTS,
    errors.NotADirectory: _INVALID,
    errors.IsADirectory: _INVALID,
    errors.NotEmpty: _INVALID,
    errors.Busy: _INTERNAL,
    errors.InvalidRequest: _INVALID,
    errors.NotSupported: _INVALID,
    errors.RequestUnknown: _NOT_EXISTS,
    errors.Aborted: _INTERNAL,
    errors.RequestExpired: _AUTHORIZATION,
    errors.TooLarge: _INVALID,
    errors.BudgetExhausted: _AUTHORIZATION,
    errors.SpaceExhausted: _INTERNAL,
    errors.SpaceExpired: _INTERNAL,
    errors.ConfigError: _INTERNAL,
    errors.NoSpace: _INTERNAL,
    errors.Overloaded: _INTERNAL,
    errors.IntegrityError: _INVALID,
    errors.CatalogueUnavailable: _INTERNAL,
    errors.InternalError: _INTERNAL,
    errors.SourceUnavailable: _INTERNAL,
    errors.SourceSlow: _INTERNAL,
    errors.SourceRefused: _INTERNAL,
    errors.NotDelivered: _INTERNAL,
    errors.ObjectRefused: _INTERNAL,
    errors.KeyServerUnavailable: _INTERNAL,
    errors.KeyQuorumMissing: _INTERNAL,
    errors.KeyShareInvalid: _INVALID,
}
"""The table of this edge: what a caller of Hydra is told."""

_LEAF_OF: Mapping[str, type[MdmError]] = {
    _AUTHORIZATION: errors.NotAuthorised,
    _EXISTS: errors.AlreadyExists,
    _NOT_EXISTS: errors.NotFound,
    _INVALID: errors.InvalidRequest,
    _INTERNAL: errors.KeyServerUnavailable,
}


def error_of(exception: str, message: str) -> MdmError:
    """Return the error that an exception of the service stands for.

    Its words are a stranger's, and go to a user's terminal: one line of them is enough.
    """
    line = "".join(one if one.isprintable() else " " for one in message[:MAX_MESSAGE_CHARS])
    return _LEAF_OF.get(exception, errors.KeyServerUnavailable)(line)


# --- operations ----------------------------------------------------------------------------------

Wire = Any
"""``str``, ``int``, a dataclass of `STRUCTURES`, or a tuple of one of them of any length."""

_Strings = tuple[str, ...]
_Attributes = tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: parameters in order, and what it returns if anything."""

    name: str
    parameters: Mapping[str, Wire]
    returns: Wire = None


OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("createEntry", {"entries": tuple[StringPair, ...]}),
        Operation("removeEntry", {"items": _Strings}),
        Operation("getAttributes", {"item": str, "attributeNames": _Strings}, _Attributes),
        Operation("query", {"query": str, "type": str, "limit": int, "offset": int}, _Strings),
        Operation("setAttributes", {"item": str, "attributes": _Attributes}),
        Operation("clearAttributes", {"item": str, "attributeNames": _Strings}),
        Operation("listAttributes", {"item": str}, _Attributes),
        Operation("getVersion", {}, str),
        Operation("getSchemaVersion", {}, str),
        Operation("getInterfaceVersion", {}, str),
        Operation("getServiceMetadata", {"key": str}, str),
        Operation("createSchema", {"schemaName": str, "attributes": _Attributes}),
        Operation("addSchemaAttributes", {"schemaName": str, "attributes": _Attributes}),
        Operation("removeSchemaAttributes", {"schemaName": str, "attributeNames": _Strings}),
        Operation("dropSchema", {"schemaName": str}),
        Operation("listSchemas", {}, _Strings),
        Operation("describeSchema", {"schemaName": str}, _Attributes),
        Operation("checkPermission", {"items": _Strings, "perm": Perm}),
        Operation("getPermission", {"items": _Strings}, tuple[PermissionEntry, ...]),
        Operation("setPermission", {"permissions": tuple[PermissionEntry, ...]}),
        Operation(
            "putKeys", {"keys": tuple[SharedKey, ...], "permission": Permission}, tuple[KeyStatus, ...]
        ),
        Operation("getKeys", {"items": _Strings}, tuple[KeyStatus, ...]),
        Operation("removeKeys", {"keys": tuple[KeyReference, ...]}, tuple[KeyStatus, ...]),
        Operation("describeKeys", {"items": _Strings}, tuple[KeyStatus, ...]),
        Operation("destroyKeys", {"keys": tuple[StringPair, ...]}, tuple[KeyStatus, ...]),
        Operation("dealKeys", {"orders": _Strings}, tuple[Dealt, ...]),
        Operation("takeKeys", {"orders": tuple[SealedPieces, ...]}, tuple[Taken, ...]),
        Operation(
            "adoptKeys", {"keys": tuple[SharedKey, ...], "permission": Permission}, tuple[KeyStatus, ...]
        ),
    )
}
