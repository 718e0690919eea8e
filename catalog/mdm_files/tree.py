"""The tree of names: directories, files with their GUIDs and keys, replicas, comments, ACLs.

ACLs are rows of their own, shared by all names that have the same text: who may see something below a
directory is then a question about a few ACLs and one index, however many names there are. Nothing here
checks a right; `Sight` only says which rows a listing may show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import peewee

from srm_dicom.db.database import Database
from srm_dicom.errors import AlreadyExists, NotADirectory, NotEmpty, NotFound
from srm_dicom.ids import Guid, SitePath, parent
from srm_dicom.rights.acl import Acl

ROOT = SitePath("/")
NO_GUID = Guid("")
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Name:
    """A directory, or a file with what it stands for."""

    path: SitePath
    is_directory: bool
    acl: Acl
    owner: str = ""
    guid: Guid = NO_GUID
    public_key: str = ""
    key_id: str = ""
    comment: str = ""
    surls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """Which rows a caller may see: those with these ACLs, and others where the caller is the owner."""

    dn: str
    others: frozenset[int]
    own: frozenset[int]

    def of(self, row: Any) -> Any:
        """Return the condition that a row may be seen."""
        other = (row.owner != self.dn) & row.acl.in_(sorted(self.others))
        return other | ((row.owner == self.dn) & row.acl.in_(sorted(self.own)))


class AclRow(peewee.Model):
    """Table ``acl``: every text that some name has."""

    id = peewee.AutoField()
    text = peewee.TextField(unique=True)

    class Meta:
        """Named for administrators."""

        table_name = "acl"


class NameRow(peewee.Model):
    """Table ``name``; columns as in `Name`, `parent` for listing in the order of `path`."""

    path = peewee.CharField(max_length=1024, unique=True)
    parent = peewee.CharField(max_length=1024)
    is_directory = peewee.BooleanField()
    owner = peewee.TextField(default="")
    acl = peewee.IntegerField(constraints=[peewee.SQL("REFERENCES acl (id)")])
    guid = peewee.CharField(max_length=36, null=True, unique=True)
    public_key = peewee.CharField(max_length=64, default="")
    key_id = peewee.CharField(max_length=128, default="")
    comment = peewee.TextField(default="")

    class Meta:
        """Listing is by directory; what one ACL opens is found below a path."""

        table_name = "name"
        indexes = ((("parent", "path"), True), (("acl", "path"), False))


class ReplicaRow(peewee.Model):
    """Table ``replica``: a location is of one file only."""

    surl = peewee.TextField(unique=True)
    guid = peewee.CharField(max_length=36, index=True)

    class Meta:
        """As LFC's, without what a storage element knows better."""

        table_name = "replica"


