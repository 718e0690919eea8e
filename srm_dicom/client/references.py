"""What a user's words stand for: LFNs of files and directories, GUIDs, SURLs, queries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from srm_dicom.client.files import FileCatalogueClient
from srm_dicom.client.metadata import Found
from srm_dicom.client.srm import SrmClient
from srm_dicom.client.targets import Named, named
from srm_dicom.errors import CatalogueUnavailable, InvalidRequest, MdmError, NotAuthorised, NotFound
from srm_dicom.wire.names import FileRecord

MOST_FOUND = 100_000
_NAME = re.compile(r"(lfn:|guid:|srm://)|/|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE)


class Find(Protocol):
    """As `library.Client.find`."""

    def __call__(self, condition: str, /, *, limit: int) -> list[Found]:
        """Return the files that match."""
        ...


class References:
    """Looks references up.

    Args:
        files: knows names, GUIDs and SURLs of files.
        srm: knows SURLs of directories.
        find: knows queries.
    """

    def __init__(self, files: FileCatalogueClient, srm: SrmClient, find: Find) -> None:
        self._files = files
        self._srm = srm
        self._find = find

    def resolve(self, references: Iterable[str]) -> tuple[list[Named], list[MdmError]]:
        """Return every file once, in order, and why references stand for none."""
        found: dict[str, Named] = {}
        failures: list[MdmError] = []
        for reference in references:
            try:
                records, refused = self._resolve(reference)
            except (CatalogueUnavailable, NotFound, NotAuthorised, InvalidRequest) as error:
                failures.append(error)
                continue
            failures.extend(refused)
            for one in named(reference, records):
                found.setdefault(one.record.guid, one)
        return list(found.values()), failures

    def _resolve(self, reference: str) -> tuple[list[FileRecord], list[MdmError]]:
        if _NAME.match(reference):
            return self._of_name(reference), []
        rows = self._find(reference, limit=MOST_FOUND)
        if not rows:
            raise NotFound("no image matches the query")
        items = list(self._files.lookup_each(f"guid:{row['guid']}" for row in rows))
        known = [item.record for item in items if item.record is not None]
        hidden = len(items) - len(known)
        if not hidden:
            return known, []
        return known, [NotFound(f"{hidden} files match the query and are not in the file catalogue")]

    def _of_name(self, reference: str) -> list[FileRecord]:
        try:
            return self._files.tree(reference)
        except NotFound:
            if not reference.startswith("srm://"):
                raise
        surls = list(self._below(reference.rstrip("/")))
        if not surls:
            raise NotFound("no such file or directory")
        return self._files.lookup_many(surls)

    def _below(self, surl: str) -> Iterator[str]:
        """Yield the SURLs of all files below a directory: the file catalogue knows replicas of files only."""
        for info in self._srm.entries(surl):
            below = f"{surl}/{info.name}"
            if info.is_directory:
                yield from self._below(below)
            else:
                yield below
