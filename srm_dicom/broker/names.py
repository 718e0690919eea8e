"""Names that users make, change and remove: one set of functions behind every door.

Each call decides the file right: `w` on the directory that has the name. Names are rows of the outer zone
and change at once; the bytes of a file that lost its name are removed by the inner zone, which comes for
that work.

Outside of the areas (`broker.areas`) names are the registrar's. Who has `w` there may remove them, and no
more: the catalogues forget the file, and what it was made from stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import Areas, inherited
from srm_dicom.broker.states import Event, after, before
from srm_dicom.broker.verdicts import ABSENT, Verdict
from srm_dicom.broker.views import FileState
from srm_dicom.clock import Clock, coarse
from srm_dicom.errors import (
    AlreadyExists,
    Busy,
    InvalidRequest,
    IsADirectory,
    MdmError,
    NotADirectory,
    NotAuthorised,
    NotEmpty,
    NotFound,
    NotSupported,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import LEAD, REPLACE, WRITE
from srm_dicom.ids import MAX_PATH_CHARS, SitePath, join, name
from srm_dicom.rights.acl import Acl
from srm_dicom.store.namespace import Entry
from srm_dicom.store.stores import Stores

_REMOVED = "the file was removed, or another took its place"
_CHUNK = 500
"""So many names are removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Names:
    """The functions; `operation` is always the caller's protocol's own word, for the audit."""

    stores: Stores
    access: FileAccess
    areas: Areas
    clock: Clock

    def make_directory(self, principal: Principal, path: SitePath, operation: str) -> None:
        """Make one directory.

        Raises:
            AlreadyExists: the name is taken.
            NotFound, NotADirectory: there is no directory to make it in.
            NotAuthorised: the caller may not write there.
            NotSupported: images are handed in there.
        """
        self._refuse_handed_in(principal, path)
        if self.stores.namespace.find(path) is not None and self._visible(principal, path, operation):
            raise AlreadyExists(f"{name(path) or '/'} exists")
        above = self._writable(principal, path, operation, LEAD)
        self._refuse_registrars(path, above)
        with self.stores.database.transaction():
            self._refuse_written(path)
            self.stores.namespace.add_directory(
                path,
                principal.dn,
                inherited(above.acl, directory=True),
                coarse(self.clock.now()),
                above.release,
            )

    def remove_directory(
        self, principal: Principal, path: SitePath, operation: str, *, recursive: bool = False
    ) -> None:
        """Remove a directory; with `recursive` everything in it too, or nothing at all.

        Raises:
            NotEmpty: something is in it, or is being written into it.
            NotFound, NotADirectory, NotAuthorised: there is none, it is a file, or the caller may not.
        """
        entry = self._seen(principal, path, operation)
        if not entry.is_directory:
            raise NotADirectory("this is a file")
        above = self._writable(principal, path, operation, REPLACE)
        if not self.areas.take(path):
            _refuse_registered(principal, entry, above)
        with self.stores.database.transaction():
            entry = self._still(entry)
            below = list(self._below(entry))
            if below and not recursive:
                raise NotEmpty("the directory is not empty")
            for one in (entry, *(one for one in below if one.is_directory)):
                if self.stores.uploads.in_directory(one.path):
                    raise NotEmpty("a file is being written into the directory")
                if below:
                    words = "you may not remove everything in the directory"
                    self.access.require_writable(principal, one, operation, words)
            self._drop([*reversed(below), entry])

    def remove_files(
        self, principal: Principal, paths: Sequence[SitePath], operation: str
    ) -> list[MdmError | None]:
        """Remove files, each with what is being written to its name; tells for each why not."""
        verdicts = self.access.writable(principal, paths, operation, REPLACE)
        known = [verdict.path for verdict in verdicts if verdict.entry is not None]
        there = {*self.stores.namespace.find_many(known), *self.stores.uploads.of_paths(known)}
        failures: list[MdmError | None] = []
        for start in range(0, len(verdicts), _CHUNK):
            chunk = verdicts[start : start + _CHUNK]
            if not any(verdict.path in there for verdict in chunk):  # nothing to wait for other writers for
                failures += [verdict.error or NotFound(ABSENT) for verdict in chunk]
                continue
            with self.stores.database.transaction():
                failures += [self._remove_file(principal, verdict) for verdict in chunk]
        return failures

    def rename(
        self,
        principal: Principal,
        source: SitePath,
        target: SitePath,
        operation: str,
        *,
        overwrite: bool = False,
    ) -> bool:
        """Give a file, or a directory with everything in it, another name; into a directory if that is one.

        With `overwrite` a file takes the place of another; tells whether one did.

        Raises:
            AlreadyExists: the new name is taken.
            NotFound, NotADirectory, NotAuthorised: as for `make_directory`, of either name; NotAuthorised
                also if the caller may not write the file that has the new name.
            NotSupported: the names are of different areas, or of one where images are handed in.
            InvalidRequest: a directory is to move into itself, or the path gets too long.
        """
        for path in (source, target):
            self._refuse_handed_in(principal, path)
        entry = self._seen(principal, source, operation)
        there = self.stores.namespace.find(target)
        if there is not None and there.is_directory and target != source:
            target = join(target, name(source))
        if target == source:
            return False
        scope = REPLACE if entry.is_directory else WRITE  # whoever may create renames files, by the profile
        self._refuse_registrars(source, self._writable(principal, source, operation, scope))
        self._refuse_registrars(target, self._writable(principal, target, operation))
        if self.areas.of(source) != self.areas.of(target):
            raise NotSupported("a file is not moved to another area", advice="Copy it.")
        if target.startswith(f"{source}/"):
            raise InvalidRequest("a directory cannot move into itself")
        with self.stores.database.transaction():
            entry = self._still(entry)
            self._refuse_written(target)
            self._refuse_long(entry, len(target) - len(source))
            replaced = self._replaced(principal, entry, target, operation) if overwrite else []
            if replaced:
                self._drop(replaced)
            self.stores.namespace.rename(source, target)
        return bool(replaced)

    def change_acl(
        self, principal: Principal, path: SitePath, change: Callable[[Acl], Acl], operation: str
    ) -> None:
        """Let the owner of a name change its ACL, whatever that leaves to the owner.

        Raises:
            NotFound: there is no such name that the caller may see.
            NotAuthorised: see `FileAccess.administer`.
            InvalidRequest: the change makes an ACL that is not kept.
        """
        entry = self.stores.namespace.find(path)
        if entry is None or entry.owner != principal.dn:
            entry = self._seen(principal, path, operation)
        self.areas.of(path)
        self.access.administer(principal, entry, operation)
        with self.stores.database.transaction():
            now = self.stores.namespace.find(path)
            if now is None or now.guid != entry.guid or now.owner != entry.owner:
                raise NotFound(ABSENT)
            self.stores.namespace.set_acl(path, change(now.acl))
        self.access.changed(principal, path, operation)

    def _replaced(self, principal: Principal, entry: Entry, target: SitePath, operation: str) -> list[Entry]:
        """Return the file whose place a file takes, if there is one."""
        there = self.stores.namespace.find(target)
        if there is None or there.is_directory or entry.is_directory:
            return []
        self.access.require_writable(principal, there, operation, "you may not replace this file")
        return [there]

    def _remove_file(self, principal: Principal, verdict: Verdict) -> MdmError | None:
        if verdict.entry is None:
            return verdict.error
        try:
            if not self.areas.take(verdict.path):
                return self._unregister(principal, verdict.path, verdict.entry)
            with self.stores.database.transaction():
                return self._remove_there(verdict.path)
        except MdmError as error:
            return error

    def _unregister(self, principal: Principal, path: SitePath, above: Entry) -> MdmError | None:
        entry = self.stores.namespace.find(path)
        if entry is None:
            return NotFound(ABSENT)
        if entry.is_directory:
            return IsADirectory("this is a directory")
        _refuse_registered(principal, entry, above)
        self._drop([entry])
        return None

    def _remove_there(self, path: SitePath) -> MdmError | None:
        entry = self.stores.namespace.find(path)
        if entry is not None and entry.is_directory:
            return IsADirectory("this is a directory")
        ended = self._end_upload(path)
        if entry is None:
            return None if ended else NotFound(ABSENT)
        self._drop([entry])
        return None

    def _end_upload(self, path: SitePath) -> bool:
        upload = self.stores.uploads.find_path(path)
        if upload is None:
            return False
        requests = self.stores.requests
        files = requests.some_files(upload.token, (), [path])
        target = after(FileState.SPACE_AVAILABLE, Event.ABORT)
        requests.move([file.id for file in files], before(Event.ABORT), target, explanation=_REMOVED)
        self.stores.uploads.end(upload.token, [path])
        return True

    def _drop(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.stores.namespace.remove(entry.path)
        files = [entry for entry in entries if not entry.is_directory]
        self.stores.removals.add([entry for entry in files if self.areas.take(entry.path)])
        registered = [entry for entry in files if not self.areas.take(entry.path)]
        self.stores.unregistrations.add(registered, self.clock.now())
        forget(self.stores, files)

    def _below(self, entry: Entry) -> Iterator[Entry]:
        for child in self.stores.namespace.children(entry.path):
            yield child
            if child.is_directory:
                yield from self._below(child)

    def _still(self, entry: Entry) -> Entry:
        """Return what was looked at as it is now."""
        now = self.stores.namespace.find(entry.path)
        if now is None or now.kind is not entry.kind:
            raise NotFound(ABSENT)
        return now

    def _visible(self, principal: Principal, path: SitePath, operation: str) -> bool:
        (verdict,) = self.access.seen(principal, [path], operation)
        return verdict.entry is not None

    def _seen(self, principal: Principal, path: SitePath, operation: str) -> Entry:
        return self.access.visible(principal, path, operation)

    def _writable(self, principal: Principal, path: SitePath, operation: str, scope: str = WRITE) -> Entry:
        (verdict,) = self.access.writable(principal, [path], operation, scope)
        if verdict.entry is None:
            raise verdict.error or NotFound(ABSENT)
        return verdict.entry

    def _refuse_handed_in(self, principal: Principal, path: SitePath) -> None:
        """Refuse what makes no sense where names last until an image is registered under its own."""
        if self.areas.seal(path) and self.access.may_change_name(principal, self.access.above(path), path):
            raise NotSupported("images are uploaded here; there are no directories and no other names")

    def _refuse_registrars(self, path: SitePath, above: Entry) -> None:
        """Refuse to make or change a name that only the registrar makes."""
        if above.release is not None and not self.areas.take(path):
            raise NotSupported("names of registered files are made by the registrar alone")
        self.areas.of(path)

    def _refuse_written(self, path: SitePath) -> None:
        if self.stores.uploads.find_path(path) is not None:
            raise Busy("this name is being written")

    def _refuse_long(self, entry: Entry, growth: int) -> None:
        longest = max((len(one.path) for one in (entry, *self._below(entry))), default=0)
        if growth > 0 and longest + growth > MAX_PATH_CHARS:
            raise InvalidRequest(f"a path has at most {MAX_PATH_CHARS} characters")


def _refuse_registered(principal: Principal, entry: Entry, above: Entry) -> None:
    """Refuse to remove what is neither a file of a release nor a directory in it, or not so."""
    if entry.owner or entry.release is None or above.release is None:
        raise NotAuthorised(
            "nobody writes here", advice="Write below a directory that the site has opened for it."
        )
    if principal.limited:
        raise NotAuthorised(
            "a limited credential removes no registered files", advice="Use a proxy that is not limited."
        )


def forget(stores: Stores, files: Sequence[Entry]) -> None:
    """Take files that lost their names out of scratch and of spaces; who holds one hears that it is gone."""
    guids = [entry.guid for entry in files if entry.guid]
    stores.staged.forget(guids)
    stores.spaces.take_out(guids)
    aborted = after(FileState.PINNED, Event.ABORT)
    for guid in guids:
        stores.requests.move_guid(guid, before(Event.ABORT), aborted, explanation=_REMOVED)
