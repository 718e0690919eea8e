"""The inner zone's side of writing: fetches what users have uploaded, has plugins keep it, names it.

Like the stager it comes for its work and nobody calls it; what it claims, it holds by lease. The bytes are
checked against what the door took in, while the plugin reads them. Only then does one transaction give the
file its name, make the upload ready to be read, and end the put; whatever fails before leaves no name and
no bytes behind. The bytes of files that lost their names are removed here too.

What is handed in to a sealed area gets no name of its own: its plugin keeps it and says what it is, the
registrar's journal is told as of anything that arrives, and the name that its user typed goes with the put.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from zlib_ng import zlib_ng

from srm_dicom.audit.event import Action, is_object
from srm_dicom.audit.event import Event as AuditEvent
from srm_dicom.audit.event import Outcome as AuditOutcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.areas import Area, Areas, inherited
from srm_dicom.broker.names import forget
from srm_dicom.broker.spaces import FULL
from srm_dicom.broker.states import STORING, Event, after, before
from srm_dicom.clock import Clock, coarse
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import (
    Aborted,
    AlreadyExists,
    ConfigError,
    IntegrityError,
    InternalError,
    IsADirectory,
    MdmError,
    NoSpace,
    NotADirectory,
    NotFound,
    ObjectRefused,
    Overloaded,
    SourceUnavailable,
    SpaceExhausted,
)
from srm_dicom.ids import Guid, parent
from srm_dicom.plugin.api import Arrived, Discovered, FileRef, Slot
from srm_dicom.plugin.api import Upload as PluginUpload
from srm_dicom.plugin.host import PluginHost
from srm_dicom.scratch.area import StagedName
from srm_dicom.scratch.node import ScratchNode
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.requests import RequestFile
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Received, Upload
from srm_dicom.telemetry import logger

CHUNK_BYTES = 4 * 2**20
PASSING = (SourceUnavailable, Overloaded, NoSpace)
"""After these the same upload may be stored later; it waits in scratch meanwhile."""

log = logger("storing")


@dataclass(frozen=True, slots=True)
class StoringSettings:
    """Bounds.

    Attributes:
        worker: unique among those who claim, the same after a restart.
        lease_s: longer than storing the largest file takes.
        copy_s: the longest that a plugin may take to give the bytes of a file that is copied.
        idle_s: pause between two looks at whether anybody has written to the database.
        look_s: after so long work is looked for in any case: pauses and leases end by themselves.
    """

    worker: str
    node: str
    at_once: int = 4
    lease_s: float = 6 * 3600.0
    idle_s: float = 0.1
    look_s: float = 1.0
    pause_s: float = 10.0
    removals: int = 100
    copy_s: float = 3600.0


class Storing:
    """One process's; `run` until stopped."""

    def __init__(  # noqa: PLR0913 - it joins this many parts
        self,
        settings: StoringSettings,
        hosts: Mapping[str, PluginHost],
        stores: Stores,
        scratch: ScratchNode,
        areas: Areas,
        signing_key: Ed25519PrivateKey,
        audit: AuditLog,
        clock: Clock,
        *,
        arrived: Mapping[str, Arrived] | None = None,
    ) -> None:
        """Take the parts; `arrived` is whom to tell of what is handed in, by plugin."""
        self._settings = settings
        self._hosts = hosts
        self._stores = stores
        self._scratch = scratch
        self._areas = areas
        self._signing_key = signing_key
        self._audit = audit
        self._clock = clock
        self._arrived = arrived or {}

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what is under way is finished."""
        self._stores.leases.free(self._settings.worker)
        under_way: set[Future[None]] = set()
        seen, look_at_s = -1, self._clock.monotonic_s()
        with ThreadPoolExecutor(self._settings.at_once, "store") as pool:
            while not stop.is_set():
                state, now_s = self._stores.database.state(), self._clock.monotonic_s()
                if under_way or state != seen or now_s >= look_at_s:
                    seen, look_at_s = state, now_s + self._settings.look_s
                    claimed = self.claim(self._settings.at_once - len(under_way))
                    under_way |= {pool.submit(self.store, file) for file in claimed}
                    self.remove_due()
                if under_way:
                    _, under_way = wait(under_way, self._settings.idle_s, FIRST_COMPLETED)
                else:
                    stop.wait(self._settings.idle_s)

    def claim(self, limit: int) -> list[RequestFile]:
        """Claim files that wait to be stored."""
        if limit <= 0:
            return []
        return self._stores.leases.claim(
            self._settings.worker,
            before(Event.TAKE),
            after(STORING, Event.TAKE),
            now=self._clock.now(),
            lease_s=self._settings.lease_s,
            room=lambda _owner, _source: limit,
        )

    def store(self, file: RequestFile) -> None:
        """Store one file; a defect of ours fails it and never this process."""
        try:
            self._store(file)
        except PASSING as error:
            self._put_off(file, error)
        except MdmError as error:
            self._fail(file, error)
        except Exception as error:
            log.exception("storing_broke", error=type(error).__name__)
            self._fail(file, InternalError("storing broke; the site's log has the details"))

    def remove_due(self) -> None:
        """Have plugins remove what lost its name; one that does not answer is asked again."""
        for removal in self._stores.removals.due(self._clock.now(), self._settings.removals):
            try:
                self._host(removal.plugin).remove(FileRef(removal.guid, removal.plugin_ref, removal.release))
            except PASSING:
                later = self._clock.now() + timedelta(seconds=self._settings.pause_s)
                self._stores.removals.put_off(removal, later)
                continue
            except MdmError as error:
                log.warning("not_removed", guid=removal.guid, error=type(error).__name__)
            self._stores.removals.done(removal)

    # --- one file --------------------------------------------------------------------------------

    def _store(self, file: RequestFile) -> None:
        upload, received = self._upload(file)
        area = self._areas.of(upload.path)
        if area.sealed:
            self._hand_in(file, upload, received, area)
            return
        self._place(upload)
        digest = Digest()
        accepted = PluginUpload(
            guid=upload.guid,
            path=tuple(upload.path.strip("/").split("/")),
            release=area.release,
            size_bytes=received.size_bytes,
            adler32=received.adler32,
            chunks=self._chunks(upload, received, digest),
        )
        found = self._host(area.plugin).accept(accepted)
        try:
            _compare(digest, received)
            self._scratch.publish([(StagedName(upload.guid, 1), upload.name)])
            self._announce(file, upload, area, found, digest)
        except BaseException:
            self._stores.removals.add_one(upload.guid, area.plugin, found.plugin_ref, area.release)
            raise

    def _hand_in(self, file: RequestFile, upload: Upload, received: Received, area: Area) -> None:
        """Give an upload to its plugin and its news to the journal, and end the put.

        Walked again after it broke off, it ends the same: the plugin keeps one of what it knows already.
        """
        arrived = self._arrived.get(area.plugin)
        if not arrived:
            raise ConfigError(f"what is handed in to {area.plugin} is registered for no project")
        chunks = self._chunks(upload, received, _Sum())
        handed_in = PluginUpload(upload.guid, (), area.release, received.size_bytes, received.adler32, chunks)
        found = self._host(area.plugin).ingest(handed_in, arrived)
        self._record(upload.owner, area, [each.guid for each in found])
        with self._stores.database.transaction():
            self._stores.requests.move(
                [file.id], before(Event.STORE), after(STORING, Event.STORE), lease_until=0
            )
            self._stores.uploads.end(upload.token, [upload.path])

    def _upload(self, file: RequestFile) -> tuple[Upload, Received]:
        upload = self._stores.uploads.find_path(file.path) if file.path else None
        if upload is not None and upload.token == file.token and upload.source:
            upload = self._copied(upload)
        if upload is None or upload.token != file.token or upload.received is None:
            raise Aborted("the put was ended before it was stored")
        return upload, upload.received

    def _copied(self, upload: Upload) -> Upload:
        """Bring the bytes of the file that is copied into scratch, as if they had been uploaded.

        Only files of areas are: what their plugins stage is what was uploaded, and never sealed.
        """
        entry = self._stores.namespace.find_guid(Guid(upload.source))
        if entry is None or entry.guid is None or entry.release is None:
            raise NotFound("the file that is copied is no more")
        self._areas.of(entry.path)
        host, sink = self._host(entry.plugin), _CopySink(self._scratch)
        for batch in host.plan([FileRef(entry.guid, entry.plugin_ref, entry.release)]):
            for failure in host.stage(batch, sink, self._settings.copy_s).values():
                if failure is not None:
                    sink.incoming.discard()
                    raise failure
        received = Received(sink.digest.size_bytes, sink.digest.adler32)
        return replace(upload, name=sink.incoming.id, received=received)

    def _host(self, plugin: str) -> PluginHost:
        if plugin not in self._hosts:
            raise InternalError(f"an area names the plugin {plugin}, which plugins.d has not")
        return self._hosts[plugin]

    def _chunks(self, upload: Upload, received: Received, digest: Digest | _Sum) -> Iterator[bytes]:
        while digest.size_bytes < received.size_bytes:
            size = min(CHUNK_BYTES, received.size_bytes - digest.size_bytes)
            chunk = self._scratch.read(upload.name, digest.size_bytes, size)
            if not chunk:
                raise IntegrityError("scratch has fewer bytes of an upload than its door took in")
            digest.update(chunk)
            if digest.size_bytes == received.size_bytes:
                _compare(digest, received)
            yield chunk

    def _place(self, upload: Upload) -> Entry:
        """Return the directory that the file goes to, as it is now."""
        above = self._stores.namespace.find(parent(upload.path))
        if above is None:
            raise NotFound("the directory of the file is no more")
        if not above.is_directory:
            raise NotADirectory("the directory of the file is a file now")
        there = self._stores.namespace.find(upload.path)
        if there is not None and there.is_directory:
            raise IsADirectory("the name of the file is a directory's now")
        if there is not None and not upload.overwrite:
            raise AlreadyExists("the name of the file is another's now")
        return above

    def _announce(
        self, file: RequestFile, upload: Upload, area: Area, found: Discovered, digest: Digest
    ) -> None:
        """Give the file its name and end the put, or neither."""
        requests = self._stores.requests
        with self._stores.database.transaction():
            above = self._place(upload)
            if not requests.move([file.id], before(Event.STORE), after(STORING, Event.STORE), lease_until=0):
                raise Aborted("the put was ended while it was stored")
            entry = self._entry(upload, area, found, above, self._facts(upload, area, digest))
            replaced = self._stores.namespace.replace_file(entry)
            if replaced is not None:
                self._stores.removals.add([replaced])
                forget(self._stores, [replaced])
            self._stores.uploads.end(upload.token, [upload.path])
            if upload.space:  # as an upload it counts no longer
                self._stand(upload, digest.size_bytes)
            now = self._clock.now()
            self._stores.staged.add([Staged(upload.guid, self._settings.node, 1, digest.size_bytes)], now)
        self._record(upload.owner, area, [one for one in (upload.path, upload.guid) if is_object(one)])

    def _stand(self, upload: Upload, size_bytes: int) -> None:
        if not self._stores.spaces.has_room(upload.space, size_bytes):
            raise SpaceExhausted(FULL)
        self._stores.spaces.put(upload.guid, upload.space, size_bytes)

    def _entry(
        self,
        upload: Upload,
        area: Area,
        found: Discovered,
        above: Entry,
        facts: Facts,
    ) -> Entry:
        return Entry(
            path=upload.path,
            kind=Kind.FILE,
            owner=upload.owner,
            acl=inherited(above.acl, directory=False),
            shown_at=coarse(self._clock.now()),
            guid=upload.guid,
            release=area.release,
            facts=facts,
            plugin=area.plugin,
            plugin_ref=found.plugin_ref,
        )

    def _facts(self, upload: Upload, area: Area, digest: Digest) -> Facts:
        manifest = Manifest(
            guid=upload.guid,
            generation=1,
            size_bytes=digest.size_bytes,
            adler32=digest.adler32,
            blake3=digest.blake3,
            release=area.release,
            public_key=b"",
        )
        return Facts(digest.size_bytes, digest.adler32, manifest.sign(self._signing_key))

    def _put_off(self, file: RequestFile, error: MdmError) -> None:
        again = self._clock.now() + timedelta(seconds=self._settings.pause_s)
        self._stores.requests.move(
            [file.id], before(Event.TAKE), after(STORING, Event.TAKE),
            explanation=error.message, not_before=again, lease_until=0,
        )  # fmt: skip

    def _fail(self, file: RequestFile, error: MdmError) -> None:
        with self._stores.database.transaction():
            self._stores.requests.move(
                [file.id], [STORING], after(STORING, Event.REFUSE), failure=error, lease_until=0
            )
            if file.path is not None:
                self._stores.uploads.end(file.token, [file.path])

    def _record(self, owner: str, area: Area, objects: Sequence[str]) -> None:
        self._audit.record(
            AuditEvent(
                action=Action.STAGING,
                outcome=AuditOutcome.ALLOWED,
                dn=owner,
                operation="store",
                project=area.release.project,
                objects=tuple(objects),
            )
        )


class _CopySink(Slot):
    """Takes one file's bytes into scratch; it is its own slot."""

    def __init__(self, scratch: ScratchNode) -> None:
        self.incoming = scratch.begin()
        self.digest = Digest()

    def open(self, ref: FileRef) -> _CopySink:
        del ref
        return self

    def is_wanted(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.digest.update(data)
        self.incoming.write(data)

    def commit(self, report: str = "") -> None:
        del report
        self.incoming.finish()

    def fill(self, parts: Sequence[bytes | bytearray | memoryview], report: str = "") -> None:
        for part in parts:
            self.write(part)
        self.commit(report)

    def refuse(self, reason: str) -> None:
        self.incoming.discard()
        raise ObjectRefused(reason)


class _Sum:
    """What a `Digest` is of sealed bytes, for clear ones: these must not have a hash that names them."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._adler32 = 1

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self.size_bytes += len(data)
        self._adler32 = zlib_ng.adler32(data, self._adler32)

    @property
    def adler32(self) -> str:
        """Eight lower-case hex digits."""
        return f"{self._adler32:08x}"


def _compare(digest: Digest | _Sum, received: Received) -> None:
    if (digest.size_bytes, digest.adler32) != (received.size_bytes, received.adler32):
        raise IntegrityError("the bytes that were stored are not those that were uploaded")
