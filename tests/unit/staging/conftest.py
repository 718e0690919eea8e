"""A site's inner zone over a simulated PACS: real configuration, real plugin, real rows, no doors."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.room import Room
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager, StagerSettings
from srm_dicom.broker.views import FileState
from srm_dicom.daemon.common import Common
from srm_dicom.daemon.inner import load_plugins
from srm_dicom.demo.processes import Unit
from srm_dicom.demo.site import PROJECT, Archive, DemoSite
from srm_dicom.ids import SitePath, new_token, parse_path
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.requests import Request, RequestFile, RequestKind
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.pki import TestPki

RELEASE = Release(PROJECT, "basic", "v1")
PUBLIC_KEY = X25519PrivateKey.from_private_bytes(b"k" * 32).public_key().public_bytes_raw()
PATIENCE_S = 40.0


def wait_for(condition, timeout_s=PATIENCE_S):
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)
    return found


@dataclass
class Staging:
    """What a stager of this site does, and what those who wait see of it."""

    demo: DemoSite
    pacs: PacsSimulator

    def __post_init__(self):
        self.common = Common(self.demo.config, "test")
        self.stores = self.common.stores
        self.area = ScratchArea(self.common.config.scratch.directory)
        self.plugin_file = self.demo.config.parent / "plugins.d" / "dicom.toml"
        self.settings = self.plugin_file.read_text()

    # --- who waits -----------------------------------------------------------------------------

    def register(self, selector=""):
        """Let the namespace have what the PACS has; returns the GUIDs by their series' directory."""
        host = load_plugins(self.common)["dicom"]
        by_series = {}
        now = datetime.now(UTC)
        for found in host.discover(selector, RELEASE):
            directory = parse_path("/".join(["", "biomed", *found.path[:-1]]))
            if directory not in by_series:
                self.stores.namespace.make_directory(directory, Acl(), now, RELEASE)
            self.stores.namespace.add_file(
                Entry(
                    SitePath(f"{directory}/{found.path[-1]}"), Kind.FILE, "", Acl(), now, found.guid,
                    release=RELEASE, key_id="k", public_key=PUBLIC_KEY, plugin="dicom",
                    plugin_ref=found.plugin_ref,
                )
            )  # fmt: skip
            by_series.setdefault(directory, []).append(found.guid)
        host.close()
        return list(by_series.values())

    def want(self, owner, guids, total_s=600):
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

    def states(self, token):
        return set(self.stores.requests.states(token))

    def is_there(self, token):
        return self.states(token) == {FileState.PINNED}

    def release(self, token):
        files = self.stores.requests.files(token)
        self.stores.requests.move([file.id for file in files], [FileState.PINNED], FileState.RELEASED)

    def staged(self):
        return list(self.stores.staged.on_node(self.common.node))

    def incoming(self):
        return list((self.common.config.scratch.directory / "incoming").iterdir())

    # --- who works -----------------------------------------------------------------------------

    def change_settings(self, old, new):
        """Change the plugin's file as an editor does."""
        assert old in self.settings
        self.plugin_file.write_text(self.settings.replace(old, new))

    def use_spool_for_everything(self):
        text = self.demo.config.read_text()
        self.demo.config.write_text(text.replace("[inner]", "[inner]\nspool_above_bytes = 1"))

    def process(self):
        """Start the stager as a process of its own."""
        self.demo.processes.start(Unit("stager", "stager", self.demo.config))

    def log(self):
        return self.demo.processes.log("stager").read_text()

    @property
    def signing_key(self):
        return InnerSecrets.load(self.common.inner().secrets).signing_key

    def publisher(self):
        return Publisher(self.common.node, self.area, self.stores, self.signing_key, self.common.clock)

    @contextmanager
    def stager(self, publisher=None, quota_bytes=0, **settings):
        """Run a stager in a thread."""
        inner = self.common.inner()
        inner.spool.mkdir(parents=True, exist_ok=True)
        hosts = load_plugins(self.common)
        stager = Stager(
            StagerSettings(
                f"{self.common.node}/stager",
                **{"visit_s": 30.0, "first_pause_s": 0.2, "longest_pause_s": 0.5} | settings,
            ),
            hosts,
            self.stores,
            publisher or self.publisher(),
            Sealing(InnerSecrets.load(inner.secrets).seal_key, SlotSettings(inner.spool)),
            self.common.audit,
            self.common.clock,
            Room(quota_bytes, partial(self.stores.staged.totals, self.common.node)),
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

    def janitor(self, **space):
        return Janitor(self.common.node, self.area, self.stores, SpaceSettings(**space), self.common.clock)


@pytest.fixture
def pacs():
    with PacsSimulator() as pacs:
        yield pacs


@pytest.fixture
def staging(tmp_path, pacs):
    demo = DemoSite(tmp_path / "site", archive=Archive(pacs.ae_title, pacs.host, pacs.port), push=False)
    demo.pki = TestPki(demo.directory / "pki", fast=True)
    demo.write()
    pacs.destinations["MDM1"] = ("127.0.0.1", demo.ports["moves"])
    made = Staging(demo, pacs)
    yield made
    demo.stop()


@pytest.fixture(name="wait_for")
def _wait_for():
    return wait_for
