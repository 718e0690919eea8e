"""What is measured of each role, beside what it counts; see `metrics`."""

from __future__ import annotations

from srm_dicom.clock import Clock
from srm_dicom.config import Scratch
from srm_dicom.metrics import Gauge
from srm_dicom.registry.destruction import Destructions
from srm_dicom.registry.journal import Journal
from srm_dicom.store.requestrows import WAITING
from srm_dicom.store.requests import FileState, Requests
from srm_dicom.store.staged import StagedFiles
from srm_dicom.store.unregistrations import Unregistrations


def of_requests(requests: Requests, clock: Clock) -> tuple[Gauge, ...]:
    """Return what shows whether requests go on."""

    def waiting() -> dict[str, float]:
        counts = requests.waiting()
        return {state.name.lower(): counts.get(state, 0) for state in WAITING}

    def oldest_s() -> float:
        made = requests.oldest(FileState.QUEUED)
        return (clock.now() - made).total_seconds() if made else 0.0

    return (
        Gauge("request_files", "Files of requests that are not at an end, by state.", waiting, "state"),
        Gauge("oldest_queued_seconds", "Age of the oldest request that has a queued file.", oldest_s),
    )


def of_scratch(staged: StagedFiles, node: str, scratch: Scratch) -> tuple[Gauge, ...]:
    """Return what shows how full a node's scratch is."""
    return (
        Gauge("scratch_bytes", "Bytes of staged files.", lambda: staged.totals(node)[0]),
        Gauge("scratch_files", "Staged files.", lambda: staged.totals(node)[1]),
        Gauge("scratch_high_bytes", "Above this, unpinned files go.", lambda: scratch.high_bytes),
    )


def of_registration(
    journal: Journal, unregistrations: Unregistrations, destructions: Destructions
) -> tuple[Gauge, ...]:
    """Return what shows whether the registrar goes on."""
    return (
        Gauge("arrivals_waiting", "What has arrived and is not registered everywhere.", journal.pending),
        Gauge("unregistrations_waiting", "Removed files that a catalogue still has.", unregistrations.open),
        Gauge("key_destructions_waiting", "Keys that are not destroyed yet.", destructions.waiting),
    )
