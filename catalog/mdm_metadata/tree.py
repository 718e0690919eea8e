"""The tree of collections and their schemas; nothing here checks a right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import peewee

from mdm_metadata.entries import TABLES, Entries
from mdm_metadata.schema import Attribute, Collection, Group, NewAttribute
from srm_dicom.db.database import Database
from srm_dicom.errors import AlreadyExists, NotEmpty, TooLarge
from srm_dicom.ids import SitePath, parent
from srm_dicom.rights.acl import Acl

MAX_COLLECTIONS = 10_000
MAX_ATTRIBUTES = 500


class CollectionRow(peewee.Model):
    """Table ``collection``; columns as in `Collection`."""

    id = peewee.AutoField()
    path = peewee.CharField(max_length=1024, unique=True)
    parent = peewee.CharField(max_length=1024, index=True)
    acl = peewee.TextField(default="")
    valid_until = peewee.BigIntegerField()

    class Meta:
        """Named for administrators."""

        table_name = "collection"


class AttributeRow(peewee.Model):
    """Table ``attribute``; columns as in `Attribute`."""

    id = peewee.AutoField()
    collection = peewee.IntegerField(constraints=[peewee.SQL("REFERENCES collection (id)")])
    name = peewee.CharField(max_length=64)
    type = peewee.CharField(max_length=32)
    group = peewee.CharField(max_length=10, column_name="attribute_group")

    class Meta:
        """A name is unique in its collection."""

        table_name = "attribute"
        indexes = ((("collection", "name"), True),)


class Collections:
    """Every method is one statement or one transaction.

    Args:
        database: the metadata server's own.
        indexed: names of attributes that get an index.
    """

    def __init__(self, database: Database, indexed: Sequence[str] = ()) -> None:
        self._database = database
        self._row = database.bind(CollectionRow)
        self._attribute = database.bind(AttributeRow)
        self._indexed = frozenset(indexed)
        database.order_by_bytes(TABLES)
        self.entries = Entries(self._row._meta.database)  # noqa: SLF001 - peewee's documented place for it

    def find(self, path: SitePath) -> Collection | None:
        """Return the collection of a path, if there is one."""
        row = self._row.get_or_none(self._row.path == path)
        return _collection(row) if row else None

    def all(self) -> list[Collection]:
        """Return every collection, in order of path."""
        return [_collection(row) for row in self._row.select().order_by(self._row.path)]

    def create(
        self, path: SitePath, acl: Acl, valid_until: datetime, schema: Sequence[NewAttribute] = ()
    ) -> Collection:
        """Make a collection.

        Raises:
            AlreadyExists: the path is taken.
            TooLarge: there are too many collections.
        """
        with self._database.transaction():
            if self._row.select().count() >= MAX_COLLECTIONS:
                raise TooLarge(f"a server has at most {MAX_COLLECTIONS} collections")
            try:
                row = self._row.create(
                    path=path, parent=parent(path), acl=str(acl), valid_until=int(valid_until.timestamp())
                )
            except peewee.IntegrityError as error:
                raise AlreadyExists("the collection exists") from error
            collection = _collection(row)
            self.entries.create(collection)
            self.add_attributes(collection, schema)
        return collection

    def remove(self, collection: Collection) -> None:
        """Remove a collection that is empty.

        Raises:
            NotEmpty: it has entries or collections below.
        """
        with self._database.transaction():
            below = self._row.select().where(self._row.parent == collection.path).exists()
            if below or self.entries.count(collection):
                raise NotEmpty("the collection has entries or collections below")
            self.entries.drop(collection)
            self._attribute.delete().where(self._attribute.collection == collection.id).execute()
            self._row.delete().where(self._row.id == collection.id).execute()

    def set_acl(self, collection: Collection, acl: Acl) -> None:
        """Replace the ACL."""
        self._row.update(acl=str(acl)).where(self._row.id == collection.id).execute()

    def change_acl(self, collection: Collection, change: Callable[[Acl], Acl]) -> None:
        """Make another ACL of the one that there is now, which may be newer than `collection`."""
        with self._database.transaction():
            for row in self._row.select().where(self._row.id == collection.id):
                self.set_acl(collection, change(Acl.stored(row.acl)))

    def set_valid_until(self, collection: Collection, end: datetime) -> None:
        """Give the collection another end."""
        self._row.update(valid_until=int(end.timestamp())).where(self._row.id == collection.id).execute()

    def attributes(self, collection: Collection) -> dict[str, Attribute]:
        """Return the schema, in the order in which attributes were added."""
        rows = self._attribute.select().where(self._attribute.collection == collection.id)
        return {
            row.name: Attribute(row.id, row.name, row.type, Group(row.group))
            for row in rows.order_by(self._attribute.id)
        }

    def add_attributes(self, collection: Collection, attributes: Sequence[NewAttribute]) -> None:
        """Add attributes; an entry has no value for them yet.

        Raises:
            AlreadyExists: a name is taken.
            TooLarge: the collection would have too many.
        """
        with self._database.transaction():
            taken = self.attributes(collection)
            if len(taken) + len(attributes) > MAX_ATTRIBUTES:
                raise TooLarge(f"a collection has at most {MAX_ATTRIBUTES} attributes")
            for new in attributes:
                try:
                    row = self._attribute.create(
                        collection=collection.id, name=new.name, type=new.type, group=new.group.value
                    )
                except peewee.IntegrityError as error:
                    raise AlreadyExists("the attribute exists") from error
                added = Attribute(row.id, new.name, new.type, new.group)
                self.entries.add_column(collection, added, indexed=new.name in self._indexed)


def _collection(row: Any) -> Collection:
    end = datetime.fromtimestamp(row.valid_until, UTC)
    return Collection(row.id, SitePath(row.path), Acl.stored(row.acl), end)
