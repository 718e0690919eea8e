"""What a key server keeps: records that a known site signed, of keys that were not destroyed.

What is here already stays as it is: the same record again is no error, another one of its generation is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mdm_keys import records
from mdm_keys.access import Access
from mdm_keys.calls import named, status
from mdm_keys.ledger import DestructionLedger
from mdm_keys.store import HeldShare, Key, KeyStore
from srm_dicom.crypto.keyrecord import project_of
from srm_dicom.errors import AlreadyExists, InvalidRequest, MdmError, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl, Entry, Tag
from srm_dicom.rights.declare import Right
from srm_dicom.wire.hydra.contract import KeyStatus, Permission, SharedKey
from srm_dicom.wire.hydra.permissions import acl_of

OWNER_LETTERS = "pdrwlgs"
"""What the owner of an entry that Hydra's createEntry makes may do, as Hydra had it."""

REGISTRAR_LETTERS = "pdls"
"""What a registering site may do with its keys: everything but fetch them."""


class Keeping:
    """Takes records into a store.

    Args:
        store: the keys.
        access: decides who may make and write them.
        sites: the registering sites' keys by `signing.fingerprint`.
        ledger: what was destroyed; it is kept no more.
    """

    def __init__(
        self,
        store: KeyStore,
        access: Access,
        sites: Mapping[str, Ed25519PublicKey],
        ledger: DestructionLedger,
    ) -> None:
        self._store = store
        self._access = access
        self._sites = sites
        self._ledger = ledger

    def put(
        self, operation: str, principal: Principal, keys: Sequence[SharedKey], permission: Permission
    ) -> list[KeyStatus]:
        """Keep records; keys that are new get this permission, others need the right to write them.

        Raises:
            NotAuthorised: there are new ones, and the caller may not make keys.
        """
        failed = named(key.item for key in keys)[1]
        unkept: dict[str, MdmError] = {}
        held = self._acceptable((key for key in keys if key.item not in failed), unkept)
        self._tell(operation, principal, unkept)
        failed |= unkept
        known = self._store.find(held)
        new = [key_id for key_id in held if key_id not in known]
        if new:
            projects = {key_id: project_of(held[key_id].charter) for key_id in new}
            self._access.require_creator(operation, principal, new, projects)
        failed |= self._access.sort(operation, principal, list(known), Right.KEY_WRITE)[1]
        owner, group = permission.user_name or principal.dn, permission.group_name or group_of(principal)
        acl = with_base(acl_of(permission), REGISTRAR_LETTERS).bounded()
        with self._store.transaction():
            failed |= self._destroyed(held.values())
            self._store.create([Key(key_id, owner, group, acl) for key_id in new if key_id not in failed])
            added, conflicts = self._add([held[key_id] for key_id in held if key_id not in failed])
        failed |= conflicts
        return [status(key.item, failed.get(key.item), is_new=key.item in added) for key in keys]

    def add(self, held: HeldShare) -> None:
        """Keep the record of one key that is here.

        Raises:
            InvalidRequest: the key has been destroyed, or is another one here.
            NotFound: it has been removed.
            AlreadyExists: its generation has another share here.
        """
        with self._store.transaction():
            self._ledger.refuse(held.public_key, held.key_id)
            _, failed = self._add([held])
        for error in failed.values():
            raise error

    def _acceptable(self, keys: Iterable[SharedKey], failed: dict[str, MdmError]) -> dict[str, HeldShare]:
        """Return the records that may be kept; `failed` gets the errors of the others."""
        held: dict[str, HeldShare] = {}
        for key in keys:
            try:
                share = records.check(key, self._sites)
                self._ledger.refuse(share.public_key, share.key_id)
            except MdmError as error:
                failed[key.item] = error
            else:
                held[key.item] = share
        return held

    def _tell(self, operation: str, principal: Principal, failed: Mapping[str, MdmError]) -> None:
        """Take down which records are not kept, those together that are refused for one reason."""
        alike: dict[str, list[str]] = {}
        for key_id, error in failed.items():
            alike.setdefault(error.message, []).append(key_id)
        for ids in alike.values():
            self._access.turned_away(operation, principal, failed[ids[0]], ids)

    def _destroyed(self, shares: Iterable[HeldShare]) -> dict[str, MdmError]:
        """Return an error for each of these keys that has been destroyed meanwhile."""
        failed: dict[str, MdmError] = {}
        for share in shares:
            try:
                self._ledger.refuse(share.public_key, share.key_id)
            except MdmError as error:
                failed[share.key_id] = error
        return failed

    def _add(self, shares: Sequence[HeldShare]) -> tuple[set[str], dict[str, MdmError]]:
        """Add what is not here already; returns the keys that got a share, and errors of others."""
        failed: dict[str, MdmError] = {}
        fresh: list[HeldShare] = []
        with self._store.transaction():
            before = self._store.find(share.key_id for share in shares)
            for share in shares:
                try:
                    if share.key_id not in before:
                        raise NotFound("the key has been removed meanwhile")
                    if _is_new(share, before[share.key_id].shares):
                        fresh.append(share)
                except MdmError as error:
                    failed[share.key_id] = error
            self._store.add(fresh)
        return {share.key_id for share in fresh}, failed


def group_of(principal: Principal) -> str:
    """Return whose the keys of somebody are, as Hydra had it: the virtual organisation's, ``/<vo>``."""
    return "/" + principal.fqans[0].split("/")[1] if principal.fqans else ""


def with_base(acl: Acl, owner_letters: str) -> Acl:
    """Return an ACL whose owner has some rights even if it gives the owner none."""
    if any(entry.tag is Tag.USER and not entry.qualifier and entry.permissions for entry in acl.entries):
        return acl
    others = tuple(entry for entry in acl.entries if entry.qualifier or entry.tag is not Tag.USER)
    return Acl((Entry(Tag.USER, "", frozenset(owner_letters)), *others))


def _is_new(share: HeldShare, before: Sequence[HeldShare]) -> bool:
    """Tell whether a share is not here yet.

    Raises:
        InvalidRequest: the key has another public half here, or another project.
        AlreadyExists: its generation has another share here.
    """
    for other in before:
        if other.public_key != share.public_key:
            raise InvalidRequest("there is a key of this id, with another public half")
        if project_of(other.charter) != project_of(share.charter):
            raise InvalidRequest("the key is another project's")
        if other.generation == share.generation:
            if (other.index, other.share, other.charter) != (share.index, share.share, share.charter):
                raise AlreadyExists("the generation has another share here")
            return False
    return True
