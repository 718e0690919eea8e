"""Hydra's operations: one method each, in plain types; every one declares the right that it checks.

A method is named as its operation in snake_case and is called with the caller and the operation's
parameters. Decisions and their audit are `access`, what is kept is `keeping`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mdm_keys import records
from mdm_keys.access import Access
from mdm_keys.calls import checked, named, status
from mdm_keys.keeping import OWNER_LETTERS, Keeping, group_of, with_base
from mdm_keys.ledger import DestructionLedger
from mdm_keys.resharing import Resharing
from mdm_keys.store import HeldShare, Key, KeyStore, shares_of, valid
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    InvalidRequest,
    MdmError,
    NotFound,
    NotSupported,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.declare import OpenAccess, Right, requires
from srm_dicom.wire.hydra.contract import (
    INTERFACE_VERSION,
    MAX_KEYS_PER_CALL,
    SCHEMA,
    Attribute,
    Dealt,
    KeyReference,
    KeyStatus,
    Perm,
    Permission,
    PermissionEntry,
    SealedPieces,
    SharedKey,
    StringPair,
    Taken,
)
from srm_dicom.wire.hydra.permissions import acl_of, permission_of

VERSION = "4.0.0"
SCHEMA_VERSION = "2.0.0"

_INFORMATION = OpenAccess("says what this service is, nothing of any key")
_REFUSED = OpenAccess("is refused to everybody")


class KeyService:
    """The operations over one store."""

    def __init__(
        self,
        store: KeyStore,
        access: Access,
        sites: Mapping[str, Ed25519PublicKey],
        clock: Clock,
        ledger: DestructionLedger,
        peers: frozenset[bytes] = frozenset(),
    ) -> None:
        """Serve `store`.

        Args:
            store: the keys.
            access: decides who may do what.
            sites: the registering sites' keys by `signing.fingerprint`.
            clock: tells whether a key is still valid.
            ledger: what was destroyed; it is kept no more.
            peers: public keys of the servers that shares may be dealt to.
        """
        self._store = store
        self._access = access
        self._sites = sites
        self._clock = clock
        self._ledger = ledger
        self._keeping = Keeping(store, access, sites, ledger)
        self._resharing = Resharing(store, access, sites, peers, ledger)

    # --- entries ---------------------------------------------------------------------------------

    @requires(Right.KEY_CREATE)
    def create_entry(self, principal: Principal, entries: Sequence[StringPair]) -> None:
        """Make keys without a share; the caller owns them."""
        if any(entry.string2 != SCHEMA for entry in entries):
            raise InvalidRequest(f"entries are of the schema {SCHEMA}")
        ids = checked(entry.string1 for entry in entries)
        self._access.require_creator("createEntry", principal, ids)
        acl = with_base(Acl(), OWNER_LETTERS)
        self._store.create([Key(key_id, principal.dn, group_of(principal), acl) for key_id in ids])

    @requires(Right.KEY_REMOVE)
    def remove_entry(self, principal: Principal, items: Sequence[str]) -> None:
        """Remove keys, all or none."""
        self._store.remove(
            list(self._access.require("removeEntry", principal, checked(items), Right.KEY_REMOVE))
        )

    @requires(Right.KEY_WRITE)
    def set_attributes(self, principal: Principal, item: str, attributes: Sequence[Attribute]) -> None:
        """Give a key its record."""
        self._access.require("setAttributes", principal, checked([item]), Right.KEY_WRITE)
        given = {attribute.name: attribute.value for attribute in attributes}
        try:
            self._keeping.add(records.record(item, given, self._sites))
        except MdmError as error:
            self._access.turned_away("setAttributes", principal, error, [item])
            raise

    @requires(Right.KEY_FETCH)
    def get_attributes(
        self, principal: Principal, item: str, attribute_names: Sequence[str]
    ) -> list[Attribute]:
        """Return the record of a key's newest generation: this releases the share."""
        now = self._clock.now()
        keys = self._access.require("getAttributes", principal, checked([item]), Right.KEY_FETCH, now)
        shares = valid(keys[item].shares, now)
        if not shares:
            return []
        values = records.attributes(shares[0])
        return [values[name] for name in attribute_names or values if name in values]

    @requires(Right.KEY_FETCH)
    def list_attributes(self, principal: Principal, item: str) -> list[Attribute]:
        """Return the names of a record's attributes, without values."""
        keys = self._access.require("listAttributes", principal, checked([item]), Right.KEY_FETCH)
        return list(records.ATTRIBUTES) if keys[item].shares else []

    @requires(Right.KEY_WRITE)
    def clear_attributes(self, principal: Principal, item: str, attribute_names: Sequence[str]) -> None:
        """Remove the record of a key, whichever attribute is named: the parts are worth nothing alone."""
        self._access.require("clearAttributes", principal, checked([item]), Right.KEY_WRITE)
        if attribute_names:
            self._store.clear([item])

    # --- permissions -----------------------------------------------------------------------------

    @requires(Right.KEY_ADMIN)
    def get_permission(self, principal: Principal, items: Sequence[str]) -> list[PermissionEntry]:
        """Return owner, base permissions and ACL of keys."""
        keys = self._access.require("getPermission", principal, checked(items), Right.KEY_ADMIN)
        return [
            PermissionEntry(key.id, permission_of(key.acl, key.owner, key.group)) for key in keys.values()
        ]

    @requires(Right.KEY_ADMIN)
    def set_permission(self, principal: Principal, permissions: Sequence[PermissionEntry]) -> None:
        """Replace base permissions and ACL of keys, all or none; a name that is empty stays as it is."""
        ids = checked(entry.item for entry in permissions)
        keys = self._access.require("setPermission", principal, ids, Right.KEY_ADMIN)
        with self._store.transaction():
            for entry in permissions:
                key, new = keys[entry.item], entry.permission
                owner, group = new.user_name or key.owner, new.group_name or key.group
                self._store.set_permission(Key(key.id, owner, group, acl_of(new).bounded()))

    @requires(OpenAccess("asks what the caller itself may do"))
    def check_permission(self, principal: Principal, items: Sequence[str], perm: Perm) -> None:
        """Say nothing when the caller has every permission on every key, and refuse otherwise."""
        self._access.require_letters("checkPermission", principal, checked(items), perm.letters)

    # --- many at once ----------------------------------------------------------------------------

    @requires(Right.KEY_CREATE)
    def put_keys(
        self, principal: Principal, keys: Sequence[SharedKey], permission: Permission
    ) -> list[KeyStatus]:
        """Keep records; keys that are new get this permission, others need the right to write them."""
        return self._keeping.put("putKeys", principal, keys, permission)

    @requires(Right.KEY_FETCH)
    def get_keys(self, principal: Principal, items: Sequence[str]) -> list[KeyStatus]:
        """Release the shares of keys, every generation of each."""
        ids, failed = named(items)
        now = self._clock.now()
        allowed, refused = self._access.sort("getKeys", principal, ids, Right.KEY_FETCH, now)
        failed |= refused
        return [_answer(key_id, failed.get(key_id), shares_of(allowed, key_id), now) for key_id in items]

    @requires(Right.KEY_REMOVE)
    def remove_keys(self, principal: Principal, keys: Sequence[KeyReference]) -> list[KeyStatus]:
        """Remove keys, or one generation of each."""
        ids, failed = named(key.item for key in keys)
        failed |= self._access.sort("removeKeys", principal, ids, Right.KEY_REMOVE)[1]
        with self._store.transaction():
            for key in keys:
                if key.item not in failed:
                    self._remove(key)
        return [status(key.item, failed.get(key.item)) for key in keys]

    @requires(Right.KEY_WRITE)
    def describe_keys(self, principal: Principal, items: Sequence[str]) -> list[KeyStatus]:
        """Tell which share of which generations of keys is here, and its charter, without the share."""
        ids, failed = named(items)
        allowed, refused = self._access.sort("describeKeys", principal, ids, Right.KEY_WRITE)
        failed |= refused
        return [_described(key_id, failed.get(key_id), allowed) for key_id in items]

    @requires(Right.KEY_REMOVE)
    def destroy_keys(self, principal: Principal, keys: Sequence[StringPair]) -> list[KeyStatus]:
        """Remove keys, given with their public halves (hex), and never keep them again."""
        ids, failed = named(key.string1 for key in keys)
        halves: dict[str, bytes] = {}
        for key in keys:
            try:
                halves[key.string1] = _public_key(key.string2)
            except InvalidRequest as error:
                failed.setdefault(key.string1, error)
        ids = [key_id for key_id in ids if key_id not in failed]
        known = self._store.find(ids)
        unknown = [key_id for key_id in ids if key_id not in known]
        if unknown:
            self._access.require_creator("destroyKeys", principal, unknown)
        allowed, refused = self._access.sort("destroyKeys", principal, list(known), Right.KEY_REMOVE)
        failed |= refused
        gone = [key_id for key_id in ids if key_id not in failed]
        there = ((share.public_key, key.id) for key in allowed.values() for share in key.shares)
        self._ledger.add([*((halves[key_id], key_id) for key_id in gone), *there])
        self._store.remove(gone)
        self._store.wipe()
        return [_described(key.string1, failed.get(key.string1), allowed) for key in keys]

    # --- what the service is ---------------------------------------------------------------------

    @requires(_INFORMATION)
    def get_version(self, _principal: Principal) -> str:
        """Return the version of this implementation."""
        return VERSION

    @requires(_INFORMATION)
    def get_schema_version(self, _principal: Principal) -> str:
        """Return the version of the tables."""
        return SCHEMA_VERSION

    @requires(_INFORMATION)
    def get_interface_version(self, _principal: Principal) -> str:
        """Return the version of the contract."""
        return INTERFACE_VERSION

    @requires(_INFORMATION)
    def get_service_metadata(self, _principal: Principal, key: str) -> str:
        """Return one fact of the service; empty for one that it does not know."""
        facts = {
            "max_keys_per_call": str(MAX_KEYS_PER_CALL),
            "public_key": self._resharing.public_key.hex(),
        }
        return facts.get(key, "")

    @requires(_INFORMATION)
    def list_schemas(self, _principal: Principal) -> list[str]:
        """Return the one schema."""
        return [SCHEMA]

    @requires(_INFORMATION)
    def describe_schema(self, _principal: Principal, schema_name: str) -> list[Attribute]:
        """Return the attributes of the schema."""
        if schema_name != SCHEMA:
            raise NotFound("no such schema")
        return list(records.ATTRIBUTES)

    @requires(_REFUSED)
    def query(self, _principal: Principal, *_arguments: object) -> None:
        """Refuse: a key server is not searched."""
        raise NotSupported("a key server is not searched")

    @requires(_REFUSED)
    def create_schema(self, _principal: Principal, *_arguments: object) -> None:
        """Refuse: the schema is part of the program."""
        raise NotSupported(f"the schema {SCHEMA} is the only one and does not change")

    add_schema_attributes = remove_schema_attributes = drop_schema = create_schema

    # --- a next generation ------------------------------------------------------------------------

    @requires(Right.KEY_WRITE)
    def deal_keys(self, principal: Principal, orders: Sequence[str]) -> list[Dealt]:
        """Share this server's shares anew, for the servers that a signed order names."""
        return self._resharing.deal(principal, orders)

    @requires(Right.KEY_CREATE)
    def take_keys(self, principal: Principal, orders: Sequence[SealedPieces]) -> list[Taken]:
        """Put new shares together from what the dealers sealed for this server; they wait for adoption."""
        return self._resharing.take(principal, orders)

    @requires(Right.KEY_CREATE)
    def adopt_keys(
        self, principal: Principal, keys: Sequence[SharedKey], permission: Permission
    ) -> list[KeyStatus]:
        """Keep new shares that were taken, now that the site has signed a charter for them."""
        self._access.require_creator("adoptKeys", principal, named(key.item for key in keys)[0])
        statuses = self._keeping.put("adoptKeys", principal, self._resharing.taken(keys), permission)
        self._store.forget_pending(status.item for status in statuses if not status.exception)
        return statuses

    # --- parts -----------------------------------------------------------------------------------

    def _remove(self, key: KeyReference) -> None:
        if key.generation:
            self._store.remove_generation(key.item, key.generation)
        else:
            self._store.remove([key.item])


def _answer(key_id: str, refused: MdmError | None, shares: Sequence[HeldShare], now: datetime) -> KeyStatus:
    return status(key_id, refused, keys=tuple(map(records.shared_key, valid(shares, now))))


def _described(key_id: str, refused: MdmError | None, keys: Mapping[str, Key]) -> KeyStatus:
    return status(key_id, refused, keys=records.described(shares_of(keys, key_id)))


def _public_key(text: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise InvalidRequest("the public half of a key is 64 hex digits")
    return bytes.fromhex(text)
