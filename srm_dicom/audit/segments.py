"""The files of a chain: a log grows into segments, one after the other.

The first is ``<role>@<host>.jsonl``, each later one has the number of its first event before the suffix:
``<role>@<host>.000000123456.jsonl``. The newest is the one that is written; the others never change again and
may be moved to an archive, whole, as soon as the newest has a line. The chain goes on from one file to the
next: the first line of a segment has the hash of the last line before it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_WRITTEN_WITHIN_S = 1.0
_LOOK_AGAIN_S = 0.02

_NAME = re.compile(r"(?P<log>[^/]+?)(?:\.(?P<seq>[0-9]{12}))?\.jsonl\Z")


def newest(directory: Path, log: str) -> Path:
    """Return the path of the segment that a log goes on in; the first one need not be there yet."""
    return logs([directory]).get(log, [directory / f"{log}.jsonl"])[-1]


def next_of(segment: Path, seq: int) -> Path:
    """Return the path of the segment that begins with an event."""
    return segment.with_name(f"{log_of(segment)}.{seq:012}.jsonl")


def begins(segment: Path) -> int:
    """Return the number of the first event of a segment."""
    match = _NAME.match(segment.name)
    return int(match["seq"] or 1) if match else 1


def log_of(segment: Path) -> str:
    """Return which log a segment is of."""
    match = _NAME.match(segment.name)
    return match["log"] if match else segment.stem


def logs(directories: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the segments of every log of some directories, the oldest first, by the log's name."""
    found: dict[str, list[Path]] = {}
    segments = [path for directory in directories for path in directory.glob("*.jsonl")]
    for path in sorted(segments, key=_order):
        found.setdefault(log_of(path), []).append(path)
    return found


def lines(segment: Path) -> Iterator[bytes]:
    """Yield the lines of a segment, which may be written meanwhile: of one that is, the end is waited for.

    Raises:
        OSError: the file cannot be read.
    """
    with segment.open("rb") as file:
        for raw in file:
            line, until_s = raw, time.monotonic() + _WRITTEN_WITHIN_S
            while not line.endswith(b"\n") and time.monotonic() < until_s:
                time.sleep(_LOOK_AGAIN_S)
                line += file.readline()
            yield line


def _order(segment: Path) -> tuple[str, int]:
    match = _NAME.match(segment.name)
    return (match["log"], int(match["seq"] or 0)) if match else (segment.name, 0)
