"""A stager that dies at a step of staging, as by a power cut: ``python -m srm_dicom.testing.faults ...``.

The fault is put around a function of the true stager, which kills its own process there, without a word.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from srm_dicom.daemon.processes import builder

STEPS = {
    "received": ("srm_plugin_dicom.delivery:Delivery.deliver", "before"),
    "sealed": ("srm_dicom.scratch.slot:FileSlot._written", "after"),
    "answered": ("srm_plugin_dicom.delivery:Delivery.deliver", "after"),
    "pushed": ("srm_dicom.scratch.area:ScratchArea.publish", "before"),
    "before fsync": ("srm_dicom.scratch.area:_make_durable", "before"),
    "between write and rename": ("srm_dicom.scratch.area:_sync", "after"),
    "before the transaction": ("srm_dicom.broker.publish:Publisher._announce", "before"),
    "in the transaction": ("srm_dicom.broker.publish:Publisher._announce", "after"),
    "after the transaction": ("srm_dicom.broker.publish:Publisher.publish", "after"),
}
"""Steps of staging: a function, and whether the process dies when it is called or when it is done."""


def command(config: Path, step: str = "", times: int = 1) -> list[str]:
    """Return the command of a stager that dies when it is at a step for so many times; "" for never."""
    return [sys.executable, "-m", "srm_dicom.testing.faults", str(config), step, str(times)]


def main(config: str, step: str, times: str) -> None:
    """Be that stager."""
    if step:
        place, when = STEPS[step]
        _break(place, when, int(times))
    services = builder("stager")(Path(config))
    for service in services:
        service.start()
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pause()
    for service in reversed(services):
        service.stop()


def _break(place: str, when: str, times: int) -> None:
    module, _, name = place.partition(":")
    owner: Any = import_module(module)
    *classes, name = name.split(".")
    for each in classes:
        owner = getattr(owner, each)
    setattr(owner, name, _faulty(getattr(owner, name), when, times))


def _faulty(true: Callable[..., Any], when: str, times: int) -> Callable[..., Any]:
    reached: list[None] = []

    def reach() -> None:
        reached.append(None)
        if len(reached) == times:
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
