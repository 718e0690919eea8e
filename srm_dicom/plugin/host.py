"""The host of a storage plugin: loads it, and wraps every call so that the server can rely on it.

A plugin may raise anything, return anything and never return. What leaves the host is an error of the
tree or a checked value, within a bound on time, files and bytes. An exception that is no error of the
tree is a defect of the plugin: it is logged by its class, its place and an id, never by its text, which
may hold a value of a patient. `stage` runs in a thread of its own; at the deadline its slots are shut
and the thread is abandoned.
"""

from __future__ import annotations

import re
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from srm_dicom.errors import (
    ConfigError,
    InternalError,
    MdmError,
    NotDelivered,
    Overloaded,
    TooLarge,
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
from srm_dicom.plugin.guard import GuardedSink, Outcomes
from srm_dicom.rights.project import Release
from srm_dicom.telemetry import logger

ENTRY_POINTS = "srm_dicom.plugins"
log = logger("plugin")

_COMPONENT = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds on what a plugin may do.

    Attributes:
        max_file_bytes: most plain bytes of one file.
        max_batch_files: most files of one batch that a plugin may plan.
        max_discovered: most objects that one selector may find.
        max_abandoned: threads that did not come back in time; at this many nothing is staged any more.
    """

    max_file_bytes: int = 8 << 30
    max_batch_files: int = 10_000
    max_discovered: int = 100_000_000
    max_abandoned: int = 8


def commands(kind: str) -> click.Group | None:
    """Return the commands of a kind of plugin, if it is installed and has some."""
    for point in entry_points(group=ENTRY_POINTS, name=kind):
        with _contained(kind, "commands"):
            found: click.Group | None = point.load().commands()
            return found
    return None


class PluginHost:
    """One plugin instance, made safe; the methods are those of `StoragePlugin`."""

    def __init__(self, plugin: StoragePlugin, *, name: str, limits: HostLimits | None = None) -> None:
        self.name = name
        self._plugin = plugin
        self._limits = limits or HostLimits()
        self._abandoned: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def module(self) -> str:
        """Name of the module that the plugin's class is in."""
        return type(self._plugin).__module__

    @classmethod
    def load(
        cls,
        kind: str,
        context: PluginContext,
        limits: HostLimits | None = None,
    ) -> PluginHost:
        """Make an instance of the plugin whose entry point is `kind`.

        Raises:
            ConfigError: no such plugin, or it does not take its settings.
        """
        found = list(entry_points(group=ENTRY_POINTS, name=kind))
        if not found:
            known = ", ".join(sorted(point.name for point in entry_points(group=ENTRY_POINTS)))
            raise ConfigError(f"there is no storage plugin {kind!r}", advice=f"Installed: {known}.")
        context.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _contained(context.name, "load"):
            plugin = found[0].load()(context)
            if not isinstance(plugin, StoragePlugin):
                raise ConfigError(f"the entry point {kind!r} is no storage plugin")
            return cls(plugin, name=context.name, limits=limits)

    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        """Yield what exists under a selector, each thing checked.

        Raises:
            TooLarge: more than `HostLimits.max_discovered`.
        """
        with _contained(self.name, "discover"):
            for count, found in enumerate(self._plugin.discover(selector, release)):
                if count >= self._limits.max_discovered:
                    raise TooLarge("the selector finds more than may be registered at once")
                yield _checked(self.name, found)

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        """Group files into batches, each file in exactly one.

        Raises:
            InternalError: the plugin lost, doubled or invented a file.
        """
        with _contained(self.name, "plan"):
            batches = tuple(self._plugin.plan(files))
            planned = [ref.guid for batch in batches for ref in batch.files]
            if sorted(planned) != sorted(ref.guid for ref in files):
                raise InternalError(f"plugin {self.name} did not plan every file exactly once")
            if any(len(batch.files) > self._limits.max_batch_files for batch in batches):
                raise InternalError(f"plugin {self.name} planned too large a batch")
            return batches

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> Outcomes:
        """Let the plugin fill the slots of a batch for at most `deadline_s` seconds.

        Returns:
            An outcome for every file: `ObjectRefused` where the plugin refused, the plugin's own error
            where it raised one, `NotDelivered` where a slot was missing or late.

        Raises:
            Overloaded: too many earlier calls have not come back.
        """
        self._bound_abandoned()
        guarded = GuardedSink(sink, batch, self._limits.max_file_bytes)
        failure: list[MdmError] = []

        def work() -> None:
            try:
                with _contained(self.name, "stage"):
                    self._plugin.stage(batch, guarded, deadline_s)
            except MdmError as error:
                failure.append(error)

        thread = threading.Thread(target=work, name=f"stage-{self.name}", daemon=True)
        thread.start()
        thread.join(deadline_s)
        guarded.close()
        if thread.is_alive():
            self._abandon(thread)
            late = NotDelivered("the file had not arrived when its time was up")
            return guarded.outcomes(late)
        missing = NotDelivered("the source said it was done, and the file had not arrived")
        return guarded.outcomes(failure[0] if failure else missing)

    @contextmanager
    def listen(self, arrived: Arrived) -> Iterator[None]:
        """Report what arrives by itself, each thing checked, for as long as the context lives."""

        def checked(report: Callable[[Discovered], None]) -> Callable[[Discovered], None]:
            return lambda found: report(_checked(self.name, found))

        with _contained(self.name, "listen"):
            context = self._plugin.listen({release: checked(each) for release, each in arrived.items()})
            context.__enter__()
        try:
            yield
        finally:
            with _contained(self.name, "listen"):
                context.__exit__(None, None, None)

    def profile_version(self, profile: str) -> str:
        """Return the current version of a de-identification profile."""
        with _contained(self.name, "profile_version"):
            return self._plugin.profile_version(profile)

    def patient_path(self, patient: Patient, release: Release) -> tuple[str, ...]:
        """Return what all files of a patient are below in a release; empty if the plugin does not know."""
        with _contained(self.name, "patient_path"):
            path = self._plugin.patient_path(patient, release)
            return _exportable(self.name, path) if path else ()

    def accept(self, upload: Upload) -> Discovered:
        """Give a finished upload to the plugin."""
        with _contained(self.name, "accept"):
            found = _checked(self.name, self._plugin.accept(upload))
            if found.guid != upload.guid:
                raise InternalError(f"plugin {self.name} took an upload for another file")
            return found

    def ingest(self, upload: Upload, arrived: Arrived) -> tuple[Discovered, ...]:
        """Give an upload without a name to the plugin; returns what came of it, whose news is durable."""
        told: list[Discovered] = []

        def checked(report: Callable[[Discovered], None]) -> Callable[[Discovered], None]:
            def tell(found: Discovered) -> None:
                report(_checked(self.name, found))
                told.append(found)

            return tell

        with _contained(self.name, "ingest"):
            self._plugin.ingest(upload, {release: checked(each) for release, each in arrived.items()})
            if len(told) < len(arrived):
                raise InternalError(f"plugin {self.name} took an upload and did not say what it is")
            return tuple(told)

    def remove(self, ref: FileRef) -> None:
        """Remove the bytes of a file."""
        with _contained(self.name, "remove"):
            self._plugin.remove(ref)

    def sources(self) -> Sequence[Source]:
        """Return the places the plugin reads from; their probes are contained too."""
        with _contained(self.name, "sources"):
            return tuple(
                replace(source, probe=self._contained_probe(source)) for source in self._plugin.sources()
            )

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        """Let the plugin take new settings."""
        with _contained(self.name, "reconfigure"):
            self._plugin.reconfigure(settings)

    def checks(self) -> Iterator[Check]:
        """Yield what an administrator must know; a check that breaks is one that failed."""
        try:
            with _contained(self.name, "checks"):
                yield from self._plugin.checks()
        except MdmError as error:
            yield Check(f"plugin {self.name}", passed=False, detail=error.message)

    def close(self) -> None:
        """Let the plugin give back what it holds."""
        with _contained(self.name, "close"):
            self._plugin.close()

    def _contained_probe(self, source: Source) -> Callable[[], None]:
        def probe() -> None:
            with _contained(self.name, "probe"):
                source.probe()

        return probe

    def _bound_abandoned(self) -> None:
        with self._lock:
            self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
            if len(self._abandoned) >= self._limits.max_abandoned:
                raise Overloaded(f"plugin {self.name} has too many visits that do not come back")

    def _abandon(self, thread: threading.Thread) -> None:
        with self._lock:
            self._abandoned.append(thread)
            count = len(self._abandoned)
        log.warning("plugin_late", plugin=self.name, operation="stage", count=count)


def _exportable(plugin: str, path: tuple[str, ...]) -> tuple[str, ...]:
    if not path or not all(map(_COMPONENT.match, path)) or {".", ".."} & set(path):
        raise InternalError(f"plugin {plugin} suggested a path that cannot be exported")
    return path


def _checked(plugin: str, found: Discovered) -> Discovered:
    _exportable(plugin, found.path)
    if str(uuid.UUID(found.guid)) != found.guid:
        raise InternalError(f"plugin {plugin} made a GUID that is none")
    return found


@contextmanager
def _contained(plugin: str, operation: str) -> Iterator[None]:
    """Turn whatever is no error of the tree into `InternalError` with an id that the log has too."""
    try:
        yield
    except MdmError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of a plugin call
        error_id = str(uuid.uuid4())
        frame = traceback.extract_tb(error.__traceback__)[-1]
        log.error(  # noqa: TRY400 - a traceback may hold values
            "plugin_failed",
            plugin=plugin,
            operation=operation,
            error=type(error).__name__,
            error_id=error_id,
            reason=f"{Path(frame.filename).name}:{frame.lineno}",
        )
        raise InternalError(f"the storage plugin {plugin} failed (error {error_id})") from None
