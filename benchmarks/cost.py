"""What one file costs the server, in series of 10 to 100,000 files: milliseconds in all, and where they go.

    python -m benchmarks.cost [--counts 10,100,1000,10000,100000] [--chart FILE] [--page FILE]

One user asks for a whole series, polls until every file is there and releases it. The source is a plugin that
has its files at once, of 1 KiB each, so that what is left is the server's own: access, rows, claims, plans,
sealing, one file each, manifests, audit, polls. All of it is in a memory file system where there is one:
how long a disk takes to sync a file is the disk's. Requests have at most 10,000 files, as the SRM takes
them, and are polled as clients do: one file until it is there, then page by page. Everything is in one
process without sockets; processor time is told beside the wall's.
"""

import argparse
import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks._charts import lines
from benchmarks._figures import into
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.clock import SystemClock
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.plugin.api import Batch, FileRef, PluginContext, Sink, Source, StoragePlugin
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.project import Member, Project, Release
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.store.stores import Stores
from srm_dicom.telemetry import configure
from srm_dicom.testing.databases import database_url
from srm_dicom.testing.staging import add_files

COUNTS = (10, 100, 1000, 10_000, 100_000)
WARM_UP = 100
MOST_FILES, PAGE, BATCH = 10_000, 1000, 500
RELEASE = Release("heart", "none", "v1")
CONTENT = bytes(1024)
USER = "/CN=Alice"
PATIENCE_S = 1800.0
MEMORY = Path("/dev/shm")


class Instant(StoragePlugin):
    """Has every file at once."""

    def discover(self, selector, release):
        del selector, release
        return iter(())

    def plan(self, files: Sequence[FileRef]) -> Sequence[Batch]:
        return [Batch("here", "series", tuple(files[at : at + BATCH])) for at in range(0, len(files), BATCH)]

    def stage(self, batch: Batch, sink: Sink, deadline_s: float) -> None:
        del deadline_s
        for ref in batch.files:
            slot = sink.open(ref)
            slot.write(CONTENT)
            slot.commit()

    def sources(self) -> Sequence[Source]:
        return [Source("here", 4, lambda: None)]


@dataclass
class Cost:
    """Seconds of one series: all of it, and the parts of whoever asks; `processor_s` of the process."""

    whole_s: float
    submit_s: float
    poll_s: float
    processor_s: float

    def per_file(self, count: int) -> dict[str, float]:
        return {name.removesuffix("_s"): round(1e3 * taken / count, 3) for name, taken in vars(self).items()}


