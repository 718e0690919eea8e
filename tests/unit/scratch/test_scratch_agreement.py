"""Wherever a stager is killed, disk and rows agree in the end, and nothing is served that is not whole.

The stager is a process of its own that kills itself (SIGKILL) at the step that the test names; the node
goes on, sweeps at once as if it had just been started, and sweeps again when the grace time is over.
"""

import json
import subprocess
import sys
import textwrap
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.clock import SystemClock
from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import StagedName
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind
from srm_dicom.store.stores import Stores
from srm_dicom.testing.databases import database_url

RELEASE = Release("heart", "basic", "v1")
NAMES = ["a", "b", "c"]
CONTENT = b"ciphertext " * 100_000

STAGER = """
    import json, os, signal, sys
    from contextlib import nullcontext
    from pathlib import Path
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from srm_dicom.broker.publish import Publisher
    from srm_dicom.client.scratch import RemoteScratch
    from srm_dicom.clock import SystemClock
    from srm_dicom.crypto.digest import Digest
    from srm_dicom.identity.credential import Credential
    from srm_dicom.scratch.area import ScratchArea
    from srm_dicom.scratch.slot import Filled
    from srm_dicom.store.stores import Stores

    case = json.loads(sys.argv[1])
    content = b"ciphertext " * 100_000
    renamed = []

    def die(step):
        if step == case["step"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, arguments):
        if event == "os.rename":
            renamed.append(arguments)
            die(f"rename {len(renamed)}")

    sys.addaudithook(watch)
    stores = Stores.open(case["database"])
    if case["kind"] == "local":
        node = ScratchArea(Path(case["scratch"]))
    else:
        node = RemoteScratch(case["url"], Credential(*map(Path, case["credential"])))
    publisher = Publisher(
        "node", node, stores, Ed25519PrivateKey.from_private_bytes(b"s" * 32), SystemClock()
    )
    entries = {guid: stores.namespace.find_guid(guid) for guid in case["guids"]}
    filled = []
    for guid in entries:
        incoming, digest = publisher.begin(), Digest()
        incoming.write(content[:600_000])
        die("half")
        incoming.write(content[600_000:])
        digest.update(content)
        incoming.finish()
        filled.append(Filled(guid, incoming, digest.size_bytes, digest.adler32, digest.blake3))
    die("finished")
    ready = node.publish
    node.publish = lambda files: (ready(files), die("ready"))
    announce = publisher._announce
    publisher._announce = lambda *arguments: (announce(*arguments), die("announcing"))
    publisher.publish(filled, entries, nullcontext())
    die("announced")
"""


class Rows:
    """The outer zone's database, with three files and somebody who waits for them."""

    def __init__(self, outer):
        self.outer = outer
        self.url = database_url(outer.path, "names")
        self.stores = Stores.open(self.url)
        self.guids = [Guid(str(uuid.uuid5(uuid.NAMESPACE_URL, name))) for name in NAMES]
        now = datetime.now(UTC)
        directory = parse_path("/vo/mdm/site/heart-v1/p/s")
        self.stores.namespace.make_directory(directory, Acl(), now, RELEASE)
        paths = [SitePath(f"{directory}/{name}") for name in NAMES]
        for guid, path in zip(self.guids, paths, strict=True):
            self.stores.namespace.add_file(
                Entry(path, Kind.FILE, "", Acl(), now, guid, release=RELEASE, plugin="memory")
            )
        self.request = Request("t", RequestKind.GET, "/CN=Alice", "gsiftp", now, now + timedelta(1), 1000)
        self.stores.requests.add(
            self.request,
            [
                RequestFile(f"srm://h{path}", path, guid, FileState.QUEUED)
                for path, guid in zip(paths, self.guids, strict=True)
            ],
        )
        self.janitor = Janitor("node", outer.area, self.stores, SpaceSettings(), SystemClock())

    def staged(self):
        return {StagedName(row.guid, row.generation): row for row in self.stores.staged.on_node("node")}

    def states(self):
        return {file.state for file in self.stores.requests.files(self.request.token)}

    def stage(self, kind, step):
        """Run a stager that dies at a step."""
        stager = self.outer.stager
        case = {
            "step": step, "kind": kind, "database": self.url, "guids": self.guids, "url": self.outer.url,
            "scratch": str(self.outer.path / "scratch"),
            "credential": [str(stager.certificate), str(stager.key), str(stager.trust)],
        }  # fmt: skip
        command = [sys.executable, "-c", textwrap.dedent(STAGER), json.dumps(case)]
        return subprocess.run(command, timeout=60, check=False).returncode

    def check_whole(self):
        """What the rows promise is there, to the last byte."""
        for name in self.staged():
            assert self.outer.area.path(name).read_bytes() == CONTENT


@pytest.fixture
def rows(outer):
    return Rows(outer)


STEPS = ["half", "finished", "rename 1", "rename 2", "rename 3", "ready", "announcing", "announced"]


@pytest.mark.parametrize(
    ("kind", "step"),
    [("local", step) for step in STEPS]
    + [("remote", step) for step in STEPS if not step.startswith("rename")],
)
def test_a_stager_that_is_killed(rows, outer, kind, step):
    assert rows.stage(kind, step) == -9
    announced = step == "announced"
    before = outer.ready()
    rows.janitor.sweep()
    assert outer.ready() == before, "what is young may be about to be announced by another stager"
    rows.check_whole()
    assert len(rows.staged()) == (3 if announced else 0), "all of a group is announced or none"
    assert rows.states() == {FileState.PINNED if announced else FileState.QUEUED}
    outer.age()
    rows.janitor.sweep()
    assert outer.ready() == set(rows.staged())
    assert outer.incoming() == []
    assert rows.stage(kind, "never") == 0, "the next visit succeeds"
    rows.check_whole()
    assert len(outer.ready()) == len(rows.staged()) == 3
    assert rows.states() == {FileState.PINNED}


def test_the_next_visit_need_not_wait_for_a_sweep(rows, outer):
    assert rows.stage("remote", "ready") == -9
    assert rows.stage("remote", "never") == 0
    outer.age()
    rows.janitor.sweep()
    rows.check_whole()
    assert len(outer.ready()) == len(rows.staged()) == 3
    assert outer.incoming() == []


def test_what_is_lost_is_wanted_again(rows, outer):
    assert rows.stage("local", "never") == 0
    first, second, _ = outer.ready()
    outer.area.remove(first)
    outer.area.path(second).write_bytes(b"cut")
    outer.age()
    rows.janitor.sweep()
    assert len(rows.staged()) == 1
    assert rows.states() == {FileState.PINNED, FileState.QUEUED}
    rows.janitor.sweep()
    assert outer.ready() == set(rows.staged())


def test_the_janitor_goes_on_after_a_failure(rows, monkeypatch):
    stop, calls = threading.Event(), []

    def breaks(self):
        calls.append("sweep")
        if len(calls) > 1:
            stop.set()
        raise OSError("the disk is away")

    monkeypatch.setattr(Janitor, "sweep", breaks)
    settings = SpaceSettings(sweep_s=0.0, tidy_s=0.01)
    thread = threading.Thread(
        target=Janitor("node", rows.outer.area, rows.stores, settings, SystemClock()).run, args=(stop,)
    )
    thread.start()
    thread.join(10)
    assert len(calls) == 2
