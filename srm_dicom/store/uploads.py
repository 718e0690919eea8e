"""Names that are being written: one row a path, from prepareToPut until the put has ended.

The path is the key, so that of two who want to write one name exactly one may. `name` is what the bytes
are called in scratch and what the TURL shows; it is random and good for its owner alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from srm_dicom.db.database import Database, marks
from srm_dicom.errors import Busy
from srm_dicom.ids import Guid, SitePath, Token, parent
from srm_dicom.store.leftovers import Leftovers

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Received:
    """What a door has taken in completely."""

    size_bytes: int
    adler32: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A name being written.

    Attributes:
        name: 32 random hexadecimal digits.
        node: whose scratch has the bytes.
        guid: what the file will be once it is stored.
        overwrite: whether it may take the place of what has the name by then.
        expected_bytes: what was announced; 0 when nothing was.
        received: None until a door has every byte.
        implicit: begun by a door for a plain path, without a request of the SRM.
        space: the token of the space that it goes into; empty for none.
        source: GUID of the file that it is a copy of; empty for bytes that come through a door.
        whole_bytes: how many there are from the first on, where others lie scattered behind these; None where
            all that are there come in order.
    """

    path: SitePath
    name: str
    token: Token
    owner: str
    node: str
    guid: Guid
    overwrite: bool
    expected_bytes: int = 0
    received: Received | None = None
    implicit: bool = False
    space: str = ""
    source: str = ""
    whole_bytes: int | None = None

    def in_order_bytes(self, there_bytes: int) -> int:
        """Return how many of those that are there come in order, from the first on."""
        return there_bytes if self.whole_bytes is None else min(there_bytes, self.whole_bytes)


class UploadRow(peewee.Model):
    """Table ``upload``; columns as in `Upload`, `parent` to know what is being written in a directory."""

    path = peewee.CharField(max_length=1024, primary_key=True)
    parent = peewee.CharField(max_length=1024, index=True)
    name = peewee.CharField(max_length=32, unique=True)
    token = peewee.CharField(max_length=36, index=True)
    owner = peewee.TextField()
    node = peewee.TextField()
    guid = peewee.CharField(max_length=36)
    overwrite = peewee.BooleanField()
    expected_bytes = peewee.BigIntegerField(default=0)
    size_bytes = peewee.BigIntegerField(null=True)
    adler32 = peewee.CharField(max_length=8, null=True)
    implicit = peewee.BooleanField(default=False)
    space = peewee.CharField(max_length=36, default="")
    source = peewee.CharField(max_length=36, default="")
    whole_bytes = peewee.BigIntegerField(null=True)

    class Meta:
        """The name of the table."""

        table_name = "upload"


