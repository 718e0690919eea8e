"""The namespace: names, rights, sizes, checksums and key ids; the server owns these, not a plugin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any

import peewee

from srm_dicom.db.database import Database, marks
from srm_dicom.errors import AlreadyExists, NotADirectory, NotFound
from srm_dicom.ids import Guid, SitePath, name, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Release

_CHUNK = 500
"""Parameters of one statement."""

_FIND = "SELECT * FROM entry WHERE path IN"
_FIND_GUIDS = "SELECT * FROM entry WHERE guid IN"
_GENERATIONS = "SELECT guid, generation FROM entry WHERE guid IN"

_acl = lru_cache(maxsize=4096)(Acl.stored)
"""The files of a series have one ACL, written alike."""

_release = lru_cache(maxsize=1024)(Release)


class Kind(Enum):
    """A directory or a file; nothing else has a name here."""

    DIRECTORY = "directory"
    FILE = "file"


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file's sealed bytes once they have existed (level *full*)."""

    size_bytes: int
    adler32: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A name.

    Attributes:
        owner: DN of the owner; empty when the service owns it.
        shown_at: the only time that may be shown outside (see `clock.coarse`).
        facts: None while the file is registered at level *index*.
        generation: grows when a re-stage gives other bytes than before.
        key_id: the key pair on the key servers; empty for a file that is not sealed.
        public_key: X25519, 32 bytes; empty for a file that is not sealed.
        plugin: name of the plugin instance that has the bytes, `plugin_ref` its own words for them.
        members: the files that a name without bytes of its own is made of (see `bundles`).
    """

    path: SitePath
    kind: Kind
    owner: str
    acl: Acl
    shown_at: datetime
    guid: Guid | None = None
    release: Release | None = None
    facts: Facts | None = None
    generation: int = 1
    key_id: str = ""
    public_key: bytes = b""
    plugin: str = ""
    plugin_ref: bytes = b""
    members: tuple[Entry, ...] = ()

    @property
    def files(self) -> tuple[Entry, ...]:
        """What has to be staged, and may be read, for this name: its members, or itself."""
        return self.members or (self,)

    @property
    def is_directory(self) -> bool:
        """Tell a directory from a file."""
        return self.kind is Kind.DIRECTORY


class EntryRow(peewee.Model):
    """Table ``entry``; columns as in `Entry`, `parent` for listing in order of `path`."""

    path = peewee.CharField(max_length=1024, unique=True)
    parent = peewee.CharField(max_length=1024)
    kind = peewee.CharField(max_length=9)
    owner = peewee.TextField(default="")
    acl = peewee.TextField(default="")
    shown_at = peewee.BigIntegerField()
    guid = peewee.CharField(max_length=36, null=True, unique=True)
    project = peewee.TextField(default="")
    profile = peewee.TextField(default="")
    profile_version = peewee.TextField(default="")
    size_bytes = peewee.BigIntegerField(null=True)
    adler32 = peewee.CharField(max_length=8, null=True)
    manifest = peewee.TextField(null=True)
    generation = peewee.IntegerField(default=1)
    key_id = peewee.TextField(default="")
    public_key = peewee.BlobField(default=b"")
    plugin = peewee.TextField(default="")
    plugin_ref = peewee.BlobField(default=b"")

    class Meta:
        """Listing is by directory, in the order of names."""

        table_name = "entry"
        indexes = ((("parent", "path"), True),)


class Namespace:
    """The tree; every method is one statement or one transaction, and none checks a right."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(EntryRow)

    def find(self, path: SitePath) -> Entry | None:
        """Return the entry of a path, if there is one."""
        return self.find_many([path]).get(path)

    def find_many(self, paths: Sequence[SitePath]) -> dict[SitePath, Entry]:
        """Return the entries that exist among `paths`."""
        found: dict[SitePath, Entry] = {}
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            rows = self._database.select(f"{_FIND} ({marks(len(chunk))})", chunk)
            found.update((entry.path, entry) for entry in map(_entry, rows))
        return found

    def find_guid(self, guid: Guid) -> Entry | None:
        """Return the file with a GUID, if there is one."""
        return self.find_guids([guid]).get(guid)

    def find_guids(self, guids: Sequence[Guid]) -> dict[Guid, Entry]:
        """Return the files that exist among `guids`."""
        found: dict[Guid, Entry] = {}
        for start in range(0, len(guids), _CHUNK):
            chunk = guids[start : start + _CHUNK]
            rows = self._database.select(f"{_FIND_GUIDS} ({marks(len(chunk))})", chunk)
            found.update((Guid(row.guid), _entry(row)) for row in rows)
        return found

    def generations(self, guids: Sequence[Guid]) -> dict[Guid, int]:
        """Return the generations of those files that exist among `guids`."""
        found: dict[Guid, int] = {}
        for start in range(0, len(guids), _CHUNK):
            chunk = guids[start : start + _CHUNK]
            rows = self._database.select(f"{_GENERATIONS} ({marks(len(chunk))})", chunk)
            found.update((Guid(row.guid), row.generation) for row in rows)
        return found

    def has_key(self, key_id: str) -> bool:
        """Tell whether a file is sealed to a key."""
        return bool(self._row.select(self._row.path).where(self._row.key_id == key_id).exists())

    def called(self, text: str) -> list[Entry]:
        """Return the files that a GUID, a key id, a path or a component of paths means; slow."""
        row = self._row
        below = row.path.startswith(f"{text}/") if text.startswith("/") else row.path.contains(f"/{text}/")
        meant = (row.path == text) | (row.guid == text) | (row.key_id == text) | below
        return [_entry(one) for one in row.select().where((row.kind == Kind.FILE.value) & meant)]

    def children(self, directory: SitePath, *, offset: int = 0, count: int | None = None) -> list[Entry]:
        """Return entries of a directory in the order of their names."""
        query = self._row.select().where(self._row.parent == directory).order_by(self._row.path)
        chosen = query.offset(offset).limit(count)
        return [_entry(row) for row in self._database.rows(chosen)]

    def pages(self, directory: SitePath, count: int) -> Iterator[list[Entry]]:
        """Yield the entries of a directory in the order of their names, so many at a time: it may be huge."""
        after: str | None = ""
        while after is not None:
            more = (self._row.parent == directory) & (self._row.path > after)
            query = self._row.select().where(more).order_by(self._row.path).limit(count)
            page = [_entry(row) for row in self._database.rows(query)]
            yield page
            after = page[-1].path if len(page) == count else None

    def make_directory(
        self, path: SitePath, acl: Acl, shown_at: datetime, release: Release | None = None
    ) -> None:
        """Make a directory of the service, and those above it alike; one that exists stays as it is.

        Raises:
            NotADirectory: a component is a file.
        """
        with self._database.transaction():
            existing = self.find(path)
            if existing is not None:
                if not existing.is_directory:
                    raise NotADirectory(f"{path} is a file")
                return
            if path != "/":
                self.make_directory(parent(path), acl, shown_at, release)
            self._insert(Entry(path, Kind.DIRECTORY, "", acl, shown_at, release=release))

    def add_file(self, entry: Entry) -> None:
        """Add a file to a directory that exists.

        Raises:
            NotFound: the directory does not exist.
            AlreadyExists: the path or the GUID is taken.
        """
        with self._database.transaction():
            self._directory(parent(entry.path))
            self._insert(entry)

    def add_directory(
        self, path: SitePath, owner: str, acl: Acl, shown_at: datetime, release: Release | None
    ) -> None:
        """Add one directory of a user's to a directory that exists.

        Raises:
            NotFound, NotADirectory, AlreadyExists: as for `add_file`.
        """
        self.add_file(Entry(path, Kind.DIRECTORY, owner, acl, shown_at, release=release))

    def replace_file(self, entry: Entry) -> Entry | None:
        """Put a file in the place of the file of this path, if there is one; returns that."""
        with self._database.transaction():
            old = self.find(entry.path)
            if old is not None:
                self.remove(entry.path)
            self.add_file(entry)
        return old

    def rename(self, source: SitePath, target: SitePath) -> None:
        """Give a name, and everything below it, another path; the target is free.

        Raises:
            AlreadyExists: the target is taken.
            NotFound, NotADirectory: there is no source, or no directory for the target.
        """
        with self._database.transaction():
            entry = self.find(source)
            if entry is None:
                raise NotFound("no such name")
            self._directory(parent(target))
            if self.find(target) is not None:
                raise AlreadyExists(f"{name(target)} exists")
            moving = self._row.update(path=target, parent=parent(target))
            moving.where(self._row.path == source).execute()
            moved = [(source, target)] if entry.is_directory else []
            while moved:
                old, new = moved.pop()
                moved += self._rename_children(old, new)

    def _rename_children(self, old: SitePath, new: SitePath) -> list[tuple[SitePath, SitePath]]:
        """Move what is in a directory along with it; returns the directories among it."""
        row = self._row
        inside = row.parent == old
        below = [one.path for one in row.select(row.path).where(inside, row.kind == Kind.DIRECTORY.value)]
        tail = peewee.fn.SUBSTR(row.path, len(old) + 1)
        row.update(path=peewee.Value(new).concat(tail), parent=new).where(inside).execute()
        return [(SitePath(path), SitePath(new + path[len(old) :])) for path in below]

    def set_acl(self, path: SitePath, acl: Acl) -> None:
        """Replace the ACL of a name."""
        self._update(path, acl=str(acl))

    def relocate(self, guid: Guid, plugin: str, plugin_ref: bytes) -> None:
        """Have the bytes of a file fetched by other words of a plugin, or by another plugin."""
        self._row.update(plugin=plugin, plugin_ref=plugin_ref).where(self._row.guid == guid).execute()

    def record_facts(self, news: Sequence[tuple[Guid, Facts, int]]) -> None:
        """Make files *full*, or give them the facts of a new generation: the file, these and its number."""
        self._database.execute_many(
            "UPDATE entry SET size_bytes = ?, adler32 = ?, manifest = ?, generation = ? WHERE guid = ?",
            [
                (facts.size_bytes, facts.adler32, facts.manifest, generation, guid)
                for guid, facts, generation in news
            ],
        )

    def remove(self, path: SitePath) -> None:
        """Remove a name; the caller has seen to it that a directory is empty."""
        self._row.delete().where(self._row.path == path).execute()

    def _directory(self, path: SitePath) -> None:
        """Refuse what is not a directory."""
        entry = self.find(path)
        if entry is None:
            raise NotFound("the directory does not exist")
        if not entry.is_directory:
            raise NotADirectory(f"{path} is a file")

    def _update(self, path: SitePath, **columns: Any) -> None:
        if not self._row.update(**columns).where(self._row.path == path).execute():
            raise NotFound("no such name")

    def _insert(self, entry: Entry) -> None:
        try:
            self._database.insert(self._row, [columns(entry)])
        except peewee.IntegrityError as error:
            raise AlreadyExists(f"{name(entry.path)} exists") from error


