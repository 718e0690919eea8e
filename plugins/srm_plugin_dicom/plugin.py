"""The DICOM storage plugin: finds images in PACS, has them sent, lets nothing of the patient out.

A file is one SOP instance for one release. `discover` asks by C-FIND; `listen` takes what archives
forward; `ingest` gives an archive what users upload; `stage` asks for a batch by one C-MOVE, and each
object that arrives is de-identified in memory and written into its slot before the PACS gets its answer.
Success is what arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import click

from srm_dicom.errors import (
    ConfigError,
    IntegrityError,
    InvalidRequest,
    NotDelivered,
    NotSupported,
    Overloaded,
)
from srm_dicom.plugin.api import (
    Arrived,
    Batch,
    Check,
    Discovered,
    FileRef,
    Patient,
    PluginContext,
    Sink,
    Source,
    StoragePlugin,
    Upload,
)
from srm_dicom.rights.project import Release
from srm_dicom.telemetry import logger
from srm_plugin_dicom.archive import Archive, Wanted
from srm_plugin_dicom.arrivals import ArrivalDesk
from srm_plugin_dicom.bringing import Bringing
from srm_plugin_dicom.checking import checked, echo, movers, reachable
from srm_plugin_dicom.commands import group
from srm_plugin_dicom.deidentify import Context, current_version
from srm_plugin_dicom.delivery import Delivery
from srm_plugin_dicom.discovery import any_image, walk
from srm_plugin_dicom.failover import LONGEST_AT_RATE_S, Failover
from srm_plugin_dicom.header import keep_values_out_of_logs
from srm_plugin_dicom.hours import Load
from srm_plugin_dicom.moves import Deliver, MemoryBudget
from srm_plugin_dicom.moving import MoveArchive
from srm_plugin_dicom.naming import Names
from srm_plugin_dicom.receiver import Receiver
from srm_plugin_dicom.reference import ObjectRef, open_ref, seal_ref
from srm_plugin_dicom.secrets import load_or_create, project_key
from srm_plugin_dicom.selector import UNIQUE, is_uid, parse_selector
from srm_plugin_dicom.settings import arriving_peers, moving_peers, parse_settings
from srm_plugin_dicom.source_settings import AnySourceSettings, WebSourceSettings
from srm_plugin_dicom.speaking import Speaking
from srm_plugin_dicom.stores import ObjectInfo
from srm_plugin_dicom.trial import TrialDesk, ask

CHECK_S = 30.0
WORTH_A_VISIT = 50
"""Fewer files are not divided: while one visit waits for the archive, another must have enough to do."""

_WORDS = {"move": ("C-ECHO", "C-MOVE"), "get": ("C-ECHO", "C-GET"), "web": ("QIDO-RS", "WADO-RS")}
"""What the two checks of a source are called."""
log = logger("dicom")


class DicomPlugin(StoragePlugin):
    """See the module."""

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        keep_values_out_of_logs()
        self._settings = parse_settings(context.settings)
        self._master = load_or_create(context.secrets / "master")
        self._ref_key = load_or_create(context.secrets / "ref")
        self._budget = MemoryBudget(self._settings.max_held_bytes)
        self._speaking = Speaking(self._settings, context, self._budget)
        self._names_of: dict[Release, Names] = {}
        self._moves_node: Receiver | None = None
        self._trials: TrialDesk | None = None
        self._lock = threading.Lock()
        self._bearing = {source.name: source for source in self._settings.sources}
        self._whole = {each.name for each in self._settings.site_profiles if each.transform}
        self._archives = {
            source.name: self._speaking.archive(source, self._listen_for_moves)
            for source in self._settings.sources
        }
        self._uploads = self._speaking.uploads(self._archives)
        self._failover = Failover(
            tuple(self._archives.values()),
            self._load,
            rest_s=self._settings.rest_s,
            clock=context.clock,
        )

    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        """Yield the images of a selector; see `srm_plugin_dicom.selector`."""
        wanted = parse_selector(selector)
        sources = [each for each in self._settings.sources if wanted.source in ("", each.name)]
        if not sources:
            raise InvalidRequest("the selector names a source that is not configured")
        for source in sources:
            for header in walk(self._archives[source.name], wanted):
                yield self._discovered(source.name, header, release)

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        """Group files by source, study and release, so that as many visits as the source bears share.

        Within a study the images of a series stay together; only a C-MOVE asks for several series at once.
        """
        studies: dict[tuple[str, str, Release], dict[str, list[FileRef]]] = {}
        for file in files:
            source, key, series = self._whereabouts(file)
            studies.setdefault((source, key, file.release), {}).setdefault(series, []).append(file)
        groups = {where: [*chain.from_iterable(study.values())] for where, study in studies.items()}
        return [
            Batch(source, key, tuple(group[start : start + size]))
            for (source, key, _), group in groups.items()
            for size in [self._batch_size(source, len(group), group[0].release)]
            for start in range(0, len(group), size)
        ]

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        """Fetch a batch from its source, or what that does not send from the source's mirrors.

        Raises:
            SourceUnavailable, SourceSlow, SourceRefused, NotDelivered, Overloaded: not everything came.
        """
        files = {ref.instance: (ref, file) for file in batch.files for ref in [self._open(file)]}
        source = self._settings.source(next(iter(files.values()))[0].source)
        if source is None:
            raise IntegrityError("the files are of a source that is not configured any more")
        names = (source.name, *source.mirrors)
        release = batch.files[0].release
        end_s = self.context.clock.monotonic_s() + deadline_s
        with Delivery(self._context(release), self._budget, self._settings.max_series_bytes) as delivery:
            bringing = Bringing(files, sink, delivery, in_series=release.profile in self._whole)
            wanted, deliver = bringing.wanted(), bringing.deliver
            try:
                self._failover.fetch(names, wanted, deliver, deadline_s, batch.waited)
            finally:
                if delivery.waits and sink.is_wanted():
                    self._fetch_rest(names, wanted[0], delivery, deliver, end_s)
                    delivery.finish()

    def _fetch_rest(
        self, names: Sequence[str], part: Wanted, delivery: Delivery, deliver: Deliver, end_s: float
    ) -> None:
        """Fetch what a series has besides, or lacks still."""
        there = self._failover.instances(names, part.study, part.series)
        rest = [instance for instance in there if instance not in delivery.arrived]
        for at in range(0, len(rest), self._settings.batch_files):
            wanted = replace(part, instances=tuple(rest[at : at + self._settings.batch_files]))
            left_s = end_s - self.context.clock.monotonic_s()
            self._failover.fetch(names, [wanted], deliver, left_s)

    @contextmanager
    def listen(self, arrived: Arrived) -> Iterator[None]:
        """Take what configured peers forward to the arrivals' AE."""

        def report(info: ObjectInfo, header: dict[str, str]) -> None:
            source = self._settings.source_of_peer(info.calling)
            for release, tell in arrived.items():
                tell(self._discovered(source, header, release))

        peers = arriving_peers(self._settings)
        node = self._speaking.receiver(self._settings.arrivals, peers, ArrivalDesk(report))
        try:
            yield
        finally:
            node.stop()

    def ingest(self, upload: Upload, arrived: Arrived) -> None:
        """Put an object into the archive that the site names for uploads; see `accepting`."""
        if self._uploads is None:
            raise NotSupported("the site names no archive for uploads")
        header = self._uploads.take(upload.chunks)
        for release, tell in arrived.items():
            tell(self._discovered(self._uploads.source, header, release))

    def profile_version(self, profile: str) -> str:
        """Return the version of a de-identification profile that new releases get."""
        return current_version(profile, self._settings.site_profiles)

    def patient_path(self, patient: Patient, release: Release) -> tuple[str, ...]:
        """Return the pseudonym of a patient."""
        return (self._names(release).patient(patient.id, patient.issuer),)

    def sources(self) -> Sequence[Source]:
        """Return the PACS with what each bears now; a probe asks whether it is there."""
        return [self._source(name, archive) for name, archive in self._archives.items()]

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        """Take the limits and hours of the sources that there are; the rest needs a restart."""
        self._bearing = {source.name: source for source in parse_settings(settings).sources}

    def checks(self) -> Iterator[Check]:
        """Yield for each PACS whether it answers and whether one image can be brought here."""
        node, hosts = self._settings.moves, movers(self._settings)
        if hosts:
            yield checked(f"AE {node.ae_title}", partial(reachable, node, hosts))
        for source in self._settings.sources:
            ask, fetch = _WORDS[_way(source)]
            archive = self._archives[source.name]
            yield checked(f"PACS {source.name}: {ask}", partial(echo, archive))
            yield checked(f"PACS {source.name}: {fetch}", partial(self._check_fetch, source.name))
        if self._uploads is not None:
            yield checked(f"PACS {self._uploads.source}: C-STORE", self._uploads.check)

    @classmethod
    def commands(cls) -> click.Group:
        """Return ``srm-dicom dicom ...``."""
        return group()

    def close(self) -> None:
        """Close the moves' AE and the associations with archives."""
        for archive in self._archives.values():
            archive.close()
        if self._uploads is not None:
            self._uploads.close()
        with self._lock:
            if self._trials is not None:
                self._trials.stop()
                self._trials = None
            if self._moves_node is not None:
                self._moves_node.stop()
                self._moves_node = None

    def _discovered(self, source: str, header: Mapping[str, str], release: Release) -> Discovered:
        try:
            study, series, instance = (header[key].strip(" \0") for key in UNIQUE.values())
        except KeyError:
            raise InvalidRequest("an object does not say which it is") from None
        if not (is_uid(study) and is_uid(series) and is_uid(instance)):
            raise InvalidRequest("an object goes by a name that is no UID")
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

    def _open(self, file: FileRef) -> ObjectRef:
        return open_ref(self._ref_key, file.guid, file.plugin_ref)

    def _whereabouts(self, file: FileRef) -> tuple[str, str, str]:
        """Return source and key of the visit that brings a file, and its series; see `plan`.

        One that cannot be read fails there. A profile that needs whole series has each for itself.
        """
        try:
            ref = self._open(file)
        except IntegrityError:
            return "none", "unreadable", ""
        moves = isinstance(self._archives.get(ref.source), MoveArchive)
        alone = not moves or file.release.profile in self._whole
        key = self._names(file.release).group(ref.series if alone else ref.study)
        return ref.source, key, ref.series

    def _batch_size(self, source: str, count: int, release: Release) -> int:
        """Return how many files a visit brings: one user's visits share, and none outlasts the rate.

        Under a profile that needs whole series each visit would fetch all of it.
        """
        if release.profile in self._whole:
            return self._settings.batch_files
        load, settings = self._load(source), self._bearing.get(source)
        kept = settings.kept_visits if settings else 0
        size = max(-(-count // max(1, load.max_visits - kept)), WORTH_A_VISIT)
        if load.files_per_s:
            size = min(size, max(1, int(load.files_per_s * LONGEST_AT_RATE_S)))
        return min(size, self._settings.batch_files)

    def _source(self, name: str, archive: Archive) -> Source:
        load, settings = self._load(name), self._bearing.get(name)
        if settings is None:
            return Source(name, load.max_visits, archive.echo, note=load.note)
        return Source(
            name,
            load.max_visits,
            archive.echo,
            load.files_per_s,
            load.note,
            settings.first_pause_s,
            settings.longest_pause_s,
            settings.first_object_s,
            settings.kept_visits,
            settings.user_files,
            settings.limits(self.context.clock.now()),
        )

    def _load(self, name: str) -> Load:
        source = self._bearing.get(name)
        return source.load(self.context.clock.now()) if source else Load(0, note="no longer configured")

    def _context(self, release: Release) -> Context:
        policy = self._settings.pixels.policy(release.project)
        key = project_key(self._master, release.project)
        return Context(key, release, policy, self._settings.site_profiles)

    def _names(self, release: Release) -> Names:
        """Return the names of a release; its keys are derived once, and asked for with every file."""
        names = self._names_of.get(release)
        if names is None:
            names = self._names_of[release] = Names(project_key(self._master, release.project), release)
        return names

    def _listen_for_moves(self) -> None:
        try:
            self._open_moves()
        except ConfigError as error:  # a check may hold the port, for as long as it takes
            raise Overloaded(error.message, advice=error.advice) from error

    def _open_moves(self) -> None:
        with self._lock:
            if self._moves_node is not None:
                return
            peers = moving_peers(self._settings)
            self._moves_node = self._speaking.moves_receiver(peers)
            try:
                self._trials = TrialDesk(self._settings.moves, self._try_fetch)
            except OSError:
                log.warning("no_trials_here")

    def _check_fetch(self, source: str) -> str:
        """Have one image brought here; while a stager holds the port of moves, to the stager."""
        if isinstance(self._archives[source], MoveArchive):
            try:
                self._open_moves()
            except ConfigError:
                return f"{ask(self._settings.moves, source, 2 * CHECK_S)}, to the stager that runs here"
        return self._try_fetch(source)

    def _try_fetch(self, source: str) -> str:
        archive = self._archives.get(source)
        if archive is None:
            raise InvalidRequest("the stager that runs here knows no such source")
        header = any_image(archive, self.context.clock.now())
        if header is None:
            return "it has no image to try with"
        study, series, instance = (header[key] for key in UNIQUE.values())
        wanted, came = [Wanted(study, series, (instance,))], []
        started_s = self.context.clock.monotonic_s()
        archive.fetch(wanted, lambda info, _data: came.append(info), CHECK_S)
        if not came:
            raise NotDelivered("it said that it was done, and no image came")
        return f"one image came in {self.context.clock.monotonic_s() - started_s:.2f} s"


def _way(source: AnySourceSettings) -> str:
    return "web" if isinstance(source, WebSourceSettings) else source.retrieve
