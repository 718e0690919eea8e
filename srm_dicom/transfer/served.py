"""The files of one node as its doors serve them: namespace for names, scratch for bytes.

The file right is decided anew at every call, by `broker.access`. Beside every file whose facts are
known stands its signed manifest, under the same name with ``.manifest`` after it; a namespace has no
such names of its own, so nothing is hidden by them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from srm_dicom.audit.event import Action, Event, Outcome, printable
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import UPLOADS, Areas
from srm_dicom.broker.listings import is_staged
from srm_dicom.broker.spending import Spending
from srm_dicom.clock import Clock, coarse
from srm_dicom.errors import IntegrityError, NotADirectory, NotFound, Overloaded, RequestExpired
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import REPLACE, SEE
from srm_dicom.ids import SitePath, parent
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.store.bundles import bundle_of
from srm_dicom.store.namespace import Entry
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.transfer.files import FileInfo
from srm_dicom.transfer.opened import OpenBundle, OpenFile, close_all, for_bundles, open_read
from srm_dicom.turns import Turns
from srm_dicom.wire.bundle import Bundle

MANIFEST_SUFFIX = ".manifest"
_PAGE = 2000
"""Entries of a directory that are held at a time."""


class StagedFilesOfNode:
    """`files.ServedFiles` over the rows and the scratch area of one node."""

    def __init__(
        self,
        node: str,
        area: ScratchArea,
        stores: Stores,
        access: FileAccess,
        audit: AuditLog,
        clock: Clock,
        spending: Spending | None = None,
        areas: Areas | None = None,
    ) -> None:
        """Serve what is in `area`; `areas` says where its callers may write, if anywhere."""
        self._node = node
        self._area = area
        self._namespace = stores.namespace
        self._staged = stores.staged
        self._uploads = stores.uploads
        self._access = access
        self._audit = audit
        self._clock = clock
        self._spending = spending
        self._areas = areas or Areas()
        self._descriptors = Turns(for_bundles())

    def stat(self, principal: Principal, path: SitePath) -> FileInfo:
        """Look a name up; see `files.ServedFiles.stat`."""
        if path.endswith(MANIFEST_SUFFIX):
            entry = self._access.visible(principal, _without_suffix(path), "stat")
            size_bytes = len(_manifest(entry))
            return FileInfo(
                path,
                is_directory=False,
                size_bytes=size_bytes,
                adler32=None,
                shown_at=entry.shown_at,
                online=True,
            )
        if path.startswith(f"{UPLOADS}/"):
            return self._upload(principal, path)
        entry = self._access.visible(principal, path, "stat")
        above = self._access.above(entry.path) if self._areas.take(entry.path) else None
        return self._info(principal, entry, above, online=bool(self._find(entry)))

    def listdir(self, principal: Principal, path: SitePath) -> Iterable[FileInfo]:
        """Return what the caller may see in a directory; see `files.ServedFiles.listdir`."""
        directory = self._access.visible(principal, path, "list")
        if not directory.is_directory:
            raise NotADirectory("this is a file")
        return self._below(principal, directory)

    def _below(self, principal: Principal, directory: Entry) -> Iterator[FileInfo]:
        for page in self._namespace.pages(directory.path, _PAGE):
            entries = self._access.shown(principal, page)
            staged = self._staged.find([entry.guid for entry in entries if entry.guid])
            for entry in entries:
                yield self._info(principal, entry, directory, online=is_staged(entry, staged))

    def open(self, principal: Principal, path: SitePath) -> OpenFile | OpenBundle:
        """Open a file that is staged here; see `files.ServedFiles.open`."""
        if path.endswith(MANIFEST_SUFFIX):
            entry, _ = self._access.file(principal, _without_suffix(path), "manifest")
            return OpenFile.in_memory(_manifest(entry))
        entry, rule = self._access.file(principal, path, "open")
        staged = self._find(entry)
        opened = self._open(principal, entry, staged, partial(self._charge, principal, entry))
        try:
            self._staged.touch([file.guid for file in staged], self._node, self._clock.now())
            self._audit.record(_released(principal, entry, rule))
        except BaseException:
            opened.close()
            raise
        return opened

    def _upload(self, principal: Principal, path: SitePath) -> FileInfo:
        """Tell the owner of an upload how much of it is here: whoever goes on with it asks."""
        upload = self._uploads.find(path.removeprefix(f"{UPLOADS}/"))
        if upload is None or upload.owner != principal.dn or not principal.in_scope(SEE, upload.path):
            raise NotFound("no such file or directory")
        try:
            size_bytes = upload.in_order_bytes(self._area.incoming(upload.name).stat().st_size)
        except FileNotFoundError:
            size_bytes = 0
        received = upload.received
        return FileInfo(
            path,
            is_directory=False,
            size_bytes=size_bytes,
            adler32=received.adler32 if received else None,
            shown_at=coarse(self._clock.now()),
            online=False,
        )

    def _info(self, principal: Principal, entry: Entry, above: Entry | None, *, online: bool) -> FileInfo:
        """Describe an entry as the caller may know it; `above` is its directory.

        An area's own directory stays, whoever may write in it, and outside of areas nobody writes.
        """
        removable = (
            self._areas.take(parent(entry.path))
            and not entry.members
            and self._access.may_change_name(principal, above, entry.path, REPLACE)
        )
        writable = (
            self._areas.take(entry.path)
            and (entry.is_directory or removable)
            and self._access.may_write(principal, entry)
        )
        return FileInfo(
            path=entry.path,
            is_directory=entry.is_directory,
            size_bytes=entry.facts.size_bytes if entry.facts else None,
            adler32=entry.facts.adler32 if entry.facts else None,
            shown_at=entry.shown_at,
            online=online,
            writable=writable,
            removable=removable,
        )

    def _charge(self, principal: Principal, entry: Entry, size_bytes: int) -> None:
        """Charge a file, or the part of it that is about to be sent."""
        if self._spending is not None:
            files = [file.guid or file.path for file in entry.files]
            self._spending.charge(principal, entry.release, files, size_bytes)

    def _find(self, entry: Entry) -> list[Staged]:
        """Return what is staged on this node of an entry's own generation: all of it, or nothing."""
        found = self._staged.find([file.guid for file in entry.files if file.guid])
        if entry.facts is None or not found or not is_staged(entry, found):
            return []
        staged = [found[file.guid] for file in entry.files if file.guid]
        return staged if all(place.node == self._node for place in staged) else []

    def _open(
        self, principal: Principal, entry: Entry, staged: Sequence[Staged], charge: Callable[[int], None]
    ) -> OpenFile | OpenBundle:
        if not staged:
            raise _not_staged()
        if bundle := bundle_of(entry):
            return self._open_bundle(principal, bundle, staged, charge)
        (fd,) = self._open_all(staged)
        adler32 = entry.facts.adler32 if entry.facts else None
        return OpenFile(fd, staged[0].size_bytes, adler32, charge)

    def _open_bundle(
        self, principal: Principal, bundle: Bundle, staged: Sequence[Staged], charge: Callable[[int], None]
    ) -> OpenBundle:
        count = len(staged)
        if not self._descriptors.take(principal.dn, count=count):
            raise Overloaded("too many bundles are being read", advice="Try again when others have ended.")
        with ExitStack() as stack:
            stack.callback(self._descriptors.release, principal.dn, count)
            fds = self._open_all(staged)
            return OpenBundle(bundle, fds, charge, stack.pop_all().close)

    def _open_all(self, staged: Sequence[Staged]) -> list[int]:
        """Open what is staged: all of it, or nothing."""
        fds: list[int] = []
        with ExitStack() as stack:
            stack.callback(close_all, fds)
            for place in staged:
                fds.append(self._open_one(place))  # noqa: PERF401 - what is open is closed if one is not there
            stack.pop_all()
        return fds

    def _open_one(self, place: Staged) -> int:
        try:
            fd = open_read(self._area.path(StagedName(place.guid, place.generation)))
        except FileNotFoundError as error:
            raise _not_staged() from error
        if os.fstat(fd).st_size != place.size_bytes:
            os.close(fd)
            raise IntegrityError("a staged file has not its length")
        return fd


def _not_staged() -> RequestExpired:
    return RequestExpired(
        "the file is not staged here",
        advice="Ask the SRM for it (srmPrepareToGet) and use the TURL it answers.",
    )


def _released(principal: Principal, entry: Entry, rule: str) -> Event:
    return Event.by(
        principal,
        Action.BYTES_RELEASED,
        Outcome.ALLOWED,
        operation="open",
        project=entry.release.project if entry.release else "",
        objects=(entry.path, *(file.guid for file in entry.files if file.guid)),
        rule=printable(rule),
    )


def _without_suffix(path: SitePath) -> SitePath:
    return SitePath(path.removesuffix(MANIFEST_SUFFIX))


def _manifest(entry: Entry) -> bytes:
    if entry.facts is None:
        raise _not_staged()
    return entry.facts.manifest.encode()
