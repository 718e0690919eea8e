"""The table of calls: what each takes, which right it checks, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mdm_files.access import Access, object_of
from mdm_files.tree import Name, Tree
from srm_dicom.db.database import Database
from srm_dicom.errors import (
    AlreadyExists,
    InvalidRequest,
    IsADirectory,
    MdmError,
    NotADirectory,
    NotFound,
    TooLarge,
)
from srm_dicom.ids import Lfn, SitePath, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.declare import Declaration, Right
from srm_dicom.wire import names as wire

T = TypeVar("T")
_LETTERS = frozenset("rwx")


@dataclass(frozen=True, slots=True)
class Context:
    """What a call may use."""

    database: Database
    tree: Tree
    access: Access
    dn: str


@dataclass(frozen=True, slots=True)
class Call:
    """A row of the table.

    Attributes:
        right: what it checks, name by name.
        since: first version that has it.
        request: the message that it takes.
        changes_rights: it is audited as such.
    """

    name: str
    right: Declaration
    since: str
    request: type[Any]
    run: Callable[[Context, Any], wire.Message]
    changes_rights: bool = False


def lookup(context: Context, request: wire.Lookup) -> wire.Items:
    """Return the record of each reference."""
    _bounded(request.references)
    return wire.Items(tuple(_item(context, one) for one in context.access.resolve_each(request.references)))


def list_(context: Context, request: wire.Listing) -> wire.Page:
    """Return a page of a directory's names: all of them with ``r``, else those the caller may see."""
    directory = context.access.resolve(request.reference)
    if not directory.is_directory:
        return _granted(context, [directory], more=False)
    count = _page(request)
    sight = None if context.access.lists_all(directory) else context.access.sight
    found = context.tree.children(directory.path, sight, after=request.after, count=count + 1)
    context.access.seen.granted.append(directory.path)
    records = tuple(_shown(context, name) for name in found[:count])
    return wire.Page(records, more=len(found) > count)


def tree(context: Context, request: wire.Listing) -> wire.Page:
    """Return a page of the files below a directory that the caller may see."""
    directory = context.access.resolve(request.reference)
    if not directory.is_directory:
        return _granted(context, [directory], more=False)
    count = _page(request)
    sight = context.access.sight
    found = context.tree.files_below(directory.path, sight, after=request.after, count=count + 1)
    return _granted(context, found[:count], more=len(found) > count)


def register(context: Context, request: wire.Register) -> wire.Outcomes:
    """Register files; one that is there already with the same GUID and key only gains replicas.

    It keeps its name, if it was given another one.
    """
    return _each(context, request.records, _register)


def unregister(context: Context, request: wire.References) -> wire.Outcomes:
    """Remove files with their replicas; one that is not there is unchanged."""
    return _each(context, request.references, _unregister)


def remove(context: Context, request: wire.References) -> wire.Outcomes:
    """Remove files and empty directories."""
    return _each(context, request.references, _remove)


def mkdir(context: Context, request: wire.MakeDirectory) -> wire.Done:
    """Make a directory."""
    path = Lfn.parse(request.path).path
    acl = None if request.acl is None else _acl(request.acl)
    there = context.tree.find(path)
    if there is not None and context.access.sees(there):
        if not there.is_directory:
            raise NotADirectory("the name is a file's")
        return wire.Done()
    above = context.access.directory_of(path)
    if above.path != parent(path):
        if not request.parents:
            raise NotFound("the directory above does not exist")
        above = context.tree.make_directories(parent(path), context.dn)
    if not above.is_directory:
        raise NotADirectory("the name above is a file's")
    own = above.acl.inherited(directory=True) if acl is None else acl
    context.tree.add(Name(path, is_directory=True, acl=own, owner=context.dn))
    context.access.seen.granted.append(path)
    return wire.Done()


