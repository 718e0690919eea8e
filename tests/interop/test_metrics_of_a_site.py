"""The metrics of a whole site, read by the node_exporter that sites of Prometheus run."""

import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from srm_dicom.client.library import Client
from srm_dicom.config import load
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.demo.site import HOST, DemoSite
from srm_dicom.errors import MdmError
from srm_dicom.testing.images import CANARY, Patient, SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.ports import free_port

pytestmark = [pytest.mark.interop("prometheus-node-exporter"), pytest.mark.timeout(240)]

ROLES = {"front", "transfer", "stager", "registrar", "files", "metadata", "keys-1", "keys-2", "keys-3"}
IMAGES = make_series(SeriesSpec("CT", 3, Patient(f"{CANARY}^ALICE", "4711")))
PAGE = Path(__file__).parents[2] / "docs" / "admin" / "operate.md"
PATIENCE_S = 60.0


class Exporter:
    """node_exporter with its textfile collector alone, as the page says."""

    def __init__(self, directory: Path) -> None:
        (argument,) = re.findall(r'^ARGS="(.*)"$', PAGE.read_text(), re.MULTILINE)
        address = f"127.0.0.1:{free_port()}"
        self._url = f"http://{address}/metrics"
        self._process = subprocess.Popen(
            [
                "prometheus-node-exporter",
                "--collector.disable-defaults",
                "--collector.textfile",
                argument.replace("/var/lib/srm-dicom/metrics", str(directory)),
                f"--web.listen-address={address}",
            ],
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def text(self) -> str:
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    return str(answer.read(), "utf-8")
            except OSError:
                assert time.monotonic() < until_s
                time.sleep(0.1)

    def values(self, name: str, **labels: str) -> dict[str, float]:
        """Return the values of a metric, by role, of those with these labels together."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    role = sample.labels.get("role", "")
                    found[role] = found.get(role, 0.0) + sample.value
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    site = DemoSite(tmp_path_factory.mktemp("site"))
    with PacsSimulator(site.archive.ae_title, port=site.archive.port) as pacs:
        pacs.destinations = {"MDM1": ("127.0.0.1", site.ports["moves"])}
        pacs.forward_to = ("MDMIN", "127.0.0.1", site.ports["arrivals"])
        site.write()
        try:
            site.start()
            pacs.add(IMAGES, forward=True)
            yield site
        finally:
            site.stop()


@pytest.fixture(scope="module")
def exporter(site: DemoSite) -> Iterator[Exporter]:
    directory = load(site.config).metrics
    assert directory is not None
    exporter = Exporter(directory)
    try:
        yield exporter
    finally:
        exporter.stop()


def test_node_exporter_takes_the_files_of_all_roles(exporter: Exporter) -> None:
    assert exporter.values("node_textfile_scrape_error") == {"": 0.0}
    assert exporter.values("srm_dicom_process_resident_memory_bytes").keys() == ROLES
    ends = exporter.values("srm_dicom_certificate_ends_timestamp_seconds")
    assert ends.keys() == ROLES
    assert min(ends.values()) > time.time()
    ready = exporter.values("srm_dicom_events_total", event="ready", module="daemon")
    assert set(ready.values()) <= {1.0}


def test_what_a_site_does_can_be_seen(site: DemoSite, exporter: Exporter, tmp_path: Path) -> None:
    with Client(site.description, site.users["researcher"]) as client:
        assert eventually(lambda: len(found(client)) == len(IMAGES))
        got = list(client.get(found(client), tmp_path))
    assert [one.error for one in got] == [None] * len(IMAGES)
    size_bytes, files = Common(site.config, ADMIN).stores.staged.totals(HOST)
    assert files == len(IMAGES)
    assert eventually(lambda: exporter.values("srm_dicom_scratch_files") == {"transfer": files})
    assert exporter.values("srm_dicom_scratch_bytes") == {"transfer": size_bytes}
    registered = {"module": "registrar", "event": "registered"}
    assert eventually(
        lambda: exporter.values("srm_dicom_event_items_total", **registered) == {"registrar": len(IMAGES)}
    )
    assert exporter.values("srm_dicom_arrivals_waiting") == {"registrar": 0.0}
    assert exporter.values("srm_dicom_request_files") == {"front": 0.0}
    assert exporter.values("srm_dicom_oldest_queued_seconds") == {"front": 0.0}
    assert exporter.values("srm_dicom_event_seconds_total", event="http_request")["front"] > 0


def test_no_metric_has_a_patient_a_person_or_a_path_in_it(site: DemoSite, exporter: Exporter) -> None:
    text = exporter.text()
    own = "\n".join(line for line in text.splitlines() if line.startswith("srm_dicom"))
    for word in (CANARY, "4711", "/CN=", "127.0.0.1", "/biomed", str(site.directory)):
        assert word not in own


def test_a_process_that_is_stopped_leaves_nothing_that_looks_alive(
    site: DemoSite, exporter: Exporter
) -> None:
    site.processes.stop("keys-3")
    assert exporter.values("srm_dicom_process_open_fds").keys() == ROLES - {"keys-3"}


def found(client: Client) -> list[str]:
    try:
        return [str(row["surl"]) for row in client.find('Modality = "CT"')]
    except MdmError:  # before the first image is registered nobody knows the attribute
        return []


def eventually(look: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + PATIENCE_S
    while not (done := look()) and time.monotonic() < until_s:
        time.sleep(0.5)
    return done
