"""The library twin of ``mdm``: find, get and open what a site holds, as the owner of a credential.

    client = Client(SiteDescription.from_environment(os.environ), Credential.from_environment(os.environ))
    for got in client.get(['Modality = "CT"'], Path("out")):
        print(got.path or got.error)
    with client.open("lfn:/grid/biomed/...") as file:
        header = pydicom.dcmread(file, stop_before_pixels=True)

Three rights are asked for in three places, by three services, and none of them knows the others: the
search right by the metadata servers, the file right by the storage server, the key right by the key
servers. Every file is verified against its site's signature before it is opened.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from srm_dicom.client.delivery import SEALED_SUFFIX, TRANSFERS, Couriers, manifest_of
from srm_dicom.client.doors import PROTOCOLS, Doors
from srm_dicom.client.download import download, read_manifest
from srm_dicom.client.files import FileCatalogueClient, FileRecord
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import Found, MetadataClient, MetadataServers
from srm_dicom.client.orders import Got, Order, Parcel, packed, take
from srm_dicom.client.pin import Pin
from srm_dicom.client.references import References
from srm_dicom.client.remote import SealedFile, buffered
from srm_dicom.client.sending import Sender, Sending
from srm_dicom.client.site import SiteDescription
from srm_dicom.client.srm import SrmClient
from srm_dicom.client.srm_views import FileInfo
from srm_dicom.client.staging import Watcher, delivered
from srm_dicom.client.targets import Named, target_of
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import (
    AlreadyExists,
    CatalogueUnavailable,
    InvalidRequest,
    MdmError,
    NotAuthenticated,
    NotAuthorised,
    NotFound,
    RequestExpired,
)
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import Guid, SitePath, name

__all__ = ["SEALED_SUFFIX", "Client", "Got", "Watcher"]

WAIT_S = 1800.0
FILES_PER_REQUEST = 1000
_STRING = re.compile(r'"(\\.|[^"\\])*"')
_WORD = re.compile(r"[A-Za-z_]\w{3,}")
_SEALED_IS_THERE = "Without the key right, files can be fetched sealed (--encrypted)."


class Client:
    """One user at one site; connections are made when needed and kept. Not for several threads."""

    def __init__(self, site: SiteDescription, credential: Credential) -> None:
        self._site = site
        self._credential = credential
        self._signers = site.trusted_signers()
        self._gridftp = GridFtpClient(credential)
        self._doors = Doors(credential, self._gridftp)
        self.srm = SrmClient.connect(site.srm, credential)
        self._keys: dict[str, bytes] = {}
        self.files = FileCatalogueClient(site.files, credential)
        self.metadata = MetadataServers(site.metadata, credential)
        self._references = References(self.files, self.srm, self.find)
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
        self._doors.close()
        self._gridftp.close()
        self.srm.close()
        self.key_servers.close()

    def find(self, condition: str, attributes: Sequence[str] = (), limit: int = 1000) -> list[Found]:
        """Search every metadata server at once.

        Args:
            condition: such as ``Modality = "CT" and SliceThickness < 2``.
            attributes: what to show of each image beside guid, lfn and surl.
            limit: most rows.

        Raises:
            InvalidRequest: the condition cannot be read.
            NotFound: no server has all attributes of the condition; the advice names likely ones.
            NotAuthenticated: a server refuses the credential.
            CatalogueUnavailable: a server did not answer, so the answer would not be complete.
        """
        try:
            answer = self.metadata.find(condition, attributes, limit=limit)
        except NotFound as absent:
            words = [*attributes, *_WORD.findall(_STRING.sub("", condition))]
            likely = self.metadata.likely(words)
            if likely:
                absent.advice = f"Did you mean {', '.join(likely)}?"
            raise
        for server, error in answer.failures.items():
            told = error.message if server in error.message else f"{server}: {error.message}"
            kind = NotAuthenticated if isinstance(error, NotAuthenticated) else CatalogueUnavailable
            raise kind(told, advice=error.advice)
        return answer.found

    def resolve(self, references: Iterable[str]) -> list[FileRecord]:
        """Return the files that LFNs, directories, GUIDs, SURLs and queries name, each once, in order.

        Raises:
            NotFound: a reference names nothing that the caller may learn of.
        """
        found, failures = self._references.resolve(references)
        if failures:
            raise failures[0]
        return [one.record for one in found]

    def get(
        self,
        references: Iterable[str],
        directory: Path,
        *,
        sealed: bool = False,
        watcher: Watcher | None = None,
        wait_s: float = WAIT_S,
        transfers: int = TRANSFERS,
    ) -> Generator[Got, None, None]:
        """Fetch files into a directory and open them, yielding what became of each as it is known.

        A file that is there already is left as it is; half of one is continued. What is below a named
        directory keeps its names below it. Close the iterator (`contextlib.closing`) to leave early: it
        stops what is under way and withdraws the request.

        Args:
            references: LFNs of files and directories, GUIDs, SURLs, queries.
            directory: made if it is not there.
            sealed: leave files as ciphertext; the key right is not needed then.
            watcher: is told of waiting and of bytes.
            wait_s: how long the server may stage.
            transfers: how many files are on their way at once.

        Raises:
            MdmError: when all else is done: a reference names nothing, or nothing that can be looked up.
        """
        directory.mkdir(parents=True, exist_ok=True)
        found, failures = self._references.resolve(references)
        orders: list[Order] = []
        for one in self._planned(found, directory, sealed=sealed):
            if isinstance(one, Order):
                orders.append(one)
            else:
                yield one
        if orders:
            names = partial(self.srm.entries, detailed=False)
            wanted = packed(orders, [one.record for one in found], names)
            yield from self._deliver(wanted, watcher or Watcher(), wait_s, transfers)
        if failures:
            raise failures[0]

    def open(self, reference: str, *, wait_s: float = WAIT_S) -> io.BufferedReader:
        """Open one file for reading at any position; only the segments that are touched are fetched.

        The file stays pinned until it is closed. The header is checked against the manifest that the site
        signed, and each segment to be the one of its place under that header's key.

        Args:
            reference: an LFN, GUID or SURL, or a query that one file matches.
            wait_s: how long the server may stage.

        Raises:
            NotFound: there is no such file that the caller may learn of.
            InvalidRequest: the reference stands for several files.
            NotAuthorised, KeyQuorumMissing: the key servers do not give the key.
        """
        records = self.resolve([reference])
        if len(records) != 1:
            raise InvalidRequest("this names several files", advice="Open them one by one, or get them.")
        private_key = self.key(records[0]) if records[0].key_id else b""
        pin = Pin(self.srm, _surl(records[0]), PROTOCOLS, wait_s)
        try:
            manifest = self.manifest(records[0], pin.turl)
            if not manifest.public_key:
                return self._whole(pin, manifest)
            read_range, shown = self._reader(pin), name(records[0].lfn).removesuffix(SEALED_SUFFIX)
            raw = SealedFile(read_range, manifest, private_key, name=shown, on_close=pin.release)
            return buffered(raw)
        except BaseException:
            pin.release()
            raise

    def details(self, records: Iterable[FileRecord]) -> dict[str, FileInfo]:
        """Return what the storage server tells of files, by SURL; a directory at a time."""
        surls = {record.surls[0] for record in records if record.surls}
        found: dict[str, FileInfo] = {}
        for directory in sorted({surl.rpartition("/")[0] for surl in surls}):
            with suppress(NotFound, NotAuthorised):
                found.update((f"{directory}/{info.name}", info) for info in self.srm.entries(directory))
        return {surl: info for surl, info in found.items() if surl in surls}

    def key(self, record: FileRecord) -> bytes:
        """Return the secret key of a file, rebuilt from shares and proven to be the file's.

        Raises:
            NotAuthorised, NotFound: the key servers do not give it to this caller.
            KeyQuorumMissing: too few key servers answered.
        """
        found = self.keys([record])[record.key_id]
        if isinstance(found, MdmError):
            raise found
        return found

    def keys(self, records: Iterable[FileRecord]) -> dict[str, bytes | MdmError]:
        """Return the secret key, or why there is none, by key id; the key servers are asked once for all."""
        wanted = {record.key_id: bytes.fromhex(record.public_key) for record in records if record.key_id}
        missing = {key_id: half for key_id, half in wanted.items() if key_id not in self._keys}
        answers = self.key_servers.fetch_many(missing) if missing else {}
        self._keys.update((key_id, key) for key_id, key in answers.items() if isinstance(key, bytes))
        return {**{key_id: self._keys[key_id] for key_id in wanted if key_id in self._keys}, **answers}

    def surl(self, place: str) -> str:
        """Return the SURL of a path of the storage server, or of what is a SURL already."""
        if place.startswith("srm://"):
            return place
        if not place.startswith("/"):
            raise InvalidRequest("a SURL or an absolute path of the storage server was expected")
        return f"srm://{urlsplit(self._site.srm).netloc}{place}"

    def sender(
        self,
        *,
        wait_s: float = WAIT_S,
        overwrite: bool = False,
        watcher: Sending = lambda _path, _done, _size: None,
    ) -> Sender:
        """Return what sends files to the site."""
        return Sender(self.srm, self._doors, wait_s=wait_s, overwrite=overwrite, watcher=watcher)

    def remove(self, references: Iterable[str]) -> Iterator[tuple[str, MdmError | None]]:
        """Remove files from the site by their LFNs, GUIDs or SURLs; tells of each why it is still there."""
        surls: dict[str, str] = {}
        for reference in references:
            try:
                is_surl = reference.startswith("srm://")
                surls[reference if is_surl else _surl(self.files.lookup(reference))] = reference
            except MdmError as error:
                yield reference, error
        rest = list(surls)
        for start in range(0, len(rest), FILES_PER_REQUEST):
            for file in self.srm.remove(rest[start : start + FILES_PER_REQUEST]):
                yield surls.get(file.surl, file.surl), None if file.status.is_success else file.status.error()

    def whoami(self) -> str:
        """Return the name that the services see, as a metadata server tells it.

        Raises:
            CatalogueUnavailable: there is none.
        """
        if not self._site.metadata:
            raise CatalogueUnavailable("no metadata server is configured")
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
        return manifest_of(record, read_manifest(self._doors, turl, Guid(record.guid), self._signers))

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

    # --- getting ---------------------------------------------------------------------------------

    def _planned(self, found: Sequence[Named], directory: Path, *, sealed: bool) -> Iterator[Got | Order]:
        """Yield an order for each file that has to be fetched, and the fate of each that has not."""
        taken: set[Path] = set()
        wanted: list[tuple[FileRecord, Path]] = []
        for one in found:
            target = target_of(one, directory, sealed=sealed)
            if target in taken:
                yield Got(one.record, error=_same_name())
            elif target.exists():
                yield Got(one.record, target)
            else:
                wanted.append((one.record, target))
            taken.add(target)
        keys = {} if sealed else self.keys(record for record, _ in wanted)
        for record, target in wanted:
            key = keys.get(record.key_id)
            if isinstance(key, MdmError):
                yield Got(record, error=_with_way_out(key))
            elif not record.surls:
                yield Got(record, error=_no_replica())
            else:
                yield Order(record, target, key)

    def _deliver(
        self, orders: Sequence[Order | Parcel], watcher: Watcher, wait_s: float, transfers: int
    ) -> Iterator[Got]:
        couriers = Couriers(self._credential, self._signers, transfers, watcher.fetching, self._site.gridftp)
        left = deque(orders)
        try:
            while left:
                request = take(left, FILES_PER_REQUEST)
                for one in delivered(self.srm, request, couriers, watcher, wait_s):
                    if isinstance(one, Order):
                        left.append(one)
                    else:
                        yield one
        finally:
            couriers.stop()

    # --- opening ---------------------------------------------------------------------------------

    def _reader(self, pin: Pin) -> Callable[[int, int], bytes]:
        def read_range(start: int, length: int) -> bytes:
            try:
                return self._doors.read_range(pin.turl, start, length)
            except RequestExpired:
                pin.renew()
                return self._doors.read_range(pin.turl, start, length)

        return read_range

    def _whole(self, pin: Pin, manifest: Manifest) -> io.BufferedReader:
        """Open a file that is not sealed: its parts prove nothing, so all of it is fetched and verified."""
        with tempfile.TemporaryDirectory(prefix="mdm-") as directory:
            path = Path(directory) / "file"
            download(self._doors, pin.turl, manifest, path)
            pin.release()
            return path.open("rb")


def _surl(record: FileRecord) -> str:
    if not record.surls:
        raise _no_replica()
    return record.surls[0]


def _no_replica() -> MdmError:
    return NotFound("the catalogue knows no replica of this file")


def _same_name() -> MdmError:
    return AlreadyExists(
        "another of these files has the same name",
        advice="Get the directory that both are below, or each into a directory of its own.",
    )


def _with_way_out(error: MdmError) -> MdmError:
    return type(error)(error.message, advice=f"{error.advice} {_SEALED_IS_THERE}".strip())