def rename(context: Context, request: wire.Rename) -> wire.Done:
    """Give a file or a directory another path."""
    source = context.access.writable(request.source)
    context.access.directory_of(source.path)
    target = Lfn.parse(request.target).path
    above = context.access.directory_of(target)
    if above.path != parent(target) or not above.is_directory:
        raise NotFound("the directory above does not exist")
    if f"{target}/".startswith(f"{source.path}/"):
        raise InvalidRequest("a directory cannot go below itself")
    context.tree.rename(source, target)
    context.access.seen.granted.append(object_of(source))
    return wire.Done()


def getacl(context: Context, request: wire.Reference) -> wire.AclText:
    """Return owner and ACL."""
    name = context.access.owned(request.reference)
    context.access.seen.granted.append(object_of(name))
    return wire.AclText(name.owner, str(name.acl))


def setacl(context: Context, request: wire.SetAcl) -> wire.Outcomes:
    """Replace the ACL of names."""
    acl = _acl(request.acl)

    def change(context: Context, reference: str) -> bool:
        name = context.access.owned(reference)
        context.tree.set_acl(name, acl)
        context.access.seen.granted.append(object_of(name))
        return name.acl != acl

    return _each(context, request.references, change)


def setcomment(context: Context, request: wire.SetComment) -> wire.Done:
    """Replace the comment."""
    if len(request.comment) > wire.MAX_COMMENT_CHARS or not request.comment.isprintable():
        raise InvalidRequest(f"a comment is one line of at most {wire.MAX_COMMENT_CHARS} characters")
    name = context.access.writable(request.reference)
    context.tree.set_comment(name, request.comment)
    context.access.seen.granted.append(object_of(name))
    return wire.Done()


def delcomment(context: Context, request: wire.Reference) -> wire.Done:
    """Remove the comment."""
    return setcomment(context, wire.SetComment(request.reference, ""))


def addreplica(context: Context, request: wire.Replica) -> wire.Done:
    """Add a location to a file."""
    if not wire.is_surl(request.surl):
        raise InvalidRequest("a location is a URL")
    name = _file(context.access.writable(request.reference))
    context.tree.add_replicas(name.guid, [request.surl])
    context.access.seen.granted.append(name.guid)
    return wire.Done()


def delreplica(context: Context, request: wire.Replica) -> wire.Done:
    """Remove a location of a file."""
    name = _file(context.access.writable(request.reference))
    context.tree.remove_replica(name.guid, request.surl)
    context.access.seen.granted.append(name.guid)
    return wire.Done()


_READ, _WRITE, _FIRST = Right.NAME_READ, Right.NAME_WRITE, "0.1"
CALLS: dict[str, Call] = {
    call.name: call
    for call in (
        Call("lookup", _READ, _FIRST, wire.Lookup, lookup),
        Call("list", _READ, _FIRST, wire.Listing, list_),
        Call("tree", _READ, _FIRST, wire.Listing, tree),
        Call("register", _WRITE, _FIRST, wire.Register, register),
        Call("unregister", _WRITE, _FIRST, wire.References, unregister),
        Call("remove", _WRITE, _FIRST, wire.References, remove),
        Call("mkdir", _WRITE, _FIRST, wire.MakeDirectory, mkdir),
        Call("rename", _WRITE, _FIRST, wire.Rename, rename),
        Call("getacl", _WRITE, _FIRST, wire.Reference, getacl),
        Call("setacl", _WRITE, _FIRST, wire.SetAcl, setacl, changes_rights=True),
        Call("setcomment", _WRITE, _FIRST, wire.SetComment, setcomment),
        Call("delcomment", _WRITE, _FIRST, wire.Reference, delcomment),
        Call("addreplica", _WRITE, _FIRST, wire.Replica, addreplica),
        Call("delreplica", _WRITE, _FIRST, wire.Replica, delreplica),
    )
}


# --- one item ------------------------------------------------------------------------------------


