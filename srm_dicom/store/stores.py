"""The outer zone's database with all its tables, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom.db.database import Database
from srm_dicom.store.copies import Copies
from srm_dicom.store.errands import Errands
from srm_dicom.store.leases import Leases
from srm_dicom.store.leftovers import Leftovers
from srm_dicom.store.namespace import Namespace
from srm_dicom.store.removals import Removals
from srm_dicom.store.requests import Requests
from srm_dicom.store.spaces import Spaces
from srm_dicom.store.staged import StagedFiles
from srm_dicom.store.unregistrations import Unregistrations
from srm_dicom.store.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Stores:
    """Tables of one database, and the transactions over them."""

    database: Database
    namespace: Namespace
    requests: Requests
    leases: Leases
    staged: StagedFiles
    uploads: Uploads
    removals: Removals
    unregistrations: Unregistrations
    spaces: Spaces
    copies: Copies
    errands: Errands
    leftovers: Leftovers

    @classmethod
    def open(cls, url: str) -> Stores:
        """Open a database by URL (see `db.database`), making what is missing."""
        database = Database(url)
        leftovers = Leftovers(database)
        return cls(
            database,
            Namespace(database),
            Requests(database),
            Leases(database),
            StagedFiles(database, leftovers),
            Uploads(database, leftovers),
            Removals(database),
            Unregistrations(database),
            Spaces(database),
            Copies(database),
            Errands(database),
            leftovers,
        )

    def lying(self, node: str) -> tuple[int, int]:
        """Return the bytes in a node's scratch area, those that are announced too, and of how many files."""
        staged, uploads = self.staged.totals(node), self.uploads.totals(node)
        return staged[0] + uploads[0], staged[1] + uploads[1]
