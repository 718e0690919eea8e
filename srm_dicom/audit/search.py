"""Who got data of this pseudonym, when, by which rule: one walk over every log of some directories.

A name is a pseudonym (any part of a path), a path (with everything below it), a GUID, a key id or a
token. Other names of the same files, which key servers write down, are given by the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from srm_dicom.audit import segments
from srm_dicom.audit.event import Action, Outcome
from srm_dicom.audit.line import Line, decode

RELEASES = frozenset({Action.BYTES_RELEASED, Action.KEY_RELEASED})


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that speaks of what is sought, and which of its objects do."""

    line: Line
    objects: tuple[str, ...]

    @property
    def is_release(self) -> bool:
        """Tell whether data or keys were handed out."""
        return self.line.event.action in RELEASES and self.line.event.outcome is Outcome.ALLOWED


@dataclass(frozen=True, slots=True)
class Damaged:
    """A line that is not as it was written: what it said is unknown."""

    path: Path
    number: int


def search(directories: Iterable[Path], names: Collection[str]) -> Iterator[Hit | Damaged]:
    """Yield every line that speaks of one of the names, log by log.

    Raises:
        OSError: a log cannot be read.
    """
    exact = frozenset(names)
    above = tuple(f"{name}/" for name in exact if name.startswith("/"))
    for path in chain.from_iterable(segments.logs(directories).values()):
        for number, raw in enumerate(segments.lines(path), start=1):
            try:
                line, _ = decode(raw.rstrip(b"\n"))
            except ValueError:
                yield Damaged(path, number)
                continue
            objects = tuple(one for one in line.event.objects if _named(one, exact, above))
            if objects:
                yield Hit(line, objects)


def _named(one: str, exact: frozenset[str], above: tuple[str, ...]) -> bool:
    return one in exact or one.startswith(above) or not exact.isdisjoint(one.split("/"))
