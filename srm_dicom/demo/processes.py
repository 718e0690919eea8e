"""The processes of a site on this machine: started, waited for, watched, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.daemon.processes import command
from srm_dicom.errors import ConfigError

START_S = 120.0
STOP_S = 10.0
_READY = b'"event": "ready"'


@dataclass(frozen=True, slots=True)
class Unit:
    """One process: its name in logs, its role, its configuration file."""

    name: str
    role: str
    config: Path


class Processes:
    """Units running as children of this process, each with a log file of its own."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._running: dict[str, tuple[Unit, subprocess.Popen[bytes]]] = {}

    def start(self, *units: Unit) -> None:
        """Start units and wait until each says that it is ready.

        Raises:
            ConfigError: a unit ended or did not become ready in time; the message has its log.
        """
        for unit in units:
            self._running[unit.name] = (unit, self._spawn(unit))
        deadline = time.monotonic() + START_S
        for unit in units:
            self._wait(unit, deadline)

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop one unit."""
        _, process = self._running.pop(name)
        _end(process, number)

    def restart(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop one unit, by default without warning, and start it again."""
        unit, _ = self._running[name]
        self.stop(name, number)
        self.start(unit)

    def stop_all(self) -> None:
        """Stop every unit."""
        for _, process in self._running.values():
            process.terminate()
        for name in list(self._running):
            self.stop(name)

    def pid(self, name: str) -> int:
        """Return the id of a unit's process."""
        return self._running[name][1].pid

    def log(self, name: str) -> Path:
        """Return where a unit's log is."""
        return self._logs / f"{name}.log"

    def _spawn(self, unit: Unit) -> subprocess.Popen[bytes]:
        with self.log(unit.name).open("wb") as log:
            return subprocess.Popen(
                command(unit.role, unit.config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def _wait(self, unit: Unit, deadline: float) -> None:
        _, process = self._running[unit.name]
        while _READY not in self.log(unit.name).read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = self.log(unit.name).read_text(errors="replace").splitlines()[-3:]
                raise ConfigError(f"{unit.name} did not start", advice="\n       ".join(tail))
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)
