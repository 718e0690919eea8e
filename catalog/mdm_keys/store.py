"""Rows: keys with their owner and ACL, and the shares of each generation of a key.

A key without a share is possible (Hydra creates the entry first). Two generations stand side by side
while a key is shared anew. No method checks a right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import peewee

from srm_dicom.crypto.keyrecord import project_of
from srm_dicom.db.database import Database, marks
from srm_dicom.errors import AlreadyExists
from srm_dicom.rights.acl import Acl, Entry, Tag

CHUNK = 500
"""Rows in one statement; SQLite bounds the variables of one."""

_COLUMNS = ("key_id", "generation", "k", "position", "share", "public_key", "valid_until", "charter")
_ADD_SHARE = f"INSERT INTO share ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_ADD_KEY = "INSERT INTO key (id, owner, group_name, acl) VALUES (?, ?, ?, ?)"
_FIND = (
    f"SELECT id, owner, group_name, acl, {', '.join(_COLUMNS)}"  # noqa: S608
    " FROM key LEFT JOIN share ON key_id = id WHERE id IN ({})"
)
"""Ten thousand in one call: peewee would spend longer on writing the statements than SQLite on doing them."""


@dataclass(frozen=True, slots=True, repr=False)
class HeldShare:
    """This server's share of one generation of a key; `charter` is the signed text."""

    key_id: str
    generation: int
    k: int
    index: int
    share: bytes
    public_key: bytes
    valid_until: datetime
    charter: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key: what its rights are, and this server's shares of it.

    Attributes:
        owner: a DN; the entry ``user::`` speaks of it.
        group: an FQAN; the entry ``group::`` speaks of it. Empty when there is none.
        project: what the site signed that it is released for; empty without a share, or without a word of it.
        shares: one a generation, the newest first.
    """

    id: str
    owner: str
    group: str
    acl: Acl
    project: str = ""
    shares: tuple[HeldShare, ...] = ()

    def is_over(self, now: datetime) -> bool:
        """Tell whether there are shares, and none is valid any more."""
        return bool(self.shares) and not valid(self.shares, now)

    def effective_acl(self) -> Acl:
        """Return the ACL with the base group's entry under the group's name, once the group may do something.

        Before, its members are among everybody else: nobody has less for showing what group is his.
        """
        return _with_group(self.acl, self.group)


@lru_cache(maxsize=1024)
def _with_group(acl: Acl, group: str) -> Acl:
    """The keys of a project have one ACL: it is made ready to be asked once."""
    return Acl(
        tuple(
            Entry(Tag.GROUP, group, entry.permissions)
            if entry.tag is Tag.GROUP and not entry.qualifier
            else entry
            for entry in acl.entries
            if (group and entry.permissions) or entry.tag is not Tag.GROUP or entry.qualifier
        )
    )


class KeyRow(peewee.Model):
    """Table ``key``."""

    id = peewee.CharField(max_length=128, primary_key=True)
    owner = peewee.TextField()
    group_name = peewee.TextField()
    acl = peewee.TextField()

    class Meta:
        """One row a key."""

        table_name = "key"


class ShareRow(peewee.Model):
    """Table ``share``; `valid_until` is seconds since 1970, `position` the share's index."""

    key_id = peewee.CharField(max_length=128, constraints=[peewee.SQL("REFERENCES key(id)")])
    generation = peewee.IntegerField()
    k = peewee.IntegerField()
    position = peewee.IntegerField()
    share = peewee.BlobField()
    public_key = peewee.BlobField()
    valid_until = peewee.BigIntegerField()
    charter = peewee.TextField()

    class Meta:
        """One row a generation of a key."""

        table_name = "share"
        primary_key = peewee.CompositeKey("key_id", "generation")


class PendingRow(peewee.Model):
    """Table ``pending``: new shares whose charter is not signed yet."""

    key_id = peewee.CharField(max_length=128)
    generation = peewee.IntegerField()
    share = peewee.BlobField()

    class Meta:
        """One row a generation of a key."""

        table_name = "pending"
        primary_key = peewee.CompositeKey("key_id", "generation")


class OwnKeyRow(peewee.Model):
    """Table ``own_key``: the server's own X25519 private key; one row."""

    private_key = peewee.BlobField()

    class Meta:
        """The only row has the number 1."""

        table_name = "own_key"


