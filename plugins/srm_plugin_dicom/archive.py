"""What the plugin needs of an archive, however it is spoken to: C-MOVE, C-GET or DICOMweb."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from srm_dicom.errors import Aborted
from srm_plugin_dicom.moves import NOTHING, ByWorkers, Deliver, NotHeld, still_wanted
from srm_plugin_dicom.selector import Level


@dataclass(frozen=True, slots=True)
class Wanted:
    """Images of one series.

    Attributes:
        first_s: how long the archive may take before it sends the first of them.
        is_wanted: whether anybody still waits for any.
        by_workers: what may be made of them where they arrive.
        not_held: hears of one that came and that there was no room for here.
    """

    study: str
    series: str
    instances: tuple[str, ...]
    first_s: float = inf
    is_wanted: Callable[[], bool] = lambda: True
    by_workers: ByWorkers = NOTHING
    not_held: NotHeld = still_wanted


def nobody_waits() -> Aborted:
    """Return the error of what was left because nobody waits for it any more."""
    return Aborted("nobody waits for these files any more")


def only(wanted: Sequence[Wanted], instances: Container[str]) -> list[Wanted]:
    """Return some of the images, and no series without one."""
    rest = [
        replace(each, instances=tuple(one for one in each.instances if one in instances)) for each in wanted
    ]
    return [each for each in rest if each.instances]


class Asking(Protocol):
    """An archive that is being asked."""

    def find(self, level: Level, keys: Mapping[str, str]) -> list[dict[str, str]]:
        """Return the answers to one question, each a mapping from keyword to text; not filtered."""
        ...


class Archive(Protocol):
    """One source.

    All methods raise `SourceUnavailable` when it does not answer and `SourceRefused` when it refuses.
    """

    @property
    def name(self) -> str:
        """The site's word for it."""
        ...

    def echo(self) -> None:
        """Ask whether it is there."""
        ...

    def session(self) -> AbstractContextManager[Asking]:
        """Open it for questions."""
        ...

    def fetch(self, wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        """Have images of one study sent, and return when no more will come; what came is what was delivered.

        Raises:
            NotDelivered: it was not over within `deadline_s` seconds from now.
            SourceSlow: nothing had come within `Wanted.first_s`, and the archive was told to leave it.
            Aborted: nobody waits any more, and the archive was told so.
        """
        ...

    def close(self) -> None:
        """Give back what is held for the next fetch."""
        ...
