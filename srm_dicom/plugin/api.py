"""What a storage plugin is: the server owns names, rights, sizes and checksums; a plugin owns bytes.

A plugin finds things (`discover`, `listen`), says what is cheap to fetch together (`plan`) and writes
plain bytes into slots (`stage`). It never sees a file key, a catalogue or a scratch path: the slot
seals. Only `discover`, `plan` and `stage` are mandatory; derive from `StoragePlugin` and the rest
has defaults. A plugin may raise anything; `plugin.host` turns it into the error tree and bounds
time and bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from srm_dicom.clock import Clock
from srm_dicom.errors import NotSupported
from srm_dicom.ids import Guid
from srm_dicom.plugin.attending import Attending, Brought, Recipe
from srm_dicom.rights.project import Release


class Spool(Protocol):
    """Where one object waits that is too large for memory, sealed under a key that this process forgets."""

    @property
    def size_bytes(self) -> int:
        """How much was written."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; raises `TooLarge` or `NoSpace` when a bound is reached."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return what was written from `start` to `stop`."""
        ...

    def close(self) -> None:
        """Forget the object."""
        ...


@dataclass(frozen=True, slots=True)
class Spooling:
    """How to hold large objects: those above a size in a spool each."""

    above_bytes: int
    open: Callable[[], Spool]


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What the host gives a plugin when it makes it.

    Attributes:
        name: the instance's name, as in ``plugins.d/<name>.toml``.
        settings: the plugin's own table of that file; the plugin validates it.
        secrets: a directory that only the inner zone can read; the plugin keeps its own keys there.
        clock: where time comes from.
        seals: whether what this plugin stages is sealed to a file key (the slot does it).
        spooling: for objects that have to wait somewhere and are too large for memory; None where there is
            no place for them.
        attending: who attends connections that the plugin accepts; None where the plugin does it itself.
    """

    name: str
    settings: Mapping[str, Any]
    secrets: Path
    clock: Clock
    seals: bool = True
    spooling: Spooling | None = None
    attending: Attending | None = None


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file to stage.

    Attributes:
        plugin_ref: the plugin's own, opaque to the server.
        public_key: what the slot seals it to; empty for a file that is not sealed.
    """

    guid: Guid
    plugin_ref: bytes
    release: Release
    public_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that one visit to one source brings.

    Attributes:
        key: names the visit for people (no identity in it).
        waited: how often the source was visited for some of them and had not begun to send in its time
            (`SourceSlow`); the stager says so.
    """

    source: str
    key: str
    files: tuple[FileRef, ...]
    waited: int = 0


@dataclass(frozen=True, slots=True)
class Discovered:
    """Something that exists and could be registered for a release.

    Attributes:
        guid: derived by the plugin from the object and the release, stable over restarts.
        path: path components below the site's directory of the release, characters ``[A-Za-z0-9._-]``.
        group: files of one group (a DICOM series) share one key pair; stable, says nothing.
        plugin_ref: everything the plugin needs to find the object again, sealed by the plugin.
        attributes: de-identified, searchable.
        nominative: identifying; goes to the metadata server's nominative group and nowhere else.
    """

    guid: Guid
    path: tuple[str, ...]
    group: str
    plugin_ref: bytes
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    nominative: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Patient:
    """Who somebody is in the archives: an id and who gave it. It is neither kept nor shown."""

    id: str
    issuer: str = ""


Arrived = Mapping[Release, Callable[[Discovered], None]]
"""For each release, what to call with a thing that has arrived; returns when its news is durable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source bears at some times of the week, for people to read.

    Attributes:
        when: these times; empty for all that have no limits of their own.
        max_visits, files_per_s: as of `Source`.
        holds: whether it is one of these times.
    """

    when: str
    max_visits: int
    files_per_s: float
    holds: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A place that bytes come from: a PACS, a disk.

    Attributes:
        name: the site's word for it.
        max_visits: how many batches may be at it at once, now; 0 while it is left in peace.
        probe: raises an error of the tree when the source is not usable.
        files_per_s: how many files it may be asked for, on average; 0 sets no bound.
        note: why it bears that now, for people.
        first_pause_s: before it is asked again for what it did not deliver; every further pause is twice as
            long. None leaves it to the stager.
        longest_pause_s: of these; None leaves it to the stager.
        first_object_s: how long a visit waits for its first file; None leaves it to the plugin.
        kept_visits: places that are kept for users who have none there.
        user_files: of one user that a stager has in hand for it; None leaves it to the stager.
        schedule: what it bears when; empty where that is always the same.
    """

    name: str
    max_visits: int
    probe: Callable[[], None]
    files_per_s: float = 0.0
    note: str = ""
    first_pause_s: float | None = None
    longest_pause_s: float | None = None
    first_object_s: float | None = None
    kept_visits: int = 1
    user_files: int | None = None
    schedule: tuple[Limits, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One line of ``srm-dicom check``; `detail` tells what was seen, without identity."""

    name: str
    passed: bool
    detail: str


