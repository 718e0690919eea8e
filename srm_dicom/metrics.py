"""What a process counts and measures, in a file for Prometheus.

A file and no port: node_exporter's textfile collector reads it (`docs/adr/0024-metrics-in-files.md`), and
nothing has to connect to a process for it, least of all to one of the inner zone.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from cryptography import x509
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from srm_dicom.errors import ConfigError
from srm_dicom.telemetry import SUMMED, TALLY, LineKind, Tally, Total, logger

EVERY_S = 15.0
_UNITS = {"bytes": "bytes", "seconds": "seconds", "count": "items"}

log = logger("metrics")

Measured = Mapping[str, float]
"""Values by the value of a gauge's label, or one under the empty name."""


class Gauge:
    """Something that is looked at whenever a file is written.

    Args:
        name: with its unit, without the prefix that all have.
        about: one line.
        look: returns the values.
        label: what tells the values apart; empty where there is one.
    """

    def __init__(self, name: str, about: str, look: Callable[[], Measured | float], label: str = "") -> None:
        self._name, self._about, self._look, self._label = name, about, look, label

    def metric(self) -> Metric:
        """Look."""
        family = GaugeMetricFamily(
            f"srm_dicom_{self._name}", self._about, labels=[self._label] if self._label else ()
        )
        found = self._look()
        for label, value in (found if isinstance(found, Mapping) else {"": found}).items():
            family.add_metric([label] if self._label else (), value)
        return family


class MetricsFile:
    """Writes `directory`/srm-dicom-`name`.prom every `every_s`, until it is stopped: it is gone then."""

    def __init__(
        self,
        directory: Path,
        name: str,
        gauges: Iterable[Gauge] = (),
        *,
        tally: Tally = TALLY,
        every_s: float = EVERY_S,
    ) -> None:
        self._path = directory / f"srm-dicom-{name}.prom"
        self._fresh = f".{self._path.name}."
        self._registry = CollectorRegistry()
        self._registry.register(_OfRole(name, tally, tuple(gauges)))
        self._every_s = every_s
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Write the first, if all can be looked at already: no service is kept from starting by what cannot.

        Raises:
            ConfigError: nothing can be written there.
        """
        content = self._looked()
        try:
            for left in self._path.parent.glob(f"{self._fresh}*"):  # by one that was killed as it wrote
                left.unlink(missing_ok=True)
            if content is not None:
                self._write(content)
        except OSError as error:
            advice = "`metrics` names a directory that the user of this service may write."
            raise ConfigError(f"metrics: {self._path}: {error.strerror}", advice=advice) from error
        self._thread.start()

    def stop(self) -> None:
        """Leave nothing that looks as if it were of now."""
        self._stop.set()
        self._thread.join(self._every_s)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            content = self._looked()
            if content is not None:
                try:
                    self._write(content)
                    self._failed = False
                except OSError as error:  # a disk that is full
                    self._tell(error)

    def _looked(self) -> bytes | None:
        try:
            return generate_latest(self._registry)
        except Exception as error:  # noqa: BLE001 - a database that is away, a certificate that is none
            self._tell(error)
            return None

    def _tell(self, error: Exception) -> None:
        """Tell of the first of failures in a row."""
        if not self._failed:
            log.warning("metrics_not_written", error=type(error).__name__)
        self._failed = True

    def _write(self, content: bytes) -> None:
        """Put a whole file in the place of the one before: a reader sees either."""
        descriptor, fresh = tempfile.mkstemp(prefix=self._fresh, dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, 0o644)
            Path(fresh).replace(self._path)
        except BaseException:
            Path(fresh).unlink()
            raise


class _OfRole(Collector):
    """Everything that a role has: files of several are read together, so each value has its role."""

    def __init__(self, role: str, tally: Tally, gauges: tuple[Gauge, ...]) -> None:
        self._role, self._tally, self._gauges = role, tally, gauges
        self._process = _Process(namespace="srm_dicom", registry=None)

    def describe(self) -> Iterable[Metric]:
        """Say nothing beforehand: what there is is known when it is looked at."""
        return ()

    def collect(self) -> Iterator[Metric]:
        for metric in (*_events(self._tally.totals()), *self._process.collect(), *self._measured()):
            own = {"role": self._role}
            metric.samples = [sample._replace(labels={**own, **sample.labels}) for sample in metric.samples]
            yield metric

    def _measured(self) -> Iterator[Metric]:
        return (gauge.metric() for gauge in self._gauges)


class _Process(ProcessCollector):
    """Memory, time and files; it does without /proc/stat, which units with ``ProcSubset=pid`` do not have."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _events(totals: Mapping[LineKind, Total]) -> Iterator[Metric]:
    labels = ["module", "event", "level"]
    lines = CounterMetricFamily("srm_dicom_events", "Log lines, by kind.", labels=labels)
    sums = {
        key: CounterMetricFamily(
            f"srm_dicom_event_{_UNITS[key]}", f"Sum of {key} over log lines, by kind.", labels=labels
        )
        for key in SUMMED
    }
    for kind, total in totals.items():
        values = [kind.module, kind.event, kind.level]
        lines.add_metric(values, total.lines)
        for key, value in total.sums.items():
            sums[key].add_metric(values, value)
    yield lines
    yield from sums.values()


def certificate_ends(certificate: Path) -> Gauge:
    """Return when a certificate ends."""

    def look() -> float:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()

    return Gauge("certificate_ends_timestamp_seconds", "When the host certificate ends.", look)