class Site:
    """Both zones over one database, in this process, with one series of so many files."""

    def __init__(self, directory: Path, count: int) -> None:
        self.clock = SystemClock()
        self.stores = Stores.open(database_url(directory, "names"))
        member = Member(Tag.USER, USER, frozenset({"file"}))
        until = self.clock.now() + timedelta(days=9)
        project = Project("heart", "permit", "test", "none", "consent", until, (member,))
        audit = AuditLog(directory / "audit", "all", "host", self.clock)
        access = FileAccess(self.stores.namespace, {"heart": project}, audit, self.clock)
        settings = BrokerSettings("se.example.org:8446", {"node": {"gsiftp": "gsiftp://node:2811"}})
        self.broker = Broker(settings, self.stores, access, self.clock)
        self.who = Principal(USER, (), limited=False, expires=until)
        plugin = Instant(PluginContext("instant", {}, directory, self.clock))
        (directory / "spool").mkdir()
        area = ScratchArea(directory / "scratch")
        self.stager = Stager(
            StagerSettings("stager"),
            {"instant": PluginHost(plugin, name="instant")},
            self.stores,
            Publisher("node", area, self.stores, Ed25519PrivateKey.generate(), self.clock),
            Sealing(b"s" * 32, SlotSettings(directory / "spool")),
            audit,
            self.clock,
        )
        self.surls = [f"srm://se.example.org{path}" for path in self._fill(project, count)]

    def _fill(self, project: Project, count: int) -> list[SitePath]:
        public_key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        directory, now, acl = parse_path("/vo/series"), self.clock.now(), project.file_acl()
        paths = [SitePath(f"{directory}/{number:06d}") for number in range(count)]
        self.stores.namespace.make_directory(directory, project.directory_acl(), now, RELEASE)
        add_files(
            self.stores,
            [
                Entry(
                    path, Kind.FILE, "", acl, now, Guid(str(uuid.uuid4())), release=RELEASE,
                    key_id="k", public_key=public_key, plugin="instant", plugin_ref=b"r",
                )
                for path in paths
            ],
        )  # fmt: skip
        return paths

    def cost(self) -> Cost:
        """Ask for the whole series, once, and return what that took."""
        stop = threading.Event()
        thread = threading.Thread(target=self.stager.run, args=(stop,))
        began_s, processor_s = time.perf_counter(), time.process_time()
        thread.start()
        tokens = [
            (self._submit(surls), surls)
            for surls in (self.surls[at : at + MOST_FILES] for at in range(0, len(self.surls), MOST_FILES))
        ]
        submitted_s = time.perf_counter() - began_s
        polled_s = 0.0
        for token, surls in tokens:
            polled_s += self._follow(token, surls)
            self.broker.release(self.who, token, None)
        cost = Cost(time.perf_counter() - began_s, submitted_s, polled_s, time.process_time() - processor_s)
        stop.set()
        thread.join()
        return cost

    def _submit(self, surls: Sequence[str]) -> str:
        return self.broker.submit(self.who, Wish(RequestKind.GET, tuple(surls), ("gsiftp",))).token

    def _follow(self, token: str, surls: Sequence[str]) -> float:
        """Poll one file that is missing until none is; returns the seconds that the answers took."""
        taken_s, pause_s, at = 0.0, 0.05, 0
        until_s = time.monotonic() + PATIENCE_S
        while at < len(surls):
            page = surls[at : at + PAGE]
            began_s = time.perf_counter()
            files = self.broker.status(self.who, token, page[-1:]).files
            if files[0].state is FileState.PINNED:
                files = self.broker.status(self.who, token, page).files
            taken_s += time.perf_counter() - began_s
            if all(file.state is FileState.PINNED for file in files):
                at += PAGE
                continue
            if time.monotonic() > until_s:
                raise TimeoutError("the series did not come")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)
        return taken_s


def table(measured: Mapping[int, Mapping[str, float]], load: float) -> str:
    """Return the milliseconds of a file by the files of its series, as Markdown."""
    columns = ("whole", "processor", "submit", "poll")
    rows = [
        f"One run on {os.cpu_count()} virtual cores, load average {load:.1f} before.",
        "",
        "| files | ms a file | processor, ms a file | of these, submit | of these, polls |",
        "|---|---|---|---|---|",
    ]
    for count, each in measured.items():
        rows.append(f"| {count:,} | {' | '.join(f'{each[name]:.2f}' for name in columns)} |")
    return "\n".join(rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--counts", default=",".join(map(str, COUNTS)), help="files of a series, by commas")
    options.add_argument("--directory", type=Path, default=MEMORY if MEMORY.is_dir() else None)
    options.add_argument("--chart", type=Path, metavar="FILE", help="draw it")
    options.add_argument("--page", type=Path, metavar="FILE", help="write a table into this page")
    chosen = options.parse_args()
    configure("benchmark", level=50)
    load = os.getloadavg()[0]
    measured: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        Site(Path(directory), WARM_UP).cost()
    for count in map(int, chosen.counts.split(",")):
        with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
            measured[count] = Site(Path(directory), count).cost().per_file(count)
        print(json.dumps({"files": count, "ms_a_file": measured[count]}), flush=True)
    if chosen.chart:
        labels = ("milliseconds of a file, in all", "processor time of it")
        values = {count: (each["whole"], each["processor"]) for count, each in measured.items()}
        title = "What a file costs the server, by the files of its series"
        chosen.chart.write_text(lines(title, labels, values, "{:.1f}"))
    if chosen.page:
        into(chosen.page, "cost", table(measured, load))


if __name__ == "__main__":
    main()
