"""Check a log from its first line to its last: nothing changed, nothing missing, nothing moved.

A chain cannot show that lines were cut off its end; for that, compare with a `Head` that was kept on
another machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from srm_dicom.audit import segments
from srm_dicom.audit.line import GENESIS, decode
from srm_dicom.audit.log import Head


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written; `line` counts from 1."""

    line: int
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


def verify(*files: Path, known: Head | None = None) -> list[Problem]:
    """Check one log.

    Args:
        files: its segments, the oldest first; lines are counted through all of them.
        known: an earlier `AuditLog.head`, kept elsewhere; it has to be in the chain.

    Raises:
        OSError: a file cannot be read.
    """
    return list(_problems(chain.from_iterable(map(segments.lines, files)), known))


def _problems(lines: Iterable[bytes], known: Head | None) -> Iterator[Problem]:
    number, seq, prev = 0, 0, GENESIS
    seen = known is None or known.seq == 0
    for number, raw in enumerate(lines, start=1):
        if not raw.endswith(b"\n"):
            yield Problem(number, "the line is torn")
            break
        try:
            line, digest = decode(raw[:-1])
        except ValueError as error:
            yield Problem(number, str(error))
            seq, prev = seq + 1, ""
            continue
        if line.seq != seq + 1:
            yield Problem(number, f"event {seq + 1} was expected, this is event {line.seq}")
        elif prev and line.prev != prev:
            yield Problem(number, "the line does not follow the one before it")
        seq, prev = line.seq, digest
        seen = seen or (known is not None and known == (seq, digest))
    if not seen and known is not None:
        yield Problem(number, f"event {known.seq}, known from elsewhere, is not in this log as it was")