class Slot(Protocol):
    """Where one file's plain bytes go. One of `commit`, `fill`, `make`, `keep` and `refuse` ends it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; raises `TooLarge` or `NoSpace` when a bound is reached."""
        ...

    def commit(self, report: str = "") -> None:
        """Say that every byte is there; returns when the sealed file is complete in its slot.

        Args:
            report: what was done to the file, for the audit trail: printable ASCII, without a value of it.
        """
        ...

    def fill(self, parts: Sequence[bytes | bytearray | memoryview], report: str = "") -> None:
        """Write and commit a whole file that is in memory: cheaper, as the slot need not keep it."""
        ...

    def make(self, recipe: Recipe, data: bytes | bytearray | memoryview, words: Sequence[str] = ()) -> bool:
        """Have a recipe make the whole file of an object that is in memory, here or elsewhere, and commit.

        Until this returns the object must not change.

        Returns:
            False: the recipe has declined; the slot is open.

        Raises:
            MdmError: as the recipe does, and the slot is open; `TooLarge` and `NoSpace` as `write`.
            Overloaded: the process that was at it has ended.
        """
        made = recipe(data, *words)
        if made is not None:
            self.fill(*made)
        return made is not None

    def keep(self, file: Brought) -> None:
        """Take over a file that was made where its object arrived (`PluginContext.attending`), and commit.

        Raises:
            MdmError: as the recipe did, and the slot is open; `TooLarge` and `NoSpace` as `write`.
            NotSupported: nothing is made elsewhere for such slots.
        """
        del file
        raise NotSupported("this slot takes no file that was made elsewhere")

    def refuse(self, reason: str) -> None:
        """Give the slot up; `reason` is a class of reasons, never a value."""
        ...


class Sink(Protocol):
    """Where a batch goes: opens one slot a file, from any thread."""

    def open(self, ref: FileRef) -> Slot:
        """Open the slot of a file of this batch; a second one for the same file is refused."""
        ...

    def is_wanted(self) -> bool:
        """Tell whether anybody still waits for a file of the batch; where not, its source may be left."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished put to take over.

    Attributes:
        guid: what the file will be; what `StoragePlugin.accept` returns has it too.
        path: components of the name that the user gave; two uploads at different times may have the same.
        size_bytes, adler32: of the plain bytes, as the door took them in.
        chunks: the plain bytes, in order, once.
    """

    guid: Guid
    path: tuple[str, ...]
    release: Release
    size_bytes: int
    adler32: str
    chunks: Iterable[bytes]


class StoragePlugin(ABC):
    """Base of every plugin."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context

    @abstractmethod
    def discover(self, selector: str, release: Release) -> Iterator[Discovered]:
        """Yield what exists under a selector, which is the plugin's own language."""

    @abstractmethod
    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        """Group files so that each batch is one visit to one source; every file is in exactly one."""

    @abstractmethod
    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        """Write each file of the batch into its slot; a file without a committed slot has failed.

        Args:
            batch: what to bring.
            sink: where to.
            deadline_s: seconds from now after which nobody waits any more.
        """

    def listen(self, arrived: Arrived) -> AbstractContextManager[object]:
        """Report what arrives by itself, for every release, for as long as the context lives.

        All releases come in one call, so no port is open before everybody is there to be told. When
        every callback has returned, the arrival is durable and may be acknowledged.
        """
        del arrived
        return nullcontext()

    def profile_version(self, profile: str) -> str:
        """Return the current version of a de-identification profile, for a new release."""
        del profile
        return "v1"

    def patient_path(self, patient: Patient, release: Release) -> tuple[str, ...]:
        """Return the components of path that all files of a patient are below in a release.

        Empty for a plugin that does not know whose a file is.
        """
        del patient, release
        return ()

    def accept(self, upload: Upload) -> Discovered:
        """Take over a finished upload; when this returns, the bytes are durable and `stage` finds them.

        Raises:
            NotSupported: this plugin takes none.
            IntegrityError: the bytes are not those that were announced; nothing of them stays.
        """
        del upload
        raise NotSupported(f"{self.context.name} does not accept uploads")

    def ingest(self, upload: Upload, arrived: Arrived) -> None:
        """Take over an upload whose name means nothing: what it holds is registered, as what arrives is.

        For plugins whose files are sealed. When every callback has returned the bytes are durable where
        `stage` finds them; a call that broke off may be repeated, and one thing comes of all of them.

        Args:
            upload: without a path; its GUID is nobody's.
            arrived: for each release, what to tell of the thing once the bytes are durable.

        Raises:
            NotSupported: this plugin takes none.
            SourceUnavailable, Overloaded, NoSpace: not now; it will be asked again.
        """
        del upload, arrived
        raise NotSupported(f"{self.context.name} does not accept uploads")

    def remove(self, ref: FileRef) -> None:
        """Remove the bytes of a file; one that is gone already is no error."""
        del ref
        raise NotSupported(f"{self.context.name} does not remove files")

    def sources(self) -> Sequence[Source]:
        """Return the places this plugin reads from, as they are now; asked about once a second."""
        return ()

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        """Take those of new settings that need no restart, such as the limits of sources.

        Raises:
            ConfigError: the settings are not usable; the old ones stay.
        """
        del settings

    def checks(self) -> Iterator[Check]:
        """Yield what an administrator must know before the doors open."""
        yield from ()

    @classmethod
    def commands(cls) -> click.Group | None:
        """Return commands that appear under ``srm-dicom <kind of plugin>``; they need no instance."""
        return None

    def close(self) -> None:  # noqa: B027 - a plugin may hold nothing
        """Give back what the plugin holds; called once."""
