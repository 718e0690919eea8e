"""The inner zone's side of writing: fetches what users have uploaded, has plugins keep it, names it.

Like the stager it comes for its work and nobody calls it; what it claims, it holds by lease. The bytes are
checked against what the door took in, while the plugin reads them. Only when the plugin has them for good
does one transaction give the file its name and end the put; whatever fails before leaves no name and no
bytes behind. What lies in scratch is made ready to be read after that: without it the plugin has to be
asked. Small files share the transaction, the audit's write and the sync of scratch. The bytes of files that
lost their names are removed here too.

What is handed in to a sealed area gets no name of its own: its plugin keeps it and says what it is, the
registrar's journal is told as of anything that arrives, and the name that its user typed goes with the put.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.audit.event import Action, is_object
from srm_dicom.audit.event import Event as AuditEvent
from srm_dicom.audit.event import Outcome as AuditOutcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.areas import Area, Areas
from srm_dicom.broker.naming import Kept, Naming
from srm_dicom.broker.states import STORED, STORING, Event, after, before
from srm_dicom.broker.uploaded import UploadedBytes, compare
from srm_dicom.clock import Clock
from srm_dicom.crypto.digest import Digest, Sum
from srm_dicom.errors import (
    Aborted,
    ConfigError,
    InternalError,
    MdmError,
    NoSpace,
    NotFound,
    Overloaded,
    SourceUnavailable,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Arrived, FileRef
from srm_dicom.plugin.api import Upload as PluginUpload
from srm_dicom.plugin.host import PluginHost
from srm_dicom.scratch.area import StagedName
from srm_dicom.scratch.node import ScratchNode
from srm_dicom.store.requests import RequestFile
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Received, Upload
from srm_dicom.telemetry import logger

PASSING = (SourceUnavailable, Overloaded, NoSpace)
"""After these the same upload may be stored later; it waits in scratch meanwhile."""

_TOGETHER = 50
_TOGETHER_BYTES = 16 * 2**20
"""So many files, of so many bytes in all, are stored together."""

_HANDED_IN = "handed in"
"""Where images wait for which there is no place now: a claim looks at each kind by itself."""

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
        self._bytes = UploadedBytes(scratch)
        self._areas = areas
        self._naming = Naming(stores, signing_key, clock)
        self._audit = audit
        self._clock = clock
        self._arrived = arrived or {}

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what is under way is finished.

        Raises:
            Exception: what became of a file could not be written down. Called again it begins anew.
        """
        self._stores.leases.free(self._settings.worker)
        under_way: dict[Future[None], bool] = {}  # whether an archive may take its time for it
        seen, look_at_s = -1, self._clock.monotonic_s()
        with ThreadPoolExecutor(self._settings.at_once, "store") as pool:
            while not stop.is_set():
                state, now_s = self._stores.database.state(), self._clock.monotonic_s()
                if under_way or state != seen or now_s >= look_at_s:
                    seen, look_at_s = state, now_s + self._settings.look_s
                    self.remove_due()  # first: a removal that broke off half-way has left its place free
                    free = self._settings.at_once - len(under_way)
                    groups = self.claim(free, handing_in=sum(under_way.values()))
                    under_way |= {
                        pool.submit(self.store, each): self._is_handed_in(each[0]) for each in groups
                    }
                if under_way:
                    for over in wait(under_way, self._settings.idle_s, FIRST_COMPLETED).done:
                        del under_way[over]
                        over.result()
                else:
                    stop.wait(self._settings.idle_s)

    def claim(self, groups: int, *, handing_in: int = 0) -> list[list[RequestFile]]:
        """Claim files that wait to be stored: as many groups as are given, each to be stored together.

        Args:
            groups: how many.
            handing_in: so many are being handed in; one place is left for what no archive keeps waiting.
        """
        if groups <= 0:
            return []
        most = max(0, min(groups, max(1, self._settings.at_once - 1) - handing_in))
        claimed = self._stores.leases.claim(
            self._settings.worker,
            before(Event.TAKE),
            after(STORING, Event.TAKE),
            now=self._clock.now(),
            lease_s=self._settings.lease_s,
            room=lambda _owner, source: most if source else groups * _TOGETHER,
        )
        handed_in = [file for file in claimed if self._is_handed_in(file)]
        plain = [file for file in claimed if not self._is_handed_in(file)]
        found = [[file] for file in handed_in[:most]]
        found += self._grouped(plain, min(_TOGETHER, -(-len(plain) // groups)))
        found.sort(key=lambda files: files[0].id)
        chosen = {file.id for files in found[:groups] for file in files}
        for files, source in ((handed_in, _HANDED_IN), (plain, "")):
            beyond = [file.id for file in files if file.id not in chosen]
            self._stores.leases.give_back(beyond, source)  # they wait for whoever has time for them
        return found[:groups]

    def _is_handed_in(self, file: RequestFile) -> bool:
        return file.path is not None and self._areas.seal(file.path)

    def store(self, files: Sequence[RequestFile]) -> None:
        """Store files together, each for itself; a defect of ours fails them and never this process."""
        kept = [one for file in files if (one := self._keep(file)) is not None]
        self._make_ready(self._name(kept))

    def remove_due(self) -> None:
        """Have plugins remove what lost its name; one that does not answer, or breaks, is asked again.

        What another process has removed meanwhile is left alone: its place may be another file's by now.
        """
        for removal in self._stores.removals.due(self._clock.now(), self._settings.removals):
            if not self._stores.removals.has(removal):
                continue
            try:
                self._host(removal.plugin).remove(FileRef(removal.guid, removal.plugin_ref, removal.release))
            except (*PASSING, InternalError):
                later = self._clock.now() + timedelta(seconds=self._settings.pause_s)
                self._stores.removals.put_off(removal, later)
                continue
            except MdmError as error:
                log.warning("not_removed", guid=removal.guid, error=type(error).__name__)
            self._stores.removals.done(removal)

    # --- one file --------------------------------------------------------------------------------

    def _grouped(self, files: Sequence[RequestFile], most: int) -> list[list[RequestFile]]:
        """Cut files into groups that are small enough to be stored together."""
        uploads = self._stores.uploads.of_paths([file.path for file in files if file.path])
        groups: list[list[RequestFile]] = []
        room_bytes = 0
        for file in files:
            upload = uploads.get(file.path) if file.path else None
            size_bytes = max(upload.expected_bytes, _size(upload.received)) if upload else 0
            if not groups or len(groups[-1]) >= most or size_bytes > room_bytes:
                groups.append([])
                room_bytes = _TOGETHER_BYTES
            groups[-1].append(file)
            room_bytes -= size_bytes
        return groups

    @contextmanager
    def _deciding(self, *files: RequestFile) -> Iterator[None]:
        """Have whatever fails in a block be the files' failure, or put them off."""
        try:
            yield
        except PASSING as error:
            self._put_off(files, error)
        except MdmError as error:
            self._fail(files, error)
        except Exception as error:
            log.exception("storing_broke", error=type(error).__name__)
            self._fail(files, InternalError("storing broke; the site's log has the details"))

    @contextmanager
    def _undoing(self, *kept: Kept) -> Iterator[None]:
        """Have bytes removed that got no name."""
        try:
            yield
        except BaseException:
            with self._stores.database.transaction():
                for one in kept:
                    self._stores.removals.add_one(
                        one.upload.guid, one.area.plugin, one.found.plugin_ref, one.area.release
                    )
            raise

    def _keep(self, file: RequestFile) -> Kept | None:
        """Give an upload to its plugin; None of what failed, or was handed in."""
        with self._deciding(file):
            upload, received = self._upload(file)
            area = self._areas.of(upload.path)
            if area.sealed:
                self._hand_in(file, upload, received, area)
                return None
            self._naming.place(upload)
            digest = Digest()
            accepted = PluginUpload(
                guid=upload.guid,
                path=tuple(upload.path.strip("/").split("/")),
                release=area.release,
                size_bytes=received.size_bytes,
                adler32=received.adler32,
                chunks=self._bytes.chunks(upload, received, digest),
            )
            found = self._host(area.plugin).accept(accepted)
            kept = Kept(file, upload, area, found, digest)
            with self._undoing(kept):
                compare(digest, received)
            return kept
        return None

    def _name(self, kept: Sequence[Kept]) -> list[Kept]:
        """Give files their names and end their puts; nothing is done that the audit does not have."""
        if not kept:
            return []
        with self._deciding(*(one.file for one in kept)), self._undoing(*kept):
            with self._stores.database.transaction():
                named = [one for one in kept if self._announced(one)]
                self._audit.record(*(_stored(one) for one in named))
            return named
        return []

    def _announced(self, kept: Kept) -> bool:
        with self._deciding(kept.file), self._undoing(kept):
            with self._stores.database.transaction():
                self._naming.announce(kept)
            return True
        return False

    def _make_ready(self, named: Sequence[Kept]) -> None:
        """Let what still is there be read from scratch, and its owners hear that it is stored."""
        if not named:
            return
        ready = self._published(named)
        with self._stores.database.transaction(lasting=False):  # without it, it is swept
            there = self._stores.namespace.find_guids([one.upload.guid for one in ready])
            sizes = {one.upload.guid: one.digest.size_bytes for one in ready}
            node, now = self._settings.node, self._clock.now()
            self._stores.staged.add([Staged(guid, node, 1, sizes[guid]) for guid in there], now)
            self._stores.leftovers.leave(
                node, [str(StagedName(guid, 1)) for guid in sizes if guid not in there]
            )
            self._stores.requests.move([one.file.id for one in named], [STORED], STORED, lease_until=0)

    def _published(self, named: Sequence[Kept]) -> Sequence[Kept]:
        """Make files ready; what goes wrong leaves all of them to their plugins."""
        try:
            self._scratch.publish([(StagedName(one.upload.guid, 1), one.upload.name) for one in named])
        except (MdmError, OSError) as error:
            log.warning("not_staged", count=len(named), error=type(error).__name__)
            return ()
        return named

    def _hand_in(self, file: RequestFile, upload: Upload, received: Received, area: Area) -> None:
        """Give an upload to its plugin and its news to the journal, and end the put.

        Walked again after it broke off, it ends the same: the plugin keeps one of what it knows already.
        """
        arrived = self._arrived.get(area.plugin)
        if not arrived:
            raise ConfigError(f"what is handed in to {area.plugin} is registered for no project")
        chunks = self._bytes.chunks(upload, received, Sum())
        handed_in = PluginUpload(upload.guid, (), area.release, received.size_bytes, received.adler32, chunks)
        found = self._host(area.plugin).ingest(handed_in, arrived)
        self._audit.record(_event(upload.owner, area, [each.guid for each in found]))
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
        """Bring the bytes of the file that is copied into scratch.

        Only files of areas are: what their plugins stage is what was uploaded, and never sealed.
        """
        entry = self._stores.namespace.find_guid(Guid(upload.source))
        if entry is None or entry.guid is None or entry.release is None:
            raise NotFound("the file that is copied is no more")
        self._areas.of(entry.path)
        ref = FileRef(entry.guid, entry.plugin_ref, entry.release)
        name, received = self._bytes.copy(ref, self._host(entry.plugin), self._settings.copy_s)
        return replace(upload, name=name, received=received)

    def _host(self, plugin: str) -> PluginHost:
        if plugin not in self._hosts:
            raise InternalError(f"an area names the plugin {plugin}, which plugins.d has not")
        return self._hosts[plugin]

    def _put_off(self, files: Sequence[RequestFile], error: MdmError) -> None:
        again = self._clock.now() + timedelta(seconds=self._settings.pause_s)
        self._stores.requests.move(
            [file.id for file in files], before(Event.TAKE), after(STORING, Event.TAKE),
            explanation=error.message, not_before=again, lease_until=0,
        )  # fmt: skip

    def _fail(self, files: Sequence[RequestFile], error: MdmError) -> None:
        refused = after(STORING, Event.REFUSE)
        with self._stores.database.transaction():
            for file in files:
                self._stores.requests.move([file.id], [STORING], refused, failure=error, lease_until=0)
                if file.path is not None:
                    self._stores.uploads.end(file.token, [file.path])


def _size(received: Received | None) -> int:
    return received.size_bytes if received else 0


def _stored(kept: Kept) -> AuditEvent:
    names = [one for one in (kept.upload.path, kept.upload.guid) if is_object(one)]
    return _event(kept.upload.owner, kept.area, names)


def _event(owner: str, area: Area, objects: Sequence[str]) -> AuditEvent:
    return AuditEvent(
        action=Action.STAGING,
        outcome=AuditOutcome.ALLOWED,
        dn=owner,
        operation="store",
        project=area.release.project,
        objects=tuple(objects),
    )
