"""A site's inner zone over an archive: real configuration, real plugin, real rows, no doors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.room import Room
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.views import FileState
from srm_dicom.crypto.crypt4gh import Header, Layout
from srm_dicom.crypto.siv import verified_reader
from srm_dicom.daemon.common import Common
from srm_dicom.daemon.inner import load_plugins
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.demo.processes import Unit
from srm_dicom.demo.site import PROJECT, DemoSite
from srm_dicom.ids import Guid, SitePath, Token, new_token, parse_path
from srm_dicom.plugin.api import Discovered
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.store.namespace import Entry, Kind, columns
from srm_dicom.store.requests import Request, RequestFile, RequestKind
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.waiting import PATIENCE_S

RELEASE = Release(PROJECT, "basic", "v1")
PRIVATE_KEY = b"k" * 32
PUBLIC_KEY = X25519PrivateKey.from_private_bytes(PRIVATE_KEY).public_key().public_bytes_raw()
"""Of every file, so that a test opens what it staged."""


def add_files(stores: Stores, entries: Iterable[Entry]) -> None:
    """Let the namespace have files by the thousand; their directories are there."""
    rows = [columns(entry) for entry in entries]
    names = list(rows[0])
    places = ", ".join("?" * len(names))
    statement = f"INSERT INTO entry ({', '.join(names)}) VALUES ({places})"
    with stores.database.transaction():
        stores.database.execute_many(statement, [[row[name] for name in names] for row in rows])


@dataclass
class Staging:
    """What a stager of this site does, and what those who wait see of it."""

    demo: DemoSite

    @classmethod
    def over(cls, archive: Archive, directory: Path, *, moves: int | None = None) -> Staging:
        """Make a site over an archive; nothing of it runs yet.

        Args:
            archive: where its images are.
            directory: where everything of it goes.
            moves: the port that the archive knows; any free one if it is told later.
        """
        demo = DemoSite(directory, archive=archive, push=False)
        if moves is not None:
            demo.ports["moves"] = moves
        demo.pki = TestPki(demo.directory / "pki", fast=True)
        demo.write()
        return cls(demo)

    def __post_init__(self) -> None:
        self.common = Common(self.demo.config, "test")
        self.stores = self.common.stores
        self.area = ScratchArea(self.common.config.scratch.directory)
        self.plugin_file = self.demo.config.parent / "plugins.d" / "dicom.toml"
        self.settings = self.plugin_file.read_text()

    # --- who waits -----------------------------------------------------------------------------

    def register(self, selector: str = "") -> list[list[Guid]]:
        """Let the namespace have what the PACS has; returns the GUIDs by their series' directory."""
        host = load_plugins(self.common)["dicom"]
        try:
            return self.register_found(host.discover(selector, RELEASE))
        finally:
            host.close()

    def register_found(self, things: Iterable[Discovered]) -> list[list[Guid]]:
        """Let the namespace have these; see `register`."""
        by_series: dict[SitePath, list[Guid]] = {}
        now = datetime.now(UTC)
        project = self.common.projects[PROJECT]
        file_acl, directory_acl = project.file_acl(), project.directory_acl()
        entries: list[Entry] = []
        for found in things:
            directory = parse_path("/".join(["", "biomed", *found.path[:-1]]))
            if directory not in by_series:
                self.stores.namespace.make_directory(directory, directory_acl, now, RELEASE)
            entries.append(
                Entry(
                    SitePath(f"{directory}/{found.path[-1]}"), Kind.FILE, "", file_acl, now, found.guid,
                    release=RELEASE, key_id="k", public_key=PUBLIC_KEY, plugin="dicom",
                    plugin_ref=found.plugin_ref,
                )
            )  # fmt: skip
            by_series.setdefault(directory, []).append(found.guid)
        add_files(self.stores, entries)
        return list(by_series.values())

    def want(self, owner: str, guids: Sequence[Guid], total_s: float = 600) -> Token:
        """Ask for files; returns the request's token."""
        now = datetime.now(UTC)
        request = Request(
            new_token(), RequestKind.GET, owner, "gsiftp", now, now + timedelta(seconds=total_s), 1000
        )
        entries = self.stores.namespace.find_guids(guids)
        files = [
            RequestFile(f"srm://h{entries[guid].path}", entries[guid].path, guid, FileState.QUEUED)
            for guid in guids
        ]
        self.stores.requests.add(request, files)
        return request.token

    def states(self, token: Token) -> set[FileState]:
        """Return the states in which files of a request are."""
        return set(self.stores.requests.states(token))

    def is_there(self, token: Token) -> bool:
        """Tell whether every file of a request is there for whoever asked."""
        return self.states(token) == {FileState.PINNED}

    def release(self, token: Token) -> None:
        """Let go of the files of a request."""
        files = self.stores.requests.files(token)
        self.stores.requests.move([file.id for file in files], [FileState.PINNED], FileState.RELEASED)

    def staged(self) -> list[Staged]:
        """Return what the database calls staged."""
        return list(self.stores.staged.on_node(self.common.node))

    def opened(self, guid: Guid) -> bytes:
        """Return what a file staged in its first generation is for whoever has its key.

        Raises:
            IntegrityError: it is not what this site sealed.
        """
        sealed = self.area.path(StagedName(guid, 1)).read_bytes()
        header = Header.parse(sealed)
        reader = verified_reader(header.open(PRIVATE_KEY), Layout(len(sealed), header.size_bytes))
        opened = reader.update(memoryview(sealed)[header.size_bytes :])
        reader.finish()
        return bytes(opened)

    def incoming(self) -> list[Path]:
        """Return what is in scratch and not ready."""
        return list((self.common.config.scratch.directory / "incoming").iterdir())

    # --- who works -----------------------------------------------------------------------------

    def change_settings(self, old: str, new: str) -> None:
        """Change the plugin's file as an editor does."""
        assert old in self.settings
        self.plugin_file.write_text(self.settings.replace(old, new))

    def use_spool_for_everything(self) -> None:
        """Let no object wait in memory."""
        text = self.demo.config.read_text()
        self.demo.config.write_text(text.replace("[inner]", "[inner]\nspool_above_bytes = 1"))

    def process(self) -> int:
        """Start the stager as a process of its own; returns its id."""
        self.demo.processes.start(Unit("stager", "stager", self.demo.config))
        return self.demo.processes.pid("stager")

    def log(self) -> str:
        """Return the log of the stager's process."""
        return self.demo.processes.log("stager").read_text()

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """What manifests are signed with."""
        return InnerSecrets.load(self.common.inner().secrets).signing_key

    @property
    def seal_key(self) -> bytes:
        """What files are sealed with."""
        return InnerSecrets.load(self.common.inner().secrets).seal_key

    def publisher(self) -> Publisher:
        """Return a publisher into this site's scratch."""
        return Publisher(self.common.node, self.area, self.stores, self.signing_key, self.common.clock)

    @contextmanager
    def stager(
        self,
        publisher: Publisher | None = None,
        quota_bytes: int = 0,
        workshop: Workshop | None = None,
        **settings: Any,
    ) -> Iterator[Stager]:
        """Run a stager in a thread."""
        inner = self.common.inner()
        inner.spool.mkdir(parents=True, exist_ok=True)
        hosts = load_plugins(self.common, workshop)
        stager = Stager(
            StagerSettings(
                f"{socket.gethostname()}/stager",
                **{"visit_s": 30.0, "first_pause_s": 0.2, "longest_pause_s": 0.5} | settings,
            ),
            hosts,
            self.stores,
            publisher or self.publisher(),
            Sealing(self.seal_key, SlotSettings(inner.spool), workshop),
            self.common.audit,
            self.common.clock,
            Room(quota_bytes, partial(self.stores.lying, self.common.node)),
        )
        stop = threading.Event()
        thread = threading.Thread(target=stager.run, args=(stop,))
        thread.start()
        try:
            yield stager
        finally:
            stop.set()
            thread.join(PATIENCE_S)
            for host in hosts.values():
                host.close()

    def janitor(self, **space: Any) -> Janitor:
        """Return a janitor of this site's scratch."""
        return Janitor(self.common.node, self.area, self.stores, SpaceSettings(**space), self.common.clock)
