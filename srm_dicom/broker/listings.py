"""What is told of names: srmLs, srmCheckPermission, srmGetPermission.

Nothing here waits for a source. A name that the caller may not know has a failure and no entry. A name
that is being written for the first time is told of too, as busy, to whoever may list its directory and to
its writer: ARC looks at size and checksum before it says that a put is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.areas import inherited
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.verdicts import Verdict
from srm_dicom.broker.views import Listing
from srm_dicom.errors import Busy, NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import SEE
from srm_dicom.ids import Guid, SitePath, Surl, parent
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Upload


class Listings:
    """Names of the namespace, as one caller may see them."""

    def __init__(self, surls: OwnSurls, access: FileAccess, stores: Stores) -> None:
        self._surls = surls
        self._access = access
        self._staged = stores.staged
        self._uploads = stores.uploads
        self._namespace = stores.namespace

    def entries(
        self, principal: Principal, surls: Sequence[str], operation: str, scope: str = SEE
    ) -> list[Listing]:
        """Tell of names, in their order, and of nothing below them; of `scope` see `FileAccess.seen`."""
        parsed = [self._surls.parse(text) for text in surls]
        known = [surl.path for surl in parsed if isinstance(surl, Surl)]
        verdicts = self._access.seen(principal, known, operation, scope)
        online = self._online([verdict.entry for verdict in verdicts if verdict.entry])
        writing = self._written(verdicts)
        told = iter(verdicts)
        return [
            self._listing(principal, surl, next(told), online, writing)
            if isinstance(surl, Surl)
            else Listing(text, None, None, surl)
            for text, surl in zip(surls, parsed, strict=True)
        ]

    def busy(self, principal: Principal, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Say of names that are being written for the first time that they are, to who may know of them."""
        writing = self._written(verdicts)
        return [
            replace(verdict, error=Busy("this file is being written"))
            if self._is_to_be(principal, verdict.path, writing) is not None
            else verdict
            for verdict in verdicts
        ]

    def listing(
        self, principal: Principal, surl: str, levels: int, offset: int, count: int | None
    ) -> Listing:
        """Tell of a name and `levels` of what is below it; `offset` and `count` cut the first level."""
        (top,) = self.entries(principal, [surl], "srmLs")
        if top.entry is None or not top.entry.is_directory or levels < 1:
            return top
        return self._below(principal, top, levels, offset, count)

    def _below(
        self, principal: Principal, top: Listing, levels: int, offset: int, count: int | None
    ) -> Listing:
        if top.entry is None:
            return top
        entries = self._access.children(principal, top.entry)
        writing = self._written_in(principal, top.entry, entries)
        entries = sorted([*entries, *writing.values()], key=lambda entry: entry.path) if writing else entries
        chosen = entries[offset : None if count is None else offset + count]
        online = self._online(chosen)
        shown = {id(entry) for entry in self._access.shown(principal, chosen)}
        children = []
        for entry in chosen:
            busy = entry.path in writing
            child = self._child(entry, online, busy=busy, shown=busy or id(entry) in shown)
            deeper = levels > 1 and child.entry is not None and entry.is_directory
            children.append(self._below(principal, child, levels - 1, 0, None) if deeper else child)
        more = len(entries) > offset + len(chosen)
        return replace(top, children=tuple(children), more=more)

    def _online(self, entries: Iterable[Entry]) -> dict[Guid, Staged]:
        return self._staged.find([file.guid for entry in entries for file in entry.files if file.guid])

    def _child(self, entry: Entry, online: Mapping[Guid, Staged], *, busy: bool, shown: bool) -> Listing:
        surl = Surl(f"srm://{self._surls.host}{entry.path}", entry.path)
        if not shown:
            return Listing(surl, entry.path, None, NotAuthorised("the file right is missing"))
        return Listing(surl, entry.path, entry, online=not busy and is_staged(entry, online), busy=busy)

    def _listing(
        self,
        principal: Principal,
        surl: Surl,
        verdict: Verdict,
        online: Mapping[Guid, Staged],
        writing: Mapping[SitePath, Upload],
    ) -> Listing:
        entry = verdict.entry
        to_be = self._is_to_be(principal, surl.path, writing)
        if to_be is not None:
            return Listing(surl, surl.path, to_be, busy=True)
        online_now = entry is not None and is_staged(entry, online)
        return Listing(surl, surl.path, entry, verdict.error, online=online_now)

    def _written(self, verdicts: Sequence[Verdict]) -> Mapping[SitePath, Upload]:
        """Return what is being written of names that are not there."""
        absent = [verdict.path for verdict in verdicts if isinstance(verdict.error, NotFound)]
        return self._uploads.of_paths(absent) if absent else {}

    def _is_to_be(
        self, principal: Principal, path: SitePath, writing: Mapping[SitePath, Upload]
    ) -> Entry | None:
        """Return what a name will be, if it is being written and the caller may know of it."""
        upload = writing.get(path)
        above = self._namespace.find(parent(path)) if upload else None
        if upload is None or above is None or not self._may_know(principal, upload, above):
            return None
        return _to_be(upload, above)

    def _written_in(
        self, principal: Principal, directory: Entry, entries: Sequence[Entry]
    ) -> dict[SitePath, Entry]:
        there = {entry.path for entry in entries}
        return {
            upload.path: _to_be(upload, directory)
            for upload in self._uploads.in_directory(directory.path)
            if upload.path not in there and self._may_know(principal, upload, directory)
        }

    def _may_know(self, principal: Principal, upload: Upload, directory: Entry) -> bool:
        return upload.owner == principal.dn or self._access.may_list(principal, directory)


def _to_be(upload: Upload, directory: Entry) -> Entry:
    """Return what a name will be when its put is done."""
    received = upload.received
    return Entry(
        path=upload.path,
        kind=Kind.FILE,
        owner=upload.owner,
        acl=inherited(directory.acl, directory=False),
        shown_at=directory.shown_at,
        facts=Facts(received.size_bytes, received.adler32, "") if received else None,
    )


def is_staged(entry: Entry, staged: Mapping[Guid, Staged]) -> bool:
    """Tell whether the bytes that an entry means, and no older generation, are in scratch."""
    places = [(file, staged.get(file.guid) if file.guid else None) for file in entry.files]
    return all(there is not None and there.generation == file.generation for file, there in places)