class Tree:
    """Every method is one statement or one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._acl = database.bind(AclRow)
        self._name = database.bind(NameRow)
        self._replica = database.bind(ReplicaRow)
        if self.find(ROOT) is None:
            self.add(Name(ROOT, is_directory=True, acl=Acl()))

    # --- looking ---------------------------------------------------------------------------------

    def find(self, path: SitePath) -> Name | None:
        """Return what a path names, if anything."""
        return next(iter(self._names(self._name.path == path)), None)

    def find_many(self, paths: Iterable[SitePath]) -> dict[SitePath, Name]:
        """Return what exists among paths."""
        return {one.path: one for one in self._chosen(self._name.path, paths)}

    def find_guids(self, guids: Iterable[Guid]) -> dict[Guid, Name]:
        """Return what exists among GUIDs."""
        return {one.guid: one for one in self._chosen(self._name.guid, guids)}

    def holders(self, surls: Iterable[str]) -> dict[str, Guid]:
        """Return whose replicas these locations are."""
        found: dict[str, Guid] = {}
        for chunk in _chunks(surls):
            rows = self._replica.select().where(self._replica.surl.in_(chunk))
            found.update((row.surl, Guid(row.guid)) for row in rows)
        return found

    def acls(self) -> dict[int, Acl]:
        """Return every ACL that some name has."""
        return {row.id: _acl(row.text) for row in self._acl.select()}

    def children(self, directory: SitePath, sight: Sight | None, *, after: str, count: int) -> list[Name]:
        """Return names of a directory, in their order.

        Args:
            directory: which.
            sight: shows only what may be seen or leads to it; None shows all.
            after: the path to go on from.
            count: at most.
        """
        where = (self._name.parent == directory) & (self._name.path > after)
        if sight is not None:
            below = self._name.alias()
            inside = below.select(peewee.SQL("1")).where(
                _starts(below.path, self._name.path.concat("/"), self._name.path.concat("0"))
                & sight.of(below)
            )
            leads = (self._name.is_directory == True) & peewee.fn.EXISTS(inside)  # noqa: E712 - SQL
            where &= sight.of(self._name) | leads
        return self._names(where, count)

    def files_below(self, directory: SitePath, sight: Sight | None, *, after: str, count: int) -> list[Name]:
        """Return every file below a directory, in the order of paths; arguments as for `children`."""
        where = (self._name.is_directory == False) & (self._name.path > after)  # noqa: E712 - SQL
        if directory != ROOT:
            where &= _starts(self._name.path, f"{directory}/", f"{directory}0")
        if sight is not None:
            where &= sight.of(self._name)
        return self._names(where, count)

    def leads_somewhere(self, directory: SitePath, sight: Sight) -> bool:
        """Tell whether there is anything below a directory that may be seen."""
        below = _starts(self._name.path, f"{directory.rstrip('/')}/", f"{directory.rstrip('/')}0")
        return bool(self._name.select().where(below & sight.of(self._name)).exists())

    # --- changing --------------------------------------------------------------------------------

    def add(self, name: Name) -> None:
        """Add a name; its directory is there.

        Raises:
            AlreadyExists: the path, the GUID or a location is taken.
        """
        try:
            with self._database.transaction():
                self._name.create(**self._columns(name))
                self._add_replicas(name.guid, name.surls)
        except peewee.IntegrityError as error:
            raise AlreadyExists("the name, the GUID or a location is taken") from error

    def make_directories(self, path: SitePath, owner: str) -> Name:
        """Return a directory, made with those above it when it is not there; each inherits its ACL.

        Raises:
            NotADirectory: one of them is a file.
        """
        there = self.find(path)
        if there is None:
            above = self.make_directories(parent(path), owner)
            there = Name(path, is_directory=True, acl=above.acl.inherited(directory=True), owner=owner)
            self.add(there)
        if not there.is_directory:
            raise NotADirectory("a component of the path is a file")
        return there

    def add_replicas(self, guid: Guid, surls: Sequence[str]) -> bool:
        """Add locations to a file; return whether any was new.

        Raises:
            AlreadyExists: a location is another file's.
        """
        known = self.holders(surls)
        if any(holder != guid for holder in known.values()):
            raise AlreadyExists("the location is another file's")
        new = [surl for surl in surls if surl not in known]
        self._add_replicas(guid, new)
        return bool(new)

    def remove_replica(self, guid: Guid, surl: str) -> None:
        """Remove a location.

        Raises:
            NotFound: the file has no such replica.
        """
        chosen = (self._replica.surl == surl) & (self._replica.guid == guid)
        if not self._replica.delete().where(chosen).execute():
            raise NotFound("no such replica")

    def remove(self, name: Name) -> None:
        """Remove a file with its replicas, or a directory that is empty.

        Raises:
            NotEmpty: the directory is not.
        """
        with self._database.transaction():
            if name.is_directory and self._name.select().where(self._name.parent == name.path).exists():
                raise NotEmpty("the directory is not empty")
            if name.guid:
                self._replica.delete().where(self._replica.guid == name.guid).execute()
            self._name.delete().where(self._name.path == name.path).execute()

    def rename(self, name: Name, target: SitePath) -> None:
        """Give a name another path; what is below a directory goes with it.

        Raises:
            AlreadyExists: the path is taken.
        """
        row, old = self._name, name.path
        moved = peewee.Value(target).concat(peewee.fn.SUBSTR(row.path, len(old) + 1))
        moved_parent = peewee.Value(target).concat(peewee.fn.SUBSTR(row.parent, len(old) + 1))
        with self._database.transaction():
            if self.find(target) is not None:
                raise AlreadyExists("the name is taken")
            below = _starts(row.path, f"{old}/", f"{old}0")
            row.update(path=moved, parent=moved_parent).where(below).execute()
            row.update(path=target, parent=parent(target)).where(row.path == old).execute()

    def set_acl(self, name: Name, acl: Acl) -> None:
        """Replace the ACL of a name."""
        with self._database.transaction():
            update = self._name.update(acl=self._acl_id(acl))
            update.where(self._name.path == name.path).execute()

    def set_comment(self, name: Name, comment: str) -> None:
        """Replace the comment of a name."""
        self._name.update(comment=comment).where(self._name.path == name.path).execute()

    # --- rows ------------------------------------------------------------------------------------

    def _names(self, where: Any, count: int | None = None) -> list[Name]:
        row, acl = self._name, self._acl
        query = row.select(row, acl.text.alias("acl_text")).join(acl, on=(row.acl == acl.id)).where(where)
        names = [_name(found) for found in self._database.rows(query.order_by(row.path).limit(count))]
        replicas = self._replicas([one.guid for one in names if one.guid])
        return [replace(one, surls=tuple(sorted(replicas.get(one.guid, ())))) for one in names]

    def _chosen(self, column: Any, values: Iterable[Any]) -> list[Name]:
        return [one for chunk in _chunks(values) for one in self._names(column.in_(chunk))]

    def _replicas(self, guids: Sequence[Guid]) -> dict[Guid, list[str]]:
        found: dict[Guid, list[str]] = {}
        for chunk in _chunks(guids):
            for row in self._database.rows(self._replica.select().where(self._replica.guid.in_(chunk))):
                found.setdefault(Guid(row.guid), []).append(row.surl)
        return found

    def _add_replicas(self, guid: Guid, surls: Sequence[str]) -> None:
        if surls:
            self._replica.insert_many([{"surl": surl, "guid": guid} for surl in surls]).execute()

    def _columns(self, name: Name) -> dict[str, Any]:
        return {
            "path": name.path,
            "parent": parent(name.path) if name.path != ROOT else "",
            "is_directory": name.is_directory,
            "owner": name.owner,
            "acl": self._acl_id(name.acl),
            "guid": name.guid or None,
            "public_key": name.public_key,
            "key_id": name.key_id,
            "comment": name.comment,
        }

    def _acl_id(self, acl: Acl) -> int:
        text = str(acl)
        self._acl.insert(text=text).on_conflict_ignore().execute()
        return int(self._acl.get(self._acl.text == text).id)


def _starts(path: Any, low: Any, high: Any) -> Any:
    """Return the condition that a path is below another: ``0`` is the character after ``/``."""
    return peewee.Expression(path, peewee.OP.GT, low) & peewee.Expression(path, peewee.OP.LT, high)


@lru_cache(maxsize=4096)
def _acl(text: str) -> Acl:
    return Acl.stored(text)


def _name(row: Any) -> Name:
    return Name(
        path=SitePath(row.path),
        is_directory=bool(row.is_directory),
        acl=_acl(row.acl_text),
        owner=row.owner,
        guid=Guid(row.guid or ""),
        public_key=row.public_key,
        key_id=row.key_id,
        comment=row.comment,
    )


def _chunks(values: Iterable[Any]) -> list[list[Any]]:
    everything = list(dict.fromkeys(values))
    return [everything[start : start + _CHUNK] for start in range(0, len(everything), _CHUNK)]
