"""From an untouched Orthanc to ciphertext in the user's directory: a whole site beside the anchors.

Ours, twice: as `mdm get` does it, searched, staged, fetched by GridFTP and verified against the signed
manifests; and from srmPrepareToGet of its files to their ciphertext in scratch. In both each image is moved,
de-identified, checked, sealed and durable, and audited. Beside it, in the same run and on the same images:

* the limit: the same C-MOVE, received and thrown away;
* the best anchor that can be put together from existing programs: Orthanc anonymises by REST, each
  instance is fetched on one kept-alive connection, age encrypts two at a time.

Rounds of all ways alternate; medians are compared. ``--chart FILE`` draws them.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from pydicom.dataset import FileDataset

from srm_dicom.client.library import Client
from srm_dicom.clock import SystemClock
from srm_dicom.daemon.common import Common
from srm_dicom.demo.site import Archive, DemoSite
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.testing.archives import SYSTEM_PATH, Orthanc, free_port, program
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk
from srm_plugin_dicom.moving import MoveArchive
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.receiver import Peer, Receiver

ROUNDS = 3
SERIES = {
    "CT 512 KiB": SeriesSpec("CT", 200, rows=512, columns=512),
    "MR 10 KiB": SeriesSpec("MR", 200, rows=72, columns=72, study="2"),
}
OURS, SCRATCH = "srm-dicom: mdm get", "srm-dicom: to scratch"
LIMIT, ANCHOR = "limit: moved and dropped", "anchor: Orthanc REST + age"


class Bench:
    """A site over Orthanc with the benchmark's series in it."""

    def __init__(self, directory: Path, leaving: ExitStack, images: Mapping[str, list[FileDataset]]) -> None:
        self.directory = directory
        self.images = images
        self.site = DemoSite(directory / "site", push=False)
        self.drop_port = free_port()
        ports = {
            "MDM1": self.site.ports["moves"],
            "MDMIN": self.site.ports["arrivals"],
            "DROP": self.drop_port,
        }
        self.orthanc = Orthanc(directory / "orthanc", ports)
        leaving.callback(self.orthanc.stop)
        for series in images.values():
            self.orthanc.add(series)
        self.site.archive = Archive("PACS", "127.0.0.1", self.orthanc.port)
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
            Pacs(PacsSettings("archive", "PACS", "127.0.0.1", self.orthanc.port), "DROP"),
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
        modality = name.split(maxsplit=1)[0]
        out = self._fresh("ours")
        started_s = time.monotonic()
        got = list(self.client.get([f'Modality = "{modality}"'], out, sealed=True))
        took_s = time.monotonic() - started_s
        assert all(one.error is None for one in got), [one.error for one in got if one.error][:1]
        assert len(list(out.iterdir())) == len(self.images[name])
        return took_s

    def scratch(self, name: str) -> float:
        """Return the seconds from srmPrepareToGet of every image of a series to all of them in scratch."""
        self._unstage()
        modality = name.split(maxsplit=1)[0]
        surls = [str(row["surl"]) for row in self.client.find(f'Modality = "{modality}"')]
        assert len(surls) == len(self.images[name])
        return self._staged(surls)

    def first(self, name: str) -> tuple[float, float]:
        """Return the seconds until one cold image is ready, and those of a bare C-MOVE of it."""
        self._unstage()
        modality = name.split(maxsplit=1)[0]
        surl = str(self.client.find(f'Modality = "{modality}"', limit=1)[0]["surl"])
        return self._staged([surl]), self._moved(name, 1)

    def _staged(self, surls: list[str]) -> float:
        started_s = time.monotonic()
        request = self.client.srm.prepare_to_get(surls, ("gsiftp",))
        pause_s = 0.005
        while request.waiting:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
            request = self.client.srm.status(request.token, [request.waiting[-1].surl])
        request = self.client.srm.wait(self.client.srm.status(request.token), 120.0)
        took_s = time.monotonic() - started_s
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
        wanted = Wanted(first.StudyInstanceUID, first.SeriesInstanceUID, instances)
        started_s = time.monotonic()
        self.source.fetch(wanted, lambda info, _data: came.append(info.sop_instance), 120.0)
        took_s = time.monotonic() - started_s
        assert len(came) == len(instances)
        return took_s

    def anchor(self, name: str) -> float:
        """Return the seconds of Orthanc's own anonymisation, REST and age."""
        clear, sealed = self._fresh("clear"), self._fresh("sealed")
        recipient = self._age_recipient()
        host = self.orthanc._http.removeprefix("http://")
        rest = http.client.HTTPConnection(host, timeout=120)
        study = _rest(rest, "POST", "/tools/lookup", self.images[name][0].StudyInstanceUID.encode())
        found = next(one["ID"] for one in study if one["Type"] == "Study")
        started_s = time.monotonic()
        new = _rest(rest, "POST", f"/studies/{found}/anonymize", b'{"Synchronous":true}')["ID"]
        for number, instance in enumerate(_rest(rest, "GET", f"/studies/{new}/instances")):
            rest.request("GET", f"/instances/{instance['ID']}/file", headers={"Accept-Encoding": "identity"})
            (clear / f"{number}.dcm").write_bytes(rest.getresponse().read())
        subprocess.run(
            [
                "/bin/sh",
                "-c",
                f"ls {clear} | xargs -P2 -I{{}} age -r {recipient} -o {sealed}/{{}}.age {clear}/{{}}",
            ],
            check=True,
            env={"PATH": SYSTEM_PATH},
        )
        took_s = time.monotonic() - started_s
        assert len(list(sealed.iterdir())) == len(self.images[name])
        rest.close()  # Orthanc has closed its end while age was at work
        _rest(rest, "DELETE", f"/studies/{new}")
        return took_s

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

    def _fresh(self, name: str) -> Path:
        directory = self.directory / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        return directory

    def _age_recipient(self) -> str:
        key = self.directory / "age.key"
        if not key.exists():
            subprocess.run([program("age-keygen"), "-o", key], check=True, capture_output=True)
        return subprocess.run(
            [program("age-keygen"), "-y", key], check=True, capture_output=True, text=True
        ).stdout.strip()


