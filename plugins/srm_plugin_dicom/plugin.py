"""The DICOM storage plugin: finds images in PACS, has them sent, lets nothing of the patient out.

A file is one SOP instance for one release. `discover` asks by C-FIND; `listen` takes what archives
forward; `stage` asks for a batch by one C-MOVE, and each object that arrives is de-identified in memory
and written into its slot before the PACS gets its answer. Success is what arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import click

from srm_dicom.errors import IntegrityError, InvalidRequest, MdmError, NotDelivered
from srm_dicom.plugin.api import (
    Arrived,
    Batch,
    Check,
    Discovered,
    FileRef,
    PluginContext,
    Sink,
    Source,
    StoragePlugin,
)
from srm_dicom.rights.project import Release
from srm_plugin_dicom.arrivals import ArrivalDesk
from srm_plugin_dicom.association import Handler, Limits, ObjectInfo
from srm_plugin_dicom.commands import group
from srm_plugin_dicom.deidentify import Context, current_version
from srm_plugin_dicom.delivery import Delivery
from srm_plugin_dicom.discovery import any_image, walk
from srm_plugin_dicom.header import keep_values_out_of_logs
from srm_plugin_dicom.moves import Deliver, MemoryBudget, MoveDesk, Visit
from srm_plugin_dicom.naming import Names
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.receiver import Peer, Receiver
from srm_plugin_dicom.reference import ObjectRef, open_ref, seal_ref
from srm_plugin_dicom.secrets import load_or_create, project_key
from srm_plugin_dicom.selector import parse_selector
from srm_plugin_dicom.settings import (
    NodeSettings,
    SourceSettings,
    arriving_peers,
    moving_peers,
    parse_settings,
)

CHECK_S = 30.0
_UNIQUE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class DicomPlugin(StoragePlugin):
    """See the module."""

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        keep_values_out_of_logs()
        self._settings = parse_settings(context.settings)
        self._master = load_or_create(context.secrets / "master")
        self._ref_key = load_or_create(context.secrets / "ref")
        self._desk = MoveDesk(
            max_object_bytes=self._settings.max_object_bytes,
            budget=MemoryBudget(self._settings.max_held_bytes),
        )
        self._moves_node: Receiver | None = None
        self._lock = threading.Lock()

    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        """Yield the images of a selector; see `srm_plugin_dicom.selector`."""
        wanted = parse_selector(selector)
        sources = [each for each in self._settings.sources if wanted.source in ("", each.name)]
        if not sources:
            raise InvalidRequest("the selector names a source that is not configured")
        for source in sources:
            for header in walk(self._pacs(source), wanted):
                yield self._discovered(source.name, header, release)

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        """Group files by source, series and release, at most `batch_files` together."""
        groups: dict[tuple[str, str, Release], list[FileRef]] = {}
        for file in files:
            groups.setdefault((*self._whereabouts(file), file.release), []).append(file)
        size = self._settings.batch_files
        return [
            Batch(source, key, tuple(group[start : start + size]))
            for (source, key, _), group in groups.items()
            for start in range(0, len(group), size)
        ]

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        """Fetch a batch by one C-MOVE.

        Raises:
            SourceUnavailable, SourceRefused: the PACS would not.
            NotDelivered: not everything came.
        """
        refs = {ref.instance: (ref, file) for file in batch.files for ref in [self._open(file)]}
        first = next(iter(refs.values()))[0]
        source = self._settings.source(first.source)
        if source is None:
            raise IntegrityError("the files are of a source that is not configured any more")
        release = batch.files[0].release
        delivery = Delivery(self._context(release))

        def deliver(info: ObjectInfo, data: bytearray) -> None:
            delivery.deliver(info, data, sink.open(refs[info.sop_instance][1]))

        self._fetch(source, first, tuple(refs), deliver, deadline_s)

    @contextmanager
    def listen(self, arrived: Arrived) -> Iterator[None]:
        """Take what configured peers forward to the arrivals' AE."""

        def report(info: ObjectInfo, header: dict[str, str]) -> None:
            source = self._settings.source_of_peer(info.calling)
            for release, tell in arrived.items():
                tell(self._discovered(source, header, release))

        peers = arriving_peers(self._settings)
        node = self._listening(self._settings.arrivals, peers, ArrivalDesk(report))
        try:
            yield
        finally:
            node.stop()

    def profile_version(self, profile: str) -> str:
        """Return the version of a de-identification profile that new releases get."""
        return current_version(profile)

    def sources(self) -> Sequence[Source]:
        """Return the PACS; a probe is a C-ECHO."""
        return [
            Source(source.name, source.max_visits, self._pacs(source).echo)
            for source in self._settings.sources
        ]

    def checks(self) -> Iterator[Check]:
        """Yield for each PACS whether it answers and whether one image can be moved here."""
        for source in self._settings.sources:
            yield _check(f"PACS {source.name}: C-ECHO", partial(self._check_echo, source))
            yield _check(f"PACS {source.name}: C-MOVE", partial(self._check_move, source))

    @classmethod
    def commands(cls) -> click.Group:
        """Return ``srm-dicom dicom ...``."""
        return group()

    def close(self) -> None:
        """Close the moves' AE."""
        with self._lock:
            if self._moves_node is not None:
                self._moves_node.stop()
                self._moves_node = None

    def _discovered(self, source: str, header: Mapping[str, str], release: Release) -> Discovered:
        try:
            study, series, instance = (header[key] for key in _UNIQUE)
        except KeyError:
            raise InvalidRequest("an object does not say which it is") from None
        names = self._names(release)
        patient = (header.get("PatientID", ""), header.get("IssuerOfPatientID", ""))
        guid = names.guid(instance)
        return Discovered(
            guid=guid,
            path=names.components(*patient, study, series, instance),
            group=names.group(series),
            plugin_ref=seal_ref(self._ref_key, guid, ObjectRef(source, study, series, instance)),
            attributes=names.attributes(header),
            nominative=names.nominative(header),
        )

    def _fetch(
        self,
        source: SourceSettings,
        ref: ObjectRef,
        instances: tuple[str, ...],
        deliver: Deliver,
        deadline_s: float,
    ) -> None:
        self._open_moves()
        clock = self.context.clock
        end_s = clock.monotonic_s() + deadline_s
        visit = Visit(source.senders, instances, deliver, clock)
        title = self._settings.moves.ae_title
        with self._desk.expecting(visit), self._pacs(source).session() as session:
            claim = session.move(ref.study, ref.series, instances, title, deadline_s)
            missing = visit.wait(end_s, self._settings.settle_s if claim.complete else 0.0)
        if missing:
            raise NotDelivered(f"{source.name} did not send {missing} of {len(instances)} images")

    def _open(self, file: FileRef) -> ObjectRef:
        return open_ref(self._ref_key, file.guid, file.plugin_ref)

    def _whereabouts(self, file: FileRef) -> tuple[str, str]:
        """Return source and key of the visit that brings a file; one that cannot be read fails there."""
        try:
            ref = self._open(file)
        except IntegrityError:
            return "none", "unreadable"
        return ref.source, self._names(file.release).group(ref.series)

    def _context(self, release: Release) -> Context:
        policy = self._settings.pixels.policy(release.project)
        return Context(project_key(self._master, release.project), release, policy)

    def _names(self, release: Release) -> Names:
        return Names(project_key(self._master, release.project), release)

    def _pacs(self, source: SourceSettings) -> Pacs:
        settings = PacsSettings(
            source.name,
            source.ae_title,
            source.host,
            source.port,
            self._settings.connect_s,
            self._settings.answer_s,
        )
        return Pacs(settings, self._settings.moves.ae_title, self.context.clock)

    def _open_moves(self) -> None:
        with self._lock:
            if self._moves_node is None:
                peers = moving_peers(self._settings)
                self._moves_node = self._listening(self._settings.moves, peers, self._desk)

    def _listening(self, node: NodeSettings, peers: Sequence[Peer], handler: Handler) -> Receiver:
        receiver = Receiver(
            node.ae_title,
            bind=node.bind,
            port=node.port,
            peers=peers,
            handler=handler,
            clock=self.context.clock,
            limits=Limits(self._settings.max_associations, idle_s=self._settings.idle_s),
        )
        receiver.start()
        return receiver

    def _check_echo(self, source: SourceSettings) -> str:
        self._pacs(source).echo()
        return "it answers"

    def _check_move(self, source: SourceSettings) -> str:
        header = any_image(self._pacs(source))
        if header is None:
            return "it has no image to try with"
        ref = ObjectRef(source.name, *(header[key] for key in _UNIQUE))
        started_s = self.context.clock.monotonic_s()
        self._fetch(source, ref, (ref.instance,), lambda _info, _data: None, CHECK_S)
        return f"one image came in {self.context.clock.monotonic_s() - started_s:.2f} s"


def _check(name: str, probe: Callable[[], str]) -> Check:
    try:
        return Check(name, passed=True, detail=probe())
    except MdmError as error:
        return Check(name, passed=False, detail=" ".join(filter(None, (error.message, error.advice))))
