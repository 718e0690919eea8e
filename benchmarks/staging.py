"""From an untouched Orthanc to ciphertext in the user's directory: a whole site beside the anchors.

Ours, twice: as `mdm get` does it, searched, staged, fetched by GridFTP and verified against the signed
manifests; and from srmPrepareToGet of its files to their ciphertext in scratch. In both each image is moved,
de-identified, checked, sealed and durable, and audited. Beside it, in the same run and on the same images:

* the limit: the same C-MOVE, received and thrown away;
* the best anchor that can be put together from existing programs: Orthanc anonymises by REST, each
  instance is fetched on one kept-alive connection, age encrypts two at a time;
* where it is installed, what people do with dcmtk: movescu to storescp, dicom-anonymizer, age;
* a straightforward script of pynetdicom and pydicom (`_naive`), age.

Rounds of all ways alternate; medians are compared. What each process of the site and the archive spend of the
processor for one image on its way to scratch is told beside it. ``--archive dcmqrscp`` measures over dcmtk's
archive. ``--chart FILE`` draws the rates, ``--lengths FILE`` those of MR series of 10 to 1,000,
``--stages FILE`` where the time of one image goes; ``--page FILE`` writes the figures into a page, between
its two marks.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydicom.dataset import FileDataset

from benchmarks._anchors import Anchors, fresh
from benchmarks._charts import bars, lines
from benchmarks._figures import LIMIT, OURS, SCRATCH, Measured, into, report, tables
from srm_dicom.broker.states import ACTIVE
from srm_dicom.client.library import Client
from srm_dicom.clock import SystemClock
from srm_dicom.crypto.digest import Proof
from srm_dicom.crypto.siv import Sealer
from srm_dicom.daemon.common import Common
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.db.news import Topic
from srm_dicom.demo.site import PROJECT, DemoSite
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.scratch.slot import FileSlot, Filled, SlotSettings
from srm_dicom.testing.archives import Dcmqrscp, Orthanc
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.deidentify import Context, current_version
from srm_plugin_dicom.deidentify.engine import deidentifier
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk
from srm_plugin_dicom.moving import MoveArchive
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.receiver import Peer, Receiver

ROUNDS = 3
LOOK_S = 0.1
SLICES = 200
SERIES = ("CT 512 KiB", "MR 10 KiB")
LENGTHS = (10, 30, 100, 300, 1000)


class Bench:
    """A site over Orthanc with the benchmark's series in it."""

    def __init__(
        self,
        directory: Path,
        leaving: ExitStack,
        images: Mapping[str, list[FileDataset]],
        archive: type[Orthanc | Dcmqrscp] = Orthanc,
    ) -> None:
        self.directory = directory
        self.images = images
        self.site = DemoSite(directory / "site", push=False)
        self.drop_port, own_ports = free_port(), Anchors.new_ports()
        ports = {
            "MDM1": self.site.ports["moves"],
            "MDMIN": self.site.ports["arrivals"],
            "DROP": self.drop_port,
        } | own_ports
        self.archive = archive(directory / "archive", ports)
        self.anchors = Anchors(directory, images, self.archive, own_ports)
        leaving.callback(self.archive.stop)
        for series in images.values():
            self.archive.add(series)
        self.site.archive = Archive("PACS", "127.0.0.1", self.archive.port)
        self.site.write()
        leaving.callback(self.site.stop)
        self.site.start()
        self._register()
        self.common = Common(self.site.config, "bench")
        self.client = leaving.enter_context(Client(self.site.description, self.site.users["researcher"]))
        self.receiver = Receiver(
            "DROP",
            bind="127.0.0.1",
            port=self.drop_port,
            peers=[Peer("PACS", frozenset({"127.0.0.1"}))],
            handler=(desk := MoveDesk(max_object_bytes=1 << 30, budget=MemoryBudget(1 << 30))),
            clock=SystemClock(),
        )
        self.source = MoveArchive(
            Pacs(PacsSettings("archive", "PACS", "127.0.0.1", self.archive.port), "DROP"),
            "DROP",
            senders=frozenset({"PACS"}),
            destination="DROP",
            desk=desk,
            listen=lambda: None,
            settle_s=2.0,
            clock=SystemClock(),
        )
        leaving.callback(self.source.close)
        leaving.callback(self.receiver.stop)
        self.receiver.start()

    def ours(self, name: str) -> float:
        """Return the seconds of a get of one series with nothing staged."""
        self._unstage()
        out = fresh(self.directory / "ours")
        started_s = time.monotonic()
        got = list(self.client.get([self._query(name)], out, sealed=True))
        took_s = time.monotonic() - started_s
        assert all(one.error is None for one in got), [one.error for one in got if one.error][:1]
        assert len(list(out.iterdir())) == len(self.images[name])
        return took_s

    def scratch(self, name: str) -> float:
        """Return the seconds from srmPrepareToGet of every image of a series to all of them in scratch."""
        self._unstage()
        surls = [str(row["surl"]) for row in self.client.find(self._query(name))]
        assert len(surls) == len(self.images[name])
        return self._staged(surls)

    def first(self, name: str) -> tuple[float, float, float]:
        """Return the seconds until one cold image is ready, of a bare C-MOVE of it, and of movescu."""
        self._unstage()
        surl = str(self.client.find(self._query(name), limit=1)[0]["surl"])
        ours_s, bare_s = self._staged([surl]), self._moved(name, 1)
        return ours_s, bare_s, self.anchors.move_of_one(name)

    def _query(self, name: str) -> str:
        first = self.images[name][0]
        return f'Modality = "{first.Modality}" and SeriesNumber = {first.SeriesNumber}'

    def _staged(self, surls: list[str]) -> float:
        stores = self.common.stores
        with stores.database.news(Topic.READY) as news:
            started_s = time.monotonic()
            request = self.client.srm.prepare_to_get(surls, ("gsiftp",))
            # Asked of the database, when there is news: over the wire each question would cost as much as an
            # image or two.
            while stores.requests.has_any(request.token, ACTIVE):
                news.wait(LOOK_S)
            took_s = time.monotonic() - started_s
        request = self.client.srm.wait(self.client.srm.status(request.token), 120.0)
        assert {file.status.code for file in request.files} == {"SRM_FILE_PINNED"}
        self.client.srm.release(request.token)
        return took_s

    def limit(self, name: str) -> float:
        """Return the seconds of the same C-MOVE, received and dropped."""
        return self._moved(name, len(self.images[name]))

    def _moved(self, name: str, count: int) -> float:
        instances = tuple(image.SOPInstanceUID for image in self.images[name][:count])
        first = self.images[name][0]
        came: list[str] = []
        wanted = [Wanted(first.StudyInstanceUID, first.SeriesInstanceUID, instances)]
        started_s = time.monotonic()
        self.source.fetch(wanted, lambda info, _data: came.append(info.sop_instance), 120.0)
        took_s = time.monotonic() - started_s
        assert len(came) == len(instances)
        return took_s

    def stages(self, name: str) -> dict[str, float]:
        """Return the milliseconds that one image takes in each stage, one after the other."""
        image = self.images[name][0]
        inner = self.common.inner()
        slots = SlotSettings(inner.spool)
        release = Release(PROJECT, "basic", current_version("basic"))
        cleaner = deidentifier(Context(b"p" * 32, release))
        whole = BytesIO()
        image.save_as(whole, enforce_file_format=True)
        data = whole.getvalue()
        public = X25519PrivateKey.generate().public_key().public_bytes_raw()
        area = ScratchArea(fresh(self.directory / "stages"))
        filled: list[Filled] = []
        clean = list(cleaner.deidentify(data))
        sealed = b"".join(clean)  # near enough: the same length, and noise costs what zeros cost

        def seal() -> None:
            guid = Guid(str(uuid.uuid4()))
            slot = FileSlot(
                guid, Sealer(b"s" * 32, guid, public), area.begin, slots, lambda _, one: filled.append(one)
            )
            slot.fill(clean)

        def durable() -> None:
            one = filled.pop()
            area.publish([(StagedName(one.guid, 1), one.incoming.id)])

        def prove() -> None:
            proof = Proof()
            proof.update(memoryview(sealed))

        return {
            "sent and received": 1e3 * self.limit(name) / len(self.images[name]),
            "de-identified and checked": _milliseconds(lambda: cleaner.deidentify(data)),
            "sealed into scratch": _milliseconds(seal),
            "made durable": _milliseconds(durable),
            "proven by the client": _milliseconds(prove),
        }

    def spent(self) -> dict[str, float]:
        """Return the seconds of the processor that each process has taken, the stager with its workers."""
        processes = {name: process.pid for name, (_, process) in self.site.processes._running.items()}
        processes = {name: processes[name] for name in ("front", "stager")}
        processes |= {"archive": self.archive._process.pid, "client": os.getpid()}
        spent = {name: _seconds_of(pid) for name, pid in processes.items()}
        spent["stager"] += sum(map(_seconds_of, _children_of(processes["stager"])))
        return spent

    def _register(self) -> None:
        environment = {**os.environ, "SRM_DICOM_CONFIG": str(self.site.config)}
        for modality in ("CT", "MR"):
            command = ["register", "--plugin", "dicom", f"Modality={modality}"]
            subprocess.run(
                [sys.executable, "-m", "srm_dicom.cli.admin", *command],
                env=environment,
                check=True,
                capture_output=True,
            )

    def _unstage(self) -> None:
        stores, area = self.common.stores, ScratchArea(self.common.config.scratch.directory)
        for item in list(stores.staged.on_node(self.common.node)):
            stores.staged.remove(item.guid, self.common.node)
        for name in list(area.names()):
            area.remove(name)