class Uploads:
    """The table; methods join the caller's transaction."""

    def __init__(self, database: Database, leftovers: Leftovers) -> None:
        self._database = database
        self._leftovers = leftovers
        self._row = database.bind(UploadRow)

    def add(self, upload: Upload) -> None:
        """Begin to write a name.

        Raises:
            Busy: somebody is writing it.
        """
        if self.find_path(upload.path) is not None:
            raise Busy("this name is being written")
        self._database.insert(self._row, [_columns(upload)])

    def find(self, name: str) -> Upload | None:
        """Return the upload of a random name."""
        return next(iter(self._where("name = ?", [name])), None)

    def find_path(self, path: SitePath) -> Upload | None:
        """Return the upload of a path."""
        return next(iter(self._where("path = ?", [path])), None)

    def of_request(self, token: Token) -> dict[SitePath, Upload]:
        """Return what a request is writing."""
        return {upload.path: upload for upload in self._where("token = ?", [token])}

    def of_paths(self, paths: Sequence[SitePath]) -> dict[SitePath, Upload]:
        """Return what is being written of `paths`."""
        found: dict[SitePath, Upload] = {}
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            uploads = self._where(f"path IN ({marks(len(chunk))})", chunk)
            found.update((upload.path, upload) for upload in uploads)
        return found

    def in_directory(self, directory: SitePath) -> list[Upload]:
        """Return what is being written directly in a directory, in the order of names."""
        return self._where("parent = ? ORDER BY path", [directory])

    def in_space(self, token: str) -> bool:
        """Tell whether something is being written into a space."""
        return bool(self._row.select(self._row.path).where(self._row.space == token).exists())

    def on_node(self, node: str) -> Iterator[str]:
        """Yield the random names of what a node's scratch has."""
        for row in self._row.select(self._row.name).where(self._row.node == node):
            yield row.name

    def known(self, names: Iterable[str]) -> set[str]:
        """Return which random names still are those of uploads."""
        wanted, found = sorted(names), set[str]()
        for start in range(0, len(wanted), _CHUNK):
            query = self._row.select(self._row.name)
            found.update(row.name for row in query.where(self._row.name.in_(wanted[start : start + _CHUNK])))
        return found

    def complete_on(self, node: str) -> list[Upload]:
        """Return those of a node of which a door has every byte."""
        query = self._row.select().where(self._row.node == node, self._row.size_bytes.is_null(False))
        return [_upload(row) for row in query]

    def totals(self, node: str) -> tuple[int, int]:
        """Return the bytes that a node's uploads have, or are announced to have, and how many they are."""
        size, expected = self._row.size_bytes, self._row.expected_bytes
        larger = peewee.Case(None, [(size > expected, size)], expected)
        query: Any = self._row.select(peewee.fn.SUM(larger), peewee.fn.COUNT(self._row.name))
        ((size_bytes, uploads),) = query.where(self._row.node == node).tuples()
        return int(size_bytes or 0), uploads

    def expect(self, name: str, size_bytes: int) -> None:
        """Note how many bytes are announced."""
        self._row.update(expected_bytes=size_bytes).where(self._row.name == name).execute()

    def received(self, name: str, received: Received | None) -> bool:
        """Note what a door has taken in, or that it takes it in anew; tells whether the put still is one."""
        columns: dict[str, object] = {"size_bytes": None, "adler32": None}
        if received is not None:
            columns = {"size_bytes": received.size_bytes, "adler32": received.adler32, "whole_bytes": None}
        return bool(self._row.update(**columns).where(self._row.name == name).execute())

    def scattered(self, name: str, whole_bytes: int | None) -> None:
        """Note how many bytes there are from the first on; None: all that are there come in order."""
        self._row.update(whole_bytes=whole_bytes).where(self._row.name == name).execute()

    def end(self, token: Token, paths: Sequence[SitePath], *, stored: bool = False) -> None:
        """Forget what a request is writing: the names are free again.

        Its bytes are of no more use, unless it is `stored`: they may become ready to be read.
        """
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            if not stored:
                self._leftovers.leave_uploaded(token, chunk)
            self._database.change(
                f"DELETE FROM upload WHERE token = ? AND path IN ({marks(len(chunk))})",  # noqa: S608
                [token, *chunk],
            )

    def _where(self, condition: str, parameters: Sequence[str]) -> list[Upload]:
        rows = self._database.select(f"SELECT * FROM upload WHERE {condition}", parameters)  # noqa: S608
        return list(map(_upload, rows))


def _columns(upload: Upload) -> dict[str, object]:
    received = upload.received
    return {
        "path": upload.path,
        "parent": parent(upload.path),
        "name": upload.name,
        "token": upload.token,
        "owner": upload.owner,
        "node": upload.node,
        "guid": upload.guid,
        "overwrite": upload.overwrite,
        "expected_bytes": upload.expected_bytes,
        "size_bytes": received.size_bytes if received else None,
        "adler32": received.adler32 if received else None,
        "implicit": upload.implicit,
        "space": upload.space,
        "source": upload.source,
        "whole_bytes": upload.whole_bytes,
    }


def _upload(row: Any) -> Upload:
    received = Received(row.size_bytes, row.adler32) if row.size_bytes is not None else None
    return Upload(
        SitePath(row.path), row.name, Token(row.token), row.owner, row.node, Guid(row.guid),
        bool(row.overwrite), row.expected_bytes, received, bool(row.implicit), row.space,
        row.source, row.whole_bytes,
    )  # fmt: skip
