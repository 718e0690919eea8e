"""What a process counts, and the file that Prometheus gets."""

import threading
import time
from io import StringIO
from pathlib import Path

import pytest
import structlog
from prometheus_client import process_collector
from prometheus_client.parser import text_string_to_metric_families

from srm_dicom import telemetry
from srm_dicom.errors import ConfigError
from srm_dicom.metrics import Gauge, MetricsFile, certificate_ends
from srm_dicom.telemetry import MOST_KINDS, LineKind, Tally, logger
from srm_dicom.testing.pki import TestPki


def read(path):
    """Return every value by the sample's name and its labels."""
    families = text_string_to_metric_families(path.read_text())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def eventually(look):
    done = threading.Event()
    for _ in range(500):
        if look():
            return True
        done.wait(0.02)
    return False


@pytest.fixture
def tally(monkeypatch):
    tally = Tally()
    monkeypatch.setattr(telemetry, "TALLY", tally)
    telemetry.configure("front", stream=StringIO())
    yield tally
    structlog.reset_defaults()


def test_a_log_line_is_counted_by_its_kind_and_nothing_that_is_in_it(tally, tmp_path):
    log = logger("web")
    for _ in range(3):
        log.info("http_request", bytes=100, seconds=0.5, dn="/CN=Alice", path="/p")
    log.warning("http_request", bytes=1)
    log.debug("never_written")
    assert tally.totals().keys() == {
        LineKind("web", "http_request", "info"), LineKind("web", "http_request", "warning")
    }  # fmt: skip
    MetricsFile(tmp_path, "front", tally=tally).start()
    (file,) = tmp_path.glob("*")
    found = read(file)
    labels = (("event", "http_request"), ("level", "info"), ("module", "web"), ("role", "front"))
    assert found["srm_dicom_events_total", *labels] == 3
    assert found["srm_dicom_event_bytes_total", *labels] == 300
    assert found["srm_dicom_event_seconds_total", *labels] == 1.5
    assert ("srm_dicom_event_items_total", *labels) not in found
    assert "Alice" not in file.read_text()
    assert "/p" not in file.read_text()


def test_a_process_is_measured_where_the_units_leave_of_proc_what_is_processes(tmp_path, monkeypatch):
    """``ProcSubset=pid``: there is /proc/self, and no /proc/stat."""

    def subset(path, *arguments):
        if str(path) == "/proc/stat":
            raise FileNotFoundError(2, "No such file or directory", path)
        return Path(path).open(*arguments)

    monkeypatch.setattr(process_collector, "open", subset, raising=False)
    MetricsFile(tmp_path, "front").start()
    found = read(tmp_path / "srm-dicom-front.prom")
    role = ("role", "front")
    assert found["srm_dicom_process_resident_memory_bytes", role] > 1e6
    assert found["srm_dicom_process_open_fds", role] > 2
    started = found["srm_dicom_process_start_time_seconds", role]
    assert time.time() - 24 * 3600 < started < time.time() + 60


def test_kinds_are_bounded(tally):
    log = logger("x")
    for number in range(MOST_KINDS + 50):
        log.info(f"event_{number}")
    totals = tally.totals()
    assert len(totals) == MOST_KINDS + 1
    assert totals[LineKind("", "other", "")].lines == 50


def test_lines_of_many_threads_are_all_counted(tally):
    def write():
        for _ in range(500):
            logger("x").info("line", count=2)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (total,) = tally.totals().values()
    assert (total.lines, total.sums) == (4000, {"count": 8000})


def test_values_are_looked_at_anew_and_the_file_is_gone_in_the_end(tmp_path):
    values = {"queued": 1.0}
    gauge = Gauge("request_files", "Files.", lambda: values, "state")
    file = MetricsFile(
        tmp_path, "front", [gauge, Gauge("full", "Full.", lambda: 0.5)], tally=Tally(), every_s=0.02
    )
    file.start()
    path = tmp_path / "srm-dicom-front.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    assert read(path)["srm_dicom_full", ("role", "front")] == 0.5
    values["queued"] = 7.0
    assert eventually(
        lambda: read(path)["srm_dicom_request_files", ("role", "front"), ("state", "queued")] == 7
    )
    file.stop()
    assert list(tmp_path.iterdir()) == []


def test_files_of_several_roles_can_be_read_together(tmp_path):
    """node_exporter refuses a sample that two files have."""
    for role in ("front", "transfer"):
        MetricsFile(tmp_path, role, tally=Tally()).start()
    samples = [set(read(path)) for path in tmp_path.iterdir()]
    assert ("srm_dicom_process_open_fds", ("role", "front")) in samples[0] | samples[1]
    assert not samples[0] & samples[1]


def test_what_cannot_be_looked_at_leaves_the_last_file_and_is_told_once(tally, tmp_path):
    broken = threading.Event()

    def look():
        if broken.is_set():
            raise OSError("the database is away")
        return 1.0

    path = tmp_path / "srm-dicom-front.prom"
    file = MetricsFile(tmp_path, "front", [Gauge("x", "X.", look)], tally=tally, every_s=0.01)
    file.start()
    broken.set()
    failed = LineKind("metrics", "metrics_not_written", "warning")
    assert eventually(lambda: failed in tally.totals())
    before = path.stat().st_mtime_ns
    broken.clear()
    assert eventually(lambda: path.stat().st_mtime_ns > before)
    assert tally.totals()[failed].lines == 1
    file.stop()


def test_what_a_killed_process_left_goes(tmp_path):
    (tmp_path / ".srm-dicom-front.prom.a1b2").write_text("half")
    MetricsFile(tmp_path, "front", tally=Tally()).start()
    assert [path.name for path in tmp_path.iterdir()] == ["srm-dicom-front.prom"]


def test_a_directory_that_is_not_there_is_told_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory"):
        MetricsFile(tmp_path / "nowhere", "front").start()


def test_the_end_of_a_certificate_is_read_anew(tmp_path):
    host = TestPki(tmp_path).host("se.example.org")
    (sample,) = certificate_ends(host.certificate).metric().samples
    assert sample.name == "srm_dicom_certificate_ends_timestamp_seconds"
    assert sample.value > 1.7e9


def test_what_cannot_be_looked_at_at_the_start_keeps_no_service_from_starting(tally, tmp_path):
    certificate = tmp_path / "hostcert.pem"
    file = MetricsFile(tmp_path, "front", [certificate_ends(certificate)], tally=tally, every_s=0.01)
    file.start()
    assert tally.totals()[LineKind("metrics", "metrics_not_written", "warning")].lines == 1
    certificate.write_bytes(TestPki(tmp_path / "pki").host("se.example.org").certificate.read_bytes())
    assert eventually((tmp_path / "srm-dicom-front.prom").exists)
    file.stop()
