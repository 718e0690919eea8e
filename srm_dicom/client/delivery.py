"""Several files on their way at once, each proven and opened: a few threads, each with its own sessions.

The caller's thread sends orders and collects what became of them; a thread that carries a file never
speaks to anybody but the file's door. `stop` breaks off what is under way: partial files stay, and the
next download goes on from them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.client.download import download, fetch_part, open_sealed, part_of, read_manifest
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import IntegrityError, MdmError, NoSpace, NotDelivered, SourceUnavailable
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import Guid
from srm_dicom.wire.names import FileRecord

SEALED_SUFFIX = ".c4gh"
TRANSFERS = 4
"""Files on their way at once; on one machine more of them made nothing faster."""

PAUSES_S = (0.5, 2.0)

Fetching = Callable[[FileRecord, int, int], None]
"""Told of a file's bytes that are here, and of its size. Called from several threads."""


@dataclass(frozen=True, slots=True)
class Order:
    """A file that is wanted.

    Attributes:
        target: where it goes.
        private_key: opens it; None leaves it as it is stored.
    """

    record: FileRecord
    target: Path
    private_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Got:
    """What became of one file: where it is now, or why it is not; never both.

    Attributes:
        size_bytes: of the bytes that were fetched; 0 for a file that was there already.
    """

    record: FileRecord
    path: Path | None = None
    error: MdmError | None = None
    size_bytes: int = 0


class Couriers:
    """The threads.

    Args:
        credential: whose right is shown at the doors.
        signers: keys of the sites whose manifests are believed.
        count: how many files are on their way at once.
        fetching: is told how it goes on.
        pauses_s: before each time that a broken transfer is tried again.
    """

    def __init__(
        self,
        credential: Credential,
        signers: Mapping[str, Ed25519PublicKey],
        count: int = TRANSFERS,
        fetching: Fetching = lambda _record, _done, _size: None,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._credential = credential
        self._signers = signers
        self._fetching = fetching
        self._pauses_s = pauses_s
        self._stopped = threading.Event()
        self._own = threading.local()
        self._clients: list[GridFtpClient] = []
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="courier")
        self._on_the_way: set[Future[Got]] = set()

    def send(self, order: Order, turl: str) -> None:
        """Have a file fetched from its TURL."""
        self._on_the_way.add(self._pool.submit(self._carry, order, turl))

    def arrived(self, *, everything: bool = False) -> Iterator[Got]:
        """Yield what has been decided since; with `everything` wait for all that was sent."""
        while self._on_the_way:
            patience_s = None if everything else 0.0
            done, self._on_the_way = wait(self._on_the_way, patience_s, FIRST_COMPLETED)
            if not done:
                return
            for future in done:
                yield future.result()

    def stop(self) -> None:
        """Break off what is under way, drop what is not, and let the threads go."""
        self._stopped.set()
        for future in self._on_the_way:
            future.cancel()
        for client in self._clients:
            client.interrupt()
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()

    def _carry(self, order: Order, turl: str) -> Got:
        try:
            return self._fetch_patiently(order, turl)
        except MdmError as error:
            return Got(order.record, error=error)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return Got(order.record, error=NoSpace(f"the file cannot be written: {reason}"))

    def _fetch_patiently(self, order: Order, turl: str) -> Got:
        """Fetch; a door that broke off or does not answer is tried again, from where it broke off."""
        for pause_s in self._pauses_s:
            try:
                return self._fetch(self._gridftp(), order, turl)
            except (NotDelivered, SourceUnavailable):
                if self._stopped.wait(pause_s):
                    raise
        return self._fetch(self._gridftp(), order, turl)

    def _gridftp(self) -> GridFtpClient:
        client: GridFtpClient | None = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = GridFtpClient(self._credential)
            self._clients.append(client)
        return client

    def _fetch(self, gridftp: GridFtpClient, order: Order, turl: str) -> Got:
        record, target = order.record, order.target
        manifest = manifest_of(record, read_manifest(gridftp, turl, Guid(record.guid), self._signers))
        target.parent.mkdir(parents=True, exist_ok=True)

        def told(done: int) -> None:
            self._fetching(record, done, manifest.size_bytes)

        if order.private_key is None or not manifest.public_key:
            download(gridftp, turl, manifest, target, told)
        else:
            part = part_of(target.with_name(target.name + SEALED_SUFFIX))
            fetch_part(gridftp, turl, manifest, part, told)
            open_sealed(part, target, order.private_key)
            part.unlink()
        return Got(record, target, size_bytes=manifest.size_bytes)


def manifest_of(record: FileRecord, manifest: Manifest) -> Manifest:
    """Return the manifest if the catalogue says the same of the file's key.

    Raises:
        IntegrityError: it does not.
    """
    if manifest.public_key.hex() != record.public_key:
        raise IntegrityError("the catalogue and the manifest name different keys")
    return manifest