def _register(context: Context, record: wire.FileRecord) -> bool:
    if record.kind != "file" or not record.guid:
        raise InvalidRequest("a file has a GUID")
    there = context.tree.find(record.lfn) or context.tree.find_guids([record.guid]).get(record.guid)
    if there is not None and context.access.sees(there):
        return _register_again(context, context.access.writable(there.path), record)
    acl = _acl(record.acl)
    context.access.directory_of(record.lfn)
    above = context.tree.make_directories(parent(record.lfn), context.dn)
    name = Name(
        path=SitePath(record.lfn),
        is_directory=False,
        acl=acl if acl.entries else above.acl.inherited(directory=False),
        owner=context.dn,
        guid=record.guid,
        public_key=record.public_key,
        key_id=record.key_id,
        comment=record.comment,
        surls=record.surls,
    )
    context.tree.add(name)
    context.access.seen.granted.append(name.guid)
    return True


def _register_again(context: Context, name: Name, record: wire.FileRecord) -> bool:
    asked = (record.guid, record.key_id, record.public_key)
    if (name.guid, name.key_id, name.public_key) != asked:
        raise AlreadyExists("the name is taken by another file or key")
    context.access.seen.granted.append(name.guid)
    return context.tree.add_replicas(name.guid, record.surls)


def _unregister(context: Context, reference: str) -> bool:
    try:
        name = _file(context.access.writable(reference))
    except NotFound:
        return False
    return _removed(context, name)


def _remove(context: Context, reference: str) -> bool:
    return _removed(context, context.access.writable(reference))


def _removed(context: Context, name: Name) -> bool:
    context.access.directory_of(name.path)
    context.tree.remove(name)
    context.access.seen.granted.append(object_of(name))
    return True


def _item(context: Context, found: Name | MdmError) -> wire.Item:
    if isinstance(found, MdmError):
        return wire.Item(error=type(found).__name__, detail=found.message)
    context.access.seen.granted.append(object_of(found))
    return wire.Item(_record(context, found))


# --- many ----------------------------------------------------------------------------------------


def _each(context: Context, items: Sequence[T], change: Callable[[Context, T], bool]) -> wire.Outcomes:
    """Change items one by one and write them all at once; a refused one leaves nothing behind."""
    _bounded(items)
    with context.database.transaction():
        return wire.Outcomes(tuple(_outcome(context, item, change) for item in items))


def _outcome(context: Context, item: T, change: Callable[[Context, T], bool]) -> wire.Outcome:
    try:
        with context.database.transaction():
            return wire.Outcome("done" if change(context, item) else "unchanged")
    except MdmError as error:
        return wire.Outcome("refused", type(error).__name__, error.message)


def _bounded(items: Sequence[Any]) -> None:
    if len(items) > wire.MAX_ITEMS:
        raise TooLarge(f"a call has at most {wire.MAX_ITEMS} items")


def _page(request: wire.Listing) -> int:
    if not 0 < request.count <= wire.MAX_ITEMS:
        raise InvalidRequest(f"a page has between 1 and {wire.MAX_ITEMS} entries")
    return request.count


def _granted(context: Context, names: Iterable[Name], *, more: bool) -> wire.Page:
    shown = list(names)
    context.access.seen.granted.extend(map(object_of, shown))
    return wire.Page(tuple(_record(context, name) for name in shown), more=more)


def _shown(context: Context, name: Name) -> wire.FileRecord:
    """Return a directory's entry: the whole record, or the bare name of what may only be listed."""
    if context.access.sees(name):
        return _record(context, name)
    return wire.FileRecord(name.path, kind="directory" if name.is_directory else "file")


def _record(context: Context, name: Name) -> wire.FileRecord:
    return wire.FileRecord(
        lfn=name.path,
        guid=name.guid,
        surls=name.surls,
        public_key=name.public_key,
        key_id=name.key_id,
        acl=str(name.acl) if context.access.owns(name) else "",
        comment=name.comment,
        kind="directory" if name.is_directory else "file",
    )


def _file(name: Name) -> Name:
    if name.is_directory:
        raise IsADirectory("this is a directory")
    return name


def _acl(text: str) -> Acl:
    acl = Acl.parse(text)
    if any(not entry.permissions <= _LETTERS for entry in acl.entries):
        raise InvalidRequest("permissions of names are letters of rwx")
    return acl