def _rest(connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None = None):
    connection.request(method, target, body)
    return json.loads(connection.getresponse().read() or b"null")


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return the median slices per second of each way, by series."""
    images = {name: make_series(spec) for name, spec in SERIES.items()}
    with ExitStack() as leaving:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        directory = Path(leaving.enter_context(tempfile.TemporaryDirectory(dir=base)))
        bench = Bench(directory, leaving, images)
        ways: dict[str, Callable[[str], float]] = {
            OURS: bench.ours,
            SCRATCH: bench.scratch,
            LIMIT: bench.limit,
        }
        if shutil.which("age", path=SYSTEM_PATH):
            ways[ANCHOR] = bench.anchor
        seconds: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name in images}
        for _ in range(rounds + 1):
            for name in images:
                for way, measure in ways.items():
                    seconds[name][way].append(measure(name))
        for name in images:
            cold = [bench.first(name) for _ in range(rounds + 1)][1:]
            ours_s, bare_s = (statistics.median(column) for column in zip(*cold, strict=True))
            print(
                f"{name:12} one cold image: ready in {ours_s * 1e3:.0f} ms; bare C-MOVE {bare_s * 1e3:.0f} ms"
            )
    return {
        name: {way: len(images[name]) / statistics.median(taken[1:]) for way, taken in by_way.items()}
        for name, by_way in seconds.items()
    }


def chart(rates: Mapping[str, Mapping[str, float]]) -> str:
    """Return the rates as bars, SVG."""
    rows: list[str] = []
    y = 20
    for name, by_way in rates.items():
        rows.append(f'<text x="0" y="{y}" font-weight="bold">{name}, slices per second</text>')
        top = max(by_way.values())
        for way, rate in by_way.items():
            y += 24
            colour = "#2a6f97" if way in (OURS, SCRATCH) else "#a9b4bf"
            rows.append(f'<text x="0" y="{y + 12}">{way}</text>')
            rows.append(f'<rect x="210" y="{y}" width="{360 * rate / top:.0f}" height="16" fill="{colour}"/>')
            rows.append(f'<text x="{216 + 360 * rate / top:.0f}" y="{y + 12}">{rate:.0f}</text>')
        y += 44
    name = "http://www.w3.org/2000/svg"
    head = f'<svg xmlns="{name}" viewBox="0 0 640 {y}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, *rows, "</svg>"]) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--chart", type=Path, help="write the bars to this SVG file")
    chosen = options.parse_args()
    rates = run(chosen.rounds)
    for name, by_way in rates.items():
        for way, rate in by_way.items():
            ratios = "  ".join(f"{ours} / it = {by_way[ours] / rate:5.2f}" for ours in (OURS, SCRATCH))
            print(f"{name:12} {way:28} {rate:7.1f} slices/s   {ratios}")
        if ANCHOR not in by_way:
            print(f"{name:12} {ANCHOR:28} not measured: age is not installed")
    if chosen.chart:
        chosen.chart.write_text(chart(rates))


if __name__ == "__main__":
    main()
