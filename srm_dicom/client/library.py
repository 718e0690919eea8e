"""The library twin of ``mdm``: find, get and open what a site holds, as the owner of a credential.

    client = Client(SiteDescription.from_environment(os.environ), Credential.from_environment(os.environ))
    for got in client.get(['Modality = "CT"'], Path("out")):
        print(got.path or got.error)

Three rights are asked for in three places, by three services, and none of them knows the others: the
search right by the metadata servers, the file right by the storage server, the key right by the key
servers. Every file is verified against its site's signature before it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from srm_dicom.client.download import download, open_sealed, read_manifest
from srm_dicom.client.files import FileCatalogueClient, FileRecord
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import Found, MetadataClient, MetadataServers
from srm_dicom.client.site import SiteDescription
from srm_dicom.client.srm import SrmClient
from srm_dicom.client.srm_views import FileStatus, GetRequest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import CatalogueUnavailable, IntegrityError, MdmError, NotAuthorised, NotFound
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import Guid, SitePath, name

SEALED_SUFFIX = ".c4gh"
WAIT_S = 1800.0
_REFERENCE = re.compile(r"(lfn:|guid:|srm://)|/|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Got:
    """What became of one file: where it is now, or why it is not; never both."""

    record: FileRecord
    path: Path | None = None
    error: MdmError | None = None


@dataclass(frozen=True, slots=True)
class Watcher:
    """Whom to tell how it goes on; every default says nothing."""

    waiting: Callable[[GetRequest], None] = lambda _: None
    fetching: Callable[[FileRecord, int, int], None] = lambda _record, _done, _size: None


class Client:
    """One user at one site; connections are made when needed and kept. Not for several threads."""

    def __init__(self, site: SiteDescription, credential: Credential) -> None:
        self._site = site
        self._credential = credential
        self._signers = site.trusted_signers()
        self._gridftp = GridFtpClient(credential)
        self.srm = SrmClient.connect(site.srm, credential)
        self._keys: dict[str, bytes] = {}
        self.files = FileCatalogueClient(site.files, credential)
        self.metadata = MetadataServers(site.metadata, credential)
        self.key_servers = KeyServers(site.keys, credential, sites=self._signers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and forget every key."""
        self._keys.clear()
        self._gridftp.close()
        self.srm.close()

    def find(self, condition: str, attributes: Sequence[str] = (), limit: int = 1000) -> list[Found]:
        """Search every metadata server at once.

        Args:
            condition: such as ``Modality = "CT" and SliceThickness < 2``.
            attributes: what to show of each image beside guid, lfn and surl.
            limit: most rows.

        Raises:
            InvalidRequest: the condition cannot be read.
            CatalogueUnavailable: a server did not answer, so the answer would not be complete.
        """
        answer = self.metadata.find(condition, attributes, limit=limit)
        for server, error in answer.failures.items():
            raise CatalogueUnavailable(f"{server}: {error.message}", advice=error.advice)
        return answer.found

    def resolve(self, references: Iterable[str]) -> list[FileRecord]:
        """Return the files that LFNs, GUIDs, SURLs and queries name, each once, in order.

        Raises:
            NotFound: a reference names nothing that the caller may learn of.
        """
        found: dict[str, FileRecord] = {}
        for reference in references:
            for record in self._resolve(reference):
                found.setdefault(record.guid, record)
        return list(found.values())

    def get(
        self,
        references: Iterable[str],
        directory: Path,
        *,
        sealed: bool = False,
        watcher: Watcher | None = None,
        wait_s: float = WAIT_S,
    ) -> Iterator[Got]:
        """Fetch files into a directory and open them, yielding what became of each.

        Args:
            references: LFNs, GUIDs, SURLs, queries.
            directory: made if it is not there; a file that is there already is left as it is.
            sealed: leave files as ciphertext; the key right is not needed then.
            watcher: is told of waiting and of bytes.
            wait_s: how long the server may stage.
        """
        directory.mkdir(parents=True, exist_ok=True)
        watcher = watcher or Watcher()
        wanted = {}
        for record in self.resolve(references):
            target = directory / _file_name(record, sealed=sealed)
            if target.exists():
                yield Got(record, target)
            else:
                wanted[_surl(record)] = (record, target)
        if wanted:
            yield from self._stage_and_fetch(wanted, watcher, wait_s)

    def key(self, record: FileRecord) -> bytes:
        """Return the secret key of a file, rebuilt from shares and proven to be the file's.

        Raises:
            NotAuthorised, NotFound: the key servers do not give it to this caller.
            KeyQuorumMissing: too few key servers answered.
        """
        if record.key_id not in self._keys:
            public_key = bytes.fromhex(record.public_key)
            self._keys[record.key_id] = self.key_servers.fetch(record.key_id, public_key)
        return self._keys[record.key_id]

    def whoami(self) -> str:
        """Return the name that the services see, as a metadata server tells it."""
        with closing(MetadataClient(self._site.metadata[0], self._credential)) as server:
            return server.whoami()

    def rights(self, record: FileRecord) -> dict[str, bool]:
        """Return which of the rights the caller has on a file; each service is asked for its own."""
        letters = self._letters(record)
        return {
            "file": self._may_read(record),
            "key": bool(record.key_id) and self.key_servers.may(record.key_id, "g"),
            "search": "r" in letters,
            "nominative": "n" in letters,
        }

    def manifest(self, record: FileRecord, turl: str) -> Manifest:
        """Return the verified manifest of a staged file."""
        manifest = read_manifest(self._gridftp, turl, Guid(record.guid), self._signers)
        if manifest.public_key.hex() != record.public_key:
            raise IntegrityError("the catalogue and the manifest name different keys")
        return manifest

    def _may_read(self, record: FileRecord) -> bool:
        try:
            self.srm.ls(_surl(record), levels=0)
        except (NotFound, NotAuthorised):
            return False
        return True

    def _letters(self, record: FileRecord) -> frozenset[str]:
        """Return the caller's letters on the collection where a file is described."""
        try:
            found = self.find(f'FILE = "{record.guid}"', limit=1)
        except NotFound:
            return frozenset()
        if not found:
            return frozenset()
        for endpoint in self._site.metadata:
            with closing(MetadataClient(endpoint, self._credential)) as server, suppress(NotFound):
                return server.letters(SitePath(str(found[0]["collection"])))
        return frozenset()

    def _resolve(self, reference: str) -> list[FileRecord]:
        if _REFERENCE.match(reference):
            return self.files.tree(reference)
        rows = self.find(reference, limit=100_000)
        if not rows:
            raise NotFound("no image matches the query")
        return self.files.lookup_many([f"guid:{row['guid']}" for row in rows])

    def _stage_and_fetch(
        self, wanted: Mapping[str, tuple[FileRecord, Path]], watcher: Watcher, wait_s: float
    ) -> Iterator[Got]:
        request = self.srm.prepare_to_get(list(wanted), ("gsiftp",), total_s=int(wait_s))
        try:
            request = self.srm.wait(request, wait_s, watcher.waiting)
            for file in request.files:
                record, target = wanted[file.surl]
                try:
                    yield Got(record, self._fetch(file, record, target, watcher))
                except MdmError as error:
                    yield Got(record, error=error)
        finally:
            with suppress(MdmError):
                self.srm.release(request.token)

    def _fetch(self, file: FileStatus, record: FileRecord, target: Path, watcher: Watcher) -> Path:
        if file.turl is None:
            raise file.status.error()
        manifest = self.manifest(record, file.turl)
        keep_sealed = target.name.endswith(SEALED_SUFFIX) or not manifest.public_key
        private_key = b"" if keep_sealed else self.key(record)
        sealed = target if keep_sealed else target.with_name(target.name + SEALED_SUFFIX)

        def told(done: int) -> None:
            watcher.fetching(record, done, manifest.size_bytes)

        download(self._gridftp, file.turl, manifest, sealed, told)
        if not keep_sealed:
            open_sealed(sealed, target, private_key)
            sealed.unlink()
        return target


def _surl(record: FileRecord) -> str:
    if not record.surls:
        raise NotFound("the catalogue knows no replica of this file")
    return record.surls[0]


def _file_name(record: FileRecord, *, sealed: bool) -> str:
    last = name(record.lfn)
    return last if sealed else last.removesuffix(SEALED_SUFFIX)
