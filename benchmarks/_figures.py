"""What `benchmarks.staging` has measured, as text, as tables of a page and as a chart."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._charts import bars

OURS, SCRATCH = "srm-dicom: mdm get", "srm-dicom: to scratch"
LIMIT, ANCHOR = "limit: moved and dropped", "anchor: Orthanc REST + age"
DCMTK_ANCHOR = "anchor: dcmtk, dicom-anonymizer, age"
NAIVE_ANCHOR = "anchor: pynetdicom, pydicom, age"
BEGIN, END = "<!-- figures: {} -->", "<!-- end of figures -->"


@dataclass
class Measured:
    """What one run has found, by series.

    Attributes:
        rates: slices per second of each way.
        spent: milliseconds of the processor for one image to scratch, by process.
        cold: milliseconds until one image is ready, of a bare C-MOVE of it, and of movescu.
    """

    rates: dict[str, dict[str, float]] = field(default_factory=dict)
    spent: dict[str, dict[str, float]] = field(default_factory=dict)
    cold: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def tables(measured: Measured, rounds: int, slices: int, load: float) -> str:
    """Return tables of a run, as Markdown."""
    machine = f"{os.cpu_count()} virtual cores, load average {load:.1f} before"
    what = f"Medians of {rounds} rounds of {slices} slices on {machine}."
    rows = [
        what,
        "",
        "| images | way | slices/s | of the limit | times the best other |",
        "|---|---|---|---|---|",
    ]
    for name, by_way in measured.rates.items():
        others = [rate for way, rate in by_way.items() if way.startswith("anchor")]
        for way, rate in by_way.items():
            ours = way in (OURS, SCRATCH) and others
            times = f"{rate / max(others):.2f}" if ours else ""
            rows.append(f"| {name} | {way} | {rate:.0f} | {rate / by_way[LIMIT]:.2f} | {times} |")
    processes = list(next(iter(measured.spent.values())))
    rows += ["", f"| processor time of one image to scratch, ms | {' | '.join(processes)} |"]
    rows.append("|---" * (len(processes) + 1) + "|")
    for name, spent in measured.spent.items():
        rows.append(f"| {name} | {' | '.join(f'{ms:.2f}' for ms in spent.values())} |")
    rows += [
        "",
        "| one cold image, ms | ready | bare C-MOVE, connections kept | movescu |",
        "|---" * 4 + "|",
    ]
    rows += [f"| {name} | {' | '.join(f'{ms:.0f}' for ms in cold)} |" for name, cold in measured.cold.items()]
    return "\n".join(rows)


def into(page: Path, name: str, text: str) -> None:
    """Put figures between the marks of this name in a page."""
    head, begin, rest = page.read_text().partition(BEGIN.format(name))
    if not begin:
        raise ValueError(f"{page} has no place for the figures of {name}")
    _, end, tail = rest.partition(END)
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def report(measured: Measured, picture: Path | None) -> None:
    for name, (ours_ms, bare_ms, movescu_ms) in measured.cold.items():
        bare = f"bare C-MOVE {bare_ms:.0f} ms, movescu {movescu_ms:.0f} ms"
        print(f"{name:12} one cold image: ready in {ours_ms:.0f} ms; {bare}")
    for name, spent in measured.spent.items():
        told = "; ".join(f"{process} {ms:.2f} ms" for process, ms in spent.items())
        print(f"{name:12} of the processor for one image to scratch: {told}")
    for name, by_way in measured.rates.items():
        for way, rate in by_way.items():
            ratios = "  ".join(f"{ours} / it = {by_way[ours] / rate:5.2f}" for ours in (OURS, SCRATCH))
            print(f"{name:12} {way:36} {rate:7.1f} slices/s   {ratios}")
        for anchor, needed in ((ANCHOR, "Orthanc and age"), (DCMTK_ANCHOR, "dicom-anonymizer and age")):
            if anchor not in by_way:
                print(f"{name:12} {anchor:36} not measured: it needs {needed}")
    if picture:
        picture.write_text(
            bars({f"{name}, slices per second": by_way for name, by_way in measured.rates.items()})
        )
