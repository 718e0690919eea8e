"""Logs and metrics.

A log line has a fixed event name and keys of an allow-list; a key that is not on it is dropped and
its name is reported instead. So what a patient, a DICOM object or a user typed cannot reach a log by
somebody's forgetting: it has to be put on the list first.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
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


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; `name` appears in every line."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(module=name))


def configure(role: str, *, stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send this process's logs to `stream` as JSON lines; called once, by the process's entry point."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_role(role),
            where_it_broke,
            only_allowed_keys,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def where_it_broke(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace an exception by its places in the code: its text could hold anything."""
    if event.pop("exc_info", None):
        frames = traceback.extract_tb(sys.exc_info()[2])
        event["where"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def only_allowed_keys(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop every key that is not on the list, and say that it was dropped."""
    dropped = sorted(set(event) - ALLOWED_KEYS)
    for key in dropped:
        del event[key]
    if dropped:
        event["dropped_keys"] = dropped
    return event


def _with_role(role: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["role"] = role
        return event

    return add
