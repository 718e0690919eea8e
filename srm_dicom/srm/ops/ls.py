"""srmLs: names, sizes, checksums and where the bytes are (SRM v2.2, 4.4).

Size and checksum are those of the sealed bytes that a door would serve; a file that is only indexed
has neither. The answer is always there at once: no request token, nothing to poll.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from srm_dicom.broker.views import Listing
from srm_dicom.errors import Busy, TooLarge
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm import permissions
from srm_dicom.srm.caller import UNLIMITED_S, Caller
from srm_dicom.srm.checks import not_negative
from srm_dicom.srm.ops.files import needed_surls
from srm_dicom.srm.status import of_error, of_many, success
from srm_dicom.srm.types import Record, T, array
from srm_dicom.store.namespace import Entry, Kind


@requires(Right.FILE_LIST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for every SURL, each with its own status.

    Raises:
        InvalidRequest: no SURL is given, or a number is negative.
        TooLarge: the answer would have too many entries; it can be had in parts.
    """
    surls = needed_surls(request.arrayOfSURLs)
    if len(surls) > caller.limits.max_entries:
        raise _too_many(caller)
    listings = list(_listings(_Reach.of(request), surls, caller))
    telling = _Telling(caller.principal, full=bool(request.fullDetailedList))
    details = [telling.detail(listing) for listing in listings]
    response: Record = T.srmLsResponse(
        returnStatus=of_many([listing.failure for listing in listings]),
        details=array("ArrayOfTMetaDataPathDetail", details),
    )
    return response


_MOST_LEVELS = 100
"""Directories below each other in one answer: libxml2, which clients read it with, takes 256 elements so."""


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far a listing goes: levels down, of which `depth` are done, and which part of the first level."""

    levels: int | None
    offset: int
    count: int | None
    depth: int = 0

    @classmethod
    def of(cls, request: Any) -> _Reach:
        levels = not_negative("numOfLevels", request.numOfLevels)
        if levels is None:
            levels = 1
        return cls(
            levels=None if request.allLevelRecursive else levels,
            offset=not_negative("offset", request.offset) or 0,
            count=not_negative("count", request.count),
        )

    def below(self) -> _Reach:
        return _Reach(None if self.levels is None else self.levels - 1, 0, None, self.depth + 1)


def _listings(reach: _Reach, surls: tuple[str, ...], caller: Caller) -> Iterator[Listing]:
    room = caller.limits.max_entries
    for surl in surls:
        listing, room = _walk(surl, reach, caller, room)
        yield listing


def _walk(surl: str, reach: _Reach, caller: Caller, room: int) -> tuple[Listing, int]:
    """Return a listing, level by level so that no tree is read further than there is room for it."""
    if reach.depth >= _MOST_LEVELS:
        raise TooLarge(
            f"more than {_MOST_LEVELS} levels of directories",
            advice="List what is further down by its own SURL.",
        )
    here = 0 if reach.levels == 0 else 1
    part = room if reach.count is None else min(reach.count, room)
    listing = caller.broker.listing(caller.principal, surl, here, reach.offset, part)
    room -= 1 + len(listing.children)
    if room < 0 or (listing.more and part != reach.count):
        raise _too_many(caller)
    if reach.levels in (0, 1):
        return listing, room
    children = []
    for child in listing.children:
        if child.entry is not None and child.entry.is_directory:
            # The child itself has been counted above and comes again at the top of its own listing.
            below, room = _walk(child.text, reach.below(), caller, room + 1)
            children.append(below)
        else:
            children.append(child)
    return replace(listing, children=tuple(children)), room


def _too_many(caller: Caller) -> TooLarge:
    return TooLarge(
        f"more than {caller.limits.max_entries} entries", advice="List in parts, with offset and count."
    )


class _Telling:
    """Makes the details of one answer; what many entries have in common is made once."""

    def __init__(self, principal: Principal, *, full: bool) -> None:
        self._principal = principal
        self._full = full
        self._success = success()
        self._retention = T.TRetentionPolicyInfo(retentionPolicy="REPLICA", accessLatency="NEARLINE")
        self._shown: dict[tuple[int, str, Kind], dict[str, Any]] = {}

    def detail(self, listing: Listing) -> Record:
        """Return the TMetaDataPathDetail of a name, and of what is listed below it."""
        path = listing.path or listing.text
        entry = listing.entry
        if entry is None:
            outcome = self._success if listing.failure is None else of_error(listing.failure)
            refused: Record = T.TMetaDataPathDetail(path=path, status=outcome)
            return refused
        children = [self.detail(child) for child in listing.children]
        made: Record = T.TMetaDataPathDetail(
            path=path,
            status=of_error(Busy("this file is being written")) if listing.busy else self._success,
            size=0 if entry.is_directory else (entry.facts.size_bytes if entry.facts else None),
            type="DIRECTORY" if entry.is_directory else "FILE",
            arrayOfSubPaths=array("ArrayOfTMetaDataPathDetail", children) if children else None,
            **(self._more(entry, online=listing.online) if self._full else {}),
        )
        return made

    def _more(self, entry: Entry, *, online: bool) -> dict[str, Any]:
        common = {
            "createdAtTime": entry.shown_at,
            "lastModificationTime": entry.shown_at,
            **self._permissions(entry),
        }
        return common if entry.is_directory else common | self._of_file(entry, online=online)

    def _permissions(self, entry: Entry) -> dict[str, Any]:
        """Return what is shown of rights: of one ACL and owner the same, unless a token's scope says more."""
        if entry.members or self._principal.scopes is not None:
            return permissions.shown(entry, self._principal)
        key = (id(entry.acl), entry.owner, entry.kind)
        shown = self._shown.get(key)
        if shown is None:
            shown = self._shown[key] = permissions.shown(entry, self._principal)
        return shown

    def _of_file(self, entry: Entry, *, online: bool) -> dict[str, Any]:
        """Return what only a file has: this site keeps a replica; the archive behind it has the original."""
        about: dict[str, Any] = {
            "fileStorageType": "PERMANENT",
            "retentionPolicyInfo": self._retention,
            "fileLocality": "ONLINE_AND_NEARLINE" if online else "NEARLINE",
            "lifetimeAssigned": UNLIMITED_S,
            "lifetimeLeft": UNLIMITED_S,
        }
        if entry.facts is not None:
            about |= {"checkSumType": "ADLER32", "checkSumValue": entry.facts.adler32}
        return about