class KeyStore:
    """What one key server holds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key = database.bind(KeyRow)
        self._share = database.bind(ShareRow)
        self._pending = database.bind(PendingRow)
        self._own_key = database.bind(OwnKeyRow)

    def own_key(self, draw: Callable[[], bytes]) -> bytes:
        """Return the server's own private key, drawn when there is none."""
        with self._database.transaction():
            self._own_key.insert(id=1, private_key=draw()).on_conflict_ignore().execute()
        return bytes(self._own_key.get_by_id(1).private_key)

    def transaction(self) -> AbstractContextManager[None]:
        """Run a block in one write transaction."""
        return self._database.transaction()

    def wipe(self) -> None:
        """See to it that what was removed is in no file of the database any more."""
        self._database.checkpoint()

    def find(self, ids: Iterable[str]) -> dict[str, Key]:
        """Return the keys that exist among `ids`."""
        found: dict[str, Key] = {}
        for chunk in _chunks(ids):
            for row in self._database.tuples(_FIND.format(marks(len(chunk))), chunk):
                key = _key(*row)
                found[key.id] = _together(found[key.id], key) if key.id in found else key
        return found

    def all_keys(self) -> Iterator[Key]:
        """Yield every key, in the order of ids."""
        after = ""
        while True:
            rows = self._key.select(self._key.id).where(self._key.id > after).order_by(self._key.id)
            ids = [row.id for row in rows.limit(CHUNK)]
            if not ids:
                return
            keys = self.find(ids)
            yield from (keys[key_id] for key_id in ids)
            after = ids[-1]

    def create(self, keys: Sequence[Key]) -> None:
        """Add keys.

        Raises:
            AlreadyExists: an id is taken; none was added.
        """
        texts = {acl: str(acl) for acl in {key.acl for key in keys}}
        rows = [(key.id, key.owner, key.group, texts[key.acl]) for key in keys]
        try:
            with self._database.transaction():
                self._database.execute_many(_ADD_KEY, rows)
        except peewee.IntegrityError as error:
            raise AlreadyExists("a key of this name exists") from error

    def add(self, shares: Sequence[HeldShare]) -> None:
        """Add shares of keys that exist; the caller has seen to it that the generations are new."""
        with self._database.transaction():
            self._database.execute_many(_ADD_SHARE, [_row(share) for share in shares])

    def set_permission(self, key: Key) -> None:
        """Replace owner, group and ACL of a key."""
        columns = {"owner": key.owner, "group_name": key.group, "acl": str(key.acl)}
        self._key.update(columns).where(self._key.id == key.id).execute()

    def clear(self, ids: Iterable[str]) -> None:
        """Remove every share of keys that stay."""
        with self._database.transaction():
            for chunk in _chunks(ids):
                self._share.delete().where(self._share.key_id.in_(chunk)).execute()

    def remove(self, ids: Sequence[str]) -> None:
        """Remove keys with all their shares."""
        with self._database.transaction():
            self.clear(ids)
            self.forget_pending(ids)
            for chunk in _chunks(ids):
                self._key.delete().where(self._key.id.in_(chunk)).execute()

    def remove_of(self, keys: Iterable[tuple[bytes, str]]) -> None:
        """Remove the keys with these public halves and ids."""
        with self._database.transaction():
            for chunk in _chunks(keys):
                named = set(chunk)
                rows = self._share.select().where(self._share.key_id.in_([key_id for _, key_id in chunk]))
                there = {row.key_id for row in rows if (bytes(row.public_key), row.key_id) in named}
                self.remove(sorted(there))

    # --- generations -----------------------------------------------------------------------------

    def keep_pending(self, key_id: str, generation: int, share: bytes) -> None:
        """Keep a new share until its charter is signed; what was pending of this generation goes."""
        row = {"key_id": key_id, "generation": generation, "share": share}
        self._pending.insert(row).on_conflict(
            conflict_target=[self._pending.key_id, self._pending.generation], preserve=[self._pending.share]
        ).execute()

    def pending(self, key_id: str, generation: int) -> bytes | None:
        """Return the new share that waits for its charter."""
        row = self._pending.get_or_none(
            (self._pending.key_id == key_id) & (self._pending.generation == generation)
        )
        return bytes(row.share) if row else None

    def remove_generation(self, key_id: str, generation: int) -> None:
        """Remove one generation of a key, and the key itself when no other is left."""
        row = self._share
        with self._database.transaction():
            row.delete().where((row.key_id == key_id) & (row.generation == generation)).execute()
            if not row.select().where(row.key_id == key_id).exists():
                self.remove([key_id])

    def forget_pending(self, ids: Iterable[str]) -> None:
        """Remove what is pending of keys."""
        for chunk in _chunks(ids):
            self._pending.delete().where(self._pending.key_id.in_(chunk)).execute()


def valid(shares: Iterable[HeldShare], now: datetime) -> list[HeldShare]:
    """Return those shares whose time is not over."""
    return [share for share in shares if now < share.valid_until]


def shares_of(keys: Mapping[str, Key], key_id: str) -> tuple[HeldShare, ...]:
    """Return the shares of a key that may not be among these."""
    key = keys.get(key_id)
    return key.shares if key is not None else ()


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _key(key_id: str, owner: str, group: str, acl: str, *share: Any) -> Key:
    """Read a row of `_FIND`: a key with one share of it, or with none."""
    if share[0] is None:
        return Key(key_id, owner, group, Acl.stored(acl))
    held = _held(*share)
    return Key(key_id, owner, group, Acl.stored(acl), project_of(held.charter), (held,))


def _together(key: Key, other: Key) -> Key:
    """Return a key with the shares of two rows."""
    shares = sorted((*key.shares, *other.shares), key=lambda share: share.generation, reverse=True)
    return replace(key, project=project_of(shares[0].charter), shares=tuple(shares))


def _held(
    key_id: str,
    generation: int,
    k: int,
    index: int,
    share: bytes,
    public_key: bytes,
    valid_until: int,
    charter: str,
) -> HeldShare:
    """Read the values of `_COLUMNS`."""
    until = datetime.fromtimestamp(valid_until, UTC)
    return HeldShare(key_id, generation, k, index, bytes(share), bytes(public_key), until, charter)


def _row(share: HeldShare) -> tuple[object, ...]:
    """Return the values of `_COLUMNS`."""
    return (
        share.key_id,
        share.generation,
        share.k,
        share.index,
        share.share,
        share.public_key,
        int(share.valid_until.timestamp()),
        share.charter,
    )
