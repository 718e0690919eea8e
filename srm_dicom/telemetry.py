"""Logs, and how many lines of each kind there were, which is what metrics count.

A log line has a fixed event name and keys of an allow-list; a key that is not on it is dropped and
its name is reported instead. So what a patient, a DICOM object or a user typed cannot reach a log by
somebody's forgetting: it has to be put on the list first.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

ALLOWED_KEYS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "module",
        "role",
        "pid",
        "dn",
        "fqans",
        "limited",
        "peer",
        "port",
        "reason",
        "path",
        "verb",
        "status",
        "request",
        "guid",
        "bytes",
        "seconds",
        "count",
        "attempt",
        "plugin",
        "source",
        "batch",
        "release",
        "generation",
        "node",
        "error",
        "error_id",
        "server",
        "collection",
        "key_id",
        "operation",
        "protocol",
        "protocols",
        "version",
        "cipher",
        "certificate",
        "check",
        "passed",
        "where",
        "dropped_keys",
    }
)
"""Keys that a log line may have; paths and GUIDs are pseudonymous by construction."""


SUMMED = ("bytes", "seconds", "count")
"""Keys whose values of all lines of a kind make sense as a sum."""

MOST_KINDS = 500
"""Lines of kinds beyond are counted as one: an event's name is a word of the code, and should stay one."""


@dataclass(frozen=True, slots=True)
class LineKind:
    """What lines are counted by."""

    module: str
    event: str
    level: str


@dataclass(slots=True)
class Total:
    """How many lines of a kind there were, and the sums of `SUMMED` over them."""

    lines: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class Tally:
    """The totals of one process, from its start on."""

    def __init__(self) -> None:
        self._totals: dict[LineKind, Total] = {}
        self._lock = threading.Lock()

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a line."""
        kind = LineKind(str(line.get("module", "")), str(line.get("event", "")), str(line.get("level", "")))
        with self._lock:
            if kind not in self._totals and len(self._totals) >= MOST_KINDS:
                kind = LineKind("", "other", "")
            total = self._totals.setdefault(kind, Total())
            total.lines += 1
            for key in SUMMED:
                value = line.get(key)
                if isinstance(value, int | float):
                    total.sums[key] = total.sums.get(key, 0) + value

    def totals(self) -> dict[LineKind, Total]:
        """Return what there is so far."""
        with self._lock:
            return {kind: Total(total.lines, dict(total.sums)) for kind, total in self._totals.items()}


TALLY = Tally()
"""This process's: logs are of a process, and so is what is counted of them."""


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; `name` appears in every line."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(module=name))


def configure(role: str, *, stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send this process's logs to `stream` as JSON lines; called once, by the process's entry point."""
    structlog.configure(
        processors=[_line(role)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


@contextmanager
def aside() -> Iterator[None]:
    """Keep logs out of what a program prints: warnings and worse go to standard error, the rest nowhere."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _line(role: str) -> structlog.typing.Processor:
    """Return what makes the text of a line: one step, for every request has its line."""
    encode = json.JSONEncoder(sort_keys=True, default=repr).encode

    def line(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if event.pop("exc_info", None):
            event["where"] = _where_it_broke()
        event["level"] = method
        event["role"] = role
        event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if not event.keys() <= ALLOWED_KEYS:
            _drop(event)
        TALLY.add(event)
        return encode(event)

    return line


def _where_it_broke() -> list[str]:
    """Return the places of the exception that is handled: its text could hold anything."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _drop(event: MutableMapping[str, Any]) -> None:
    """Drop every key that is not on the list, and say that it was dropped."""
    dropped = sorted(set(event) - ALLOWED_KEYS)
    for key in dropped:
        del event[key]
    event["dropped_keys"] = dropped