def _entry(row: Any) -> Entry:
    release = _release(row.project, row.profile, row.profile_version) if row.project else None
    facts = Facts(row.size_bytes, row.adler32, row.manifest) if row.manifest is not None else None
    return Entry(
        path=SitePath(row.path),
        kind=_KINDS[row.kind],
        owner=row.owner,
        acl=_acl(row.acl),
        shown_at=datetime.fromtimestamp(row.shown_at, UTC),
        guid=Guid(row.guid) if row.guid else None,
        release=release,
        facts=facts,
        generation=row.generation,
        key_id=row.key_id,
        public_key=bytes(row.public_key),
        plugin=row.plugin,
        plugin_ref=bytes(row.plugin_ref),
    )


def columns(entry: Entry) -> dict[str, Any]:
    """Return an entry as the columns of `EntryRow`."""
    release, facts = entry.release, entry.facts
    return {
        "path": entry.path,
        "parent": parent(entry.path) if entry.path != "/" else "",
        "kind": entry.kind.value,
        "owner": entry.owner,
        "acl": str(entry.acl),
        "shown_at": int(entry.shown_at.timestamp()),
        "guid": entry.guid,
        "project": release.project if release else "",
        "profile": release.profile if release else "",
        "profile_version": release.version if release else "",
        "size_bytes": facts.size_bytes if facts else None,
        "adler32": facts.adler32 if facts else None,
        "manifest": facts.manifest if facts else None,
        "generation": entry.generation,
        "key_id": entry.key_id,
        "public_key": entry.public_key,
        "plugin": entry.plugin,
        "plugin_ref": entry.plugin_ref,
    }