def _seconds_of(pid: int) -> float:
    """Return what a process has taken of the processor, by itself and for the system (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children_of(pid: int) -> set[int]:
    children: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended since
            children.update(map(int, (task / "children").read_text().split()))
    return children


def _milliseconds(work: Callable[[], object], times: int = 40) -> float:
    taken = []
    for _ in range(times):
        started_s = time.thread_time()
        work()
        taken.append(time.thread_time() - started_s)
    return 1e3 * statistics.median(taken)


def run(bench: Bench, rounds: int) -> Measured:
    """Measure every way in turns."""
    ways: dict[str, Callable[[str], float]] = {
        OURS: bench.ours,
        SCRATCH: bench.scratch,
        LIMIT: bench.limit,
    } | bench.anchors.ways()
    seconds: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name in SERIES}
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in SERIES}
    for _ in range(rounds + 1):
        for name in SERIES:
            for way, measure in ways.items():
                os.sync()  # nobody pays for what the one before has written
                before = bench.spent()
                seconds[name][way].append(measure(name))
                if way == SCRATCH:
                    after = bench.spent()
                    spent[name].append({process: after[process] - before[process] for process in after})
    measured = Measured()
    for name in SERIES:
        count = len(bench.images[name])
        cold = [bench.first(name) for _ in range(rounds + 1)][1:]
        ours_s, bare_s, movescu_s = (statistics.median(column) for column in zip(*cold, strict=True))
        measured.cold[name] = 1e3 * ours_s, 1e3 * bare_s, 1e3 * movescu_s
        measured.rates[name] = {
            way: count / statistics.median(each[1:]) for way, each in seconds[name].items()
        }
        measured.spent[name] = {
            process: 1e3 * statistics.median(one[process] for one in spent[name][1:]) / count
            for process in spent[name][0]
        }
    return measured


def lengths(bench: Bench, rounds: int) -> dict[int, tuple[float, float]]:
    """Return for each length of a series the median slices per second into scratch, and of the limit."""
    taken: dict[int, list[tuple[float, float]]] = {length: [] for length in LENGTHS}
    for _ in range(rounds + 1):
        for length, each in taken.items():
            each.append((bench.scratch(_long(length)), bench.limit(_long(length))))
    return {
        length: (
            length / statistics.median(one for one, _ in each[1:]),
            length / statistics.median(one for _, one in each[1:]),
        )
        for length, each in taken.items()
    }


def _long(length: int) -> str:
    return f"MR x {length}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--slices", type=int, default=SLICES, help="of each series")
    options.add_argument("--archive", choices=("orthanc", "dcmqrscp"), default="orthanc")
    options.add_argument("--chart", type=Path, help="write the bars to this SVG file")
    options.add_argument("--lengths", type=Path, help="measure series of other lengths; a chart of them")
    options.add_argument("--page", type=Path, help="write the figures into this page")
    options.add_argument("--stages", type=Path, help="measure each stage alone; a chart of them")
    chosen = options.parse_args()
    series = (
        SeriesSpec("CT", chosen.slices, rows=512, columns=512),
        SeriesSpec("MR", chosen.slices, rows=72, columns=72, study="2"),
    )
    specs = dict(zip(SERIES, series, strict=True))
    if chosen.lengths:
        specs |= {
            _long(length): SeriesSpec("MR", length, rows=72, columns=72, study="3", number=10 + length)
            for length in LENGTHS
        }
    load = os.getloadavg()[0]
    print(f"load average before: {load:.1f}")
    with ExitStack() as leaving:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        directory = Path(leaving.enter_context(tempfile.TemporaryDirectory(dir=base)))
        images = {name: make_series(spec) for name, spec in specs.items()}
        archive = Orthanc if chosen.archive == "orthanc" else Dcmqrscp
        bench = Bench(directory, leaving, images, archive)
        measured = run(bench, chosen.rounds)
        report(measured, chosen.chart)
        if chosen.page:
            into(chosen.page, chosen.archive, tables(measured, chosen.rounds, chosen.slices, load))
        if chosen.lengths:
            by_length = lengths(bench, chosen.rounds)
            for length, (ours, limit) in by_length.items():
                print(f"MR 10 KiB x {length:<5} {ours:7.1f} slices/s to scratch; limit {limit:7.1f}")
            chosen.lengths.write_text(
                lines("MR 10 KiB, slices per second over slices", (SCRATCH, LIMIT), by_length)
            )
        if chosen.stages:
            by_series = {name: bench.stages(name) for name in SERIES}
            for name, by_stage in by_series.items():
                print(f"{name:12} " + "; ".join(f"{stage} {ms:.2f} ms" for stage, ms in by_stage.items()))
            titled = {f"{name}, ms of one image in each stage": one for name, one in by_series.items()}
            chosen.stages.write_text(bars(titled, "{:.2f}"))
    print(f"load average after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
