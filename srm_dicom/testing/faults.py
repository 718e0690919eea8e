"""A stager that dies at a step of staging, as by a power cut: ``python -m srm_dicom.testing.faults ...``.

The fault is put around a function of the true stager, which kills its own process there, without a word.
Before anything moves, as many workers are there as ``inner.workers`` says: who makes a file is no chance.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from srm_dicom.config import load
from srm_dicom.daemon.processes import builder
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.testing.waiting import eventually

BY_ITSELF = {
    "received": ("srm_plugin_dicom.delivery:Delivery.deliver", "before"),
    "sealed": ("srm_dicom.scratch.slot:FileSlot._written", "after"),
    "answered": ("srm_plugin_dicom.delivery:Delivery.deliver", "after"),
}
"""Steps of a stager that makes files itself: a function, and whether it dies when it is called or is done."""

BY_WORKERS = {
    "asked": ("srm_dicom.scratch.sessions:Session._tasks", "after"),
    "brought": ("srm_plugin_dicom.delivery:Delivery.keep", "before"),
    "kept": ("srm_plugin_dicom.delivery:Delivery.keep", "after"),
}
"""Steps of one whose workers attend the associations."""

PUBLISHING = {
    "pushed": ("srm_dicom.scratch.area:ScratchArea.publish", "before"),
    "before fsync": ("srm_dicom.scratch.area:_make_durable", "before"),
    "between write and rename": ("srm_dicom.scratch.area:_sync", "after"),
    "before the transaction": ("srm_dicom.broker.publish:Publisher._announce", "before"),
    "in the transaction": ("srm_dicom.broker.publish:Publisher._announce", "after"),
    "after the transaction": ("srm_dicom.broker.publish:Publisher.publish", "after"),
}
"""Steps of both."""

STEPS = BY_ITSELF | BY_WORKERS | PUBLISHING


def command(config: Path, step: str = "", times: int = 1) -> list[str]:
    """Return the command of a stager that dies when it is at a step for so many times; "" for never."""
    return [sys.executable, "-m", "srm_dicom.testing.faults", str(config), step, str(times)]


def main(config: str, step: str, times: str) -> None:
    """Be that stager."""
    if step:
        place, when = STEPS[step]
        _break(place, when, int(times))
    services = builder("stager")(Path(config))
    inner = load(Path(config)).inner
    workers = inner.workers if inner is not None and inner.workers else 0
    for service in services:
        service.start()
        if isinstance(service, Workshop):
            eventually(partial(_have_come, service, workers))
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pause()
    for service in reversed(services):
        service.stop()


def _have_come(workshop: Workshop, workers: int) -> bool:
    return workshop.idle >= workers


def _break(place: str, when: str, times: int) -> None:
    module, _, name = place.partition(":")
    owner: Any = import_module(module)
    *classes, name = name.split(".")
    for each in classes:
        owner = getattr(owner, each)
    setattr(owner, name, _faulty(getattr(owner, name), when, times))


def _faulty(true: Callable[..., Any], when: str, times: int) -> Callable[..., Any]:
    reached = count(1)  # threads get to a step at the same moment, and each gets its own number

    def reach() -> None:
        if next(reached) == times:
            os.kill(os.getpid(), signal.SIGKILL)

    def faulty(*args: Any, **options: Any) -> Any:
        if when == "before":
            reach()
        done = true(*args, **options)
        if when == "after":
            reach()
        return done

    return faulty


if __name__ == "__main__":
    main(*sys.argv[1:])
