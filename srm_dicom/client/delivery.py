"""Several files on their way at once, each proven and opened: a few threads, each with its own sessions.

The caller's thread sends orders and collects what became of them; a thread that carries a file never
speaks to anybody but the file's door. `stop` breaks off what is under way: partial files stay, and the
next download goes on from them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.client.appearing import part_of
from srm_dicom.client.download import Holding, Part, fetch_part, read_manifest, read_manifests
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.orders import Got, Order, Parcel
from srm_dicom.client.unpacking import Arrival, Member, Unpacking, shares
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import IntegrityError, MdmError, NoSpace, NotDelivered, SourceUnavailable
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import Guid
from srm_dicom.wire.names import FileRecord

T = TypeVar("T")

SEALED_SUFFIX = ".c4gh"
TRANSFERS = 4
"""Files on their way at once; on one machine more of them made nothing faster."""

SHARES, SHARE_BYTES = 2, 16 * 1024 * 1024
"""A tar comes in so many runs at once, none of them smaller: one thread proves less than a door sends."""

PAUSES_S = (0.5, 2.0)

Fetching = Callable[[FileRecord, int, int], None]
"""Told of a file's bytes that are here, and of its size. Called from several threads."""


class Couriers:
    """The threads.

    Args:
        credential: whose right is shown at the doors.
        signers: keys of the sites whose manifests are believed.
        count: how many files are on their way at once.
        fetching: is told how it goes on.
        door: where files will most likely be; empty when nobody knows.
        pauses_s: before each time that a broken transfer is tried again.
    """

    def __init__(
        self,
        credential: Credential,
        signers: Mapping[str, Ed25519PublicKey],
        count: int = TRANSFERS,
        fetching: Fetching = lambda _record, _done, _size: None,
        door: str = "",
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._credential = credential
        self._signers = signers
        self._fetching = fetching
        self._door = door
        self._pauses_s = pauses_s
        self._stopped = threading.Event()
        self._own = threading.local()
        self._clients: list[GridFtpClient] = []
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="courier")
        self._told: SimpleQueue[Got | Order | Future[None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._holding = Holding()
        self._on_the_way = 0

    def get_ready(self) -> None:
        """Log in where files will most likely be, while they are staged."""
        if self._door and not self._clients:
            for _ in range(SHARES):
                self._pool.submit(self._log_in)

    def send(self, order: Order | Parcel, turl: str) -> None:
        """Have a file, or the files of a parcel, fetched from a TURL."""
        if isinstance(order, Parcel):
            self._have(self._carry_parcel, order, turl)
        else:
            self._have(self._carry, order, turl)

    def arrived(self, *, everything: bool = False) -> Iterator[Got | Order]:
        """Yield what has been decided since; with `everything` wait for all that was sent.

        An order that is yielded has to be sent alone: the parcel that it was in cannot be had.
        """
        while self._on_the_way:
            try:
                told = self._told.get(block=everything)
            except Empty:
                return
            if isinstance(told, Future):
                with self._lock:
                    self._on_the_way -= 1
                told.result()
            else:
                yield told

    def stop(self) -> None:
        """Break off what is under way, drop what is not, and let the threads go."""
        self._stopped.set()
        for client in self._clients:
            client.interrupt()
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()

    def _log_in(self) -> None:
        with suppress(MdmError):  # who is sent there will tell
            self._gridftp().log_in(self._door)

    def _have(self, work: Callable[..., None], *arguments: object) -> None:
        """Have something done; `arrived` goes on until it is, and what it tells has been yielded."""
        with self._lock:
            self._on_the_way += 1
        self._pool.submit(work, *arguments).add_done_callback(self._told.put)

    def _carry(self, order: Order, turl: str) -> None:
        with self._telling([order]):
            self._told.put(self._patiently(lambda: self._fetch(self._gridftp(), order, turl)))

    def _carry_parcel(self, parcel: Parcel, turl: str) -> None:
        """Learn what is in a tar, and have it fetched: a large one in shares, each by a thread."""
        members: list[Member] = []
        with self._alone_if_not(parcel.orders.values()):
            members += self._patiently(lambda: self._members(self._gridftp(), parcel, turl))
        runs = shares(members, SHARES, SHARE_BYTES)
        for run in runs:
            end = run[-1].offset + run[-1].manifest.size_bytes
            self._have(self._carry_members, run, turl, None if run is runs[-1] else end)

    def _carry_members(self, members: Sequence[Member], turl: str, end: int | None) -> None:
        left = {member.manifest.guid: member.order for member in members}
        with self._alone_if_not(left.values()):
            self._patiently(lambda: self._unpack(self._gridftp(), members, turl, end, left))

    @contextmanager
    def _alone_if_not(self, orders: Iterable[Order]) -> Iterator[None]:
        """Have orders sent alone when the tar that they are in cannot be had, though its door answers."""
        with self._telling(orders):
            try:
                yield
            except (NotDelivered, SourceUnavailable):
                raise  # the door was asked often enough
            except MdmError:
                for order in orders:
                    self._told.put(order)

    @contextmanager
    def _telling(self, orders: Iterable[Order]) -> Iterator[None]:
        """Tell of an error as what became of files."""
        try:
            yield
        except MdmError as error:
            self._tell_all(orders, error)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._tell_all(orders, NoSpace(f"the file cannot be written: {reason}"))

    def _tell_all(self, orders: Iterable[Order], error: MdmError) -> None:
        for order in orders:
            self._told.put(Got(order.record, error=error))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Fetch; a door that broke off or does not answer is tried again, from where it broke off."""
        for pause_s in self._pauses_s:
            try:
                return attempt()
            except (NotDelivered, SourceUnavailable):
                if self._stopped.wait(pause_s):
                    raise
        return attempt()

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

        return _finished(order, fetch_part(gridftp, turl, self._part_of(order, manifest), told))

    def _members(self, gridftp: GridFtpClient, parcel: Parcel, turl: str) -> list[Member]:
        """Return what is wanted of a tar, in its order, with what the site signed of each."""
        manifests = read_manifests(gridftp, turl, len(parcel.names), self._signers)
        members = []
        for manifest, offset in zip(manifests, parcel.bundle(manifests).offsets, strict=True):
            order = parcel.orders.get(manifest.guid)
            if order is not None:
                manifest_of(order.record, manifest)
                members.append(Member(order, manifest, offset))
        if len(members) != len(parcel.orders):
            raise IntegrityError("the directory has other files than it had")
        return members

    def _unpack(
        self,
        gridftp: GridFtpClient,
        members: Sequence[Member],
        turl: str,
        end: int | None,
        left: dict[Guid, Order],
    ) -> None:
        """Fetch a run of a tar from the first byte that is missing; what has come is taken out of `left`.

        Args:
            gridftp: this thread's.
            members: the run.
            turl: of the tar.
            end: where the run ends in the tar; None for the end of the tar.
            left: the orders that nothing is decided of.
        """
        arrivals = []
        for member in members:
            if member.manifest.guid in left:
                member.order.target.parent.mkdir(parents=True, exist_ok=True)
                arrivals.append(Arrival(member, self._part_of(member.order, member.manifest)))
        if not arrivals:  # it broke off after all that was wanted
            return

        def told(arrival: Arrival) -> None:
            record, manifest = arrival.order.record, arrival.manifest
            self._fetching(record, arrival.part.size_bytes, manifest.size_bytes)

        def done(arrival: Arrival) -> None:
            del left[arrival.manifest.guid]
            self._have(self._finish, arrival)

        with Unpacking(arrivals, told, done) as unpacking:
            start = unpacking.position
            gridftp.fetch(turl, unpacking, offset=start, size_bytes=None if end is None else end - start)
        if not unpacking.complete:
            raise NotDelivered("the tar ended early")

    def _finish(self, arrival: Arrival) -> None:
        """Prove and open a member while others are still coming; one that is not right is asked for alone."""
        with self._telling([arrival.order]):
            try:
                arrival.part.prove()
            except IntegrityError:
                self._told.put(arrival.order)
                return
            self._told.put(_finished(arrival.order, arrival.part))

    def _part_of(self, order: Order, manifest: Manifest) -> Part:
        """Return the sealed bytes of a file, where they go until they are proven."""
        if order.private_key is None or not manifest.public_key:
            return Part(part_of(order.target), manifest)
        path = part_of(order.target.with_name(order.target.name + SEALED_SUFFIX))
        return Part(path, manifest, self._holding)


def _finished(order: Order, part: Part) -> Got:
    """Give proven bytes their name: as they are, or opened."""
    if order.private_key is None or not part.manifest.public_key:
        part.settle(order.target)
    else:
        part.open(order.target, order.private_key)
    return Got(order.record, order.target, size_bytes=part.manifest.size_bytes)


def manifest_of(record: FileRecord, manifest: Manifest) -> Manifest:
    """Return the manifest if the catalogue says the same of the file's key.

    Raises:
        IntegrityError: it does not.
    """
    if manifest.public_key.hex() != record.public_key:
        raise IntegrityError("the catalogue and the manifest name different keys")
    return manifest
