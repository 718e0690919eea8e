"""What a command is, and the table of all of them.

A command declares the right that it checks; the check itself is made by `Access`, which is all that a
command gets to reach collections by. Commands that AMGA does not have are marked in `since`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mdm_metadata.access import Access, View
from mdm_metadata.schema import Attribute
from mdm_metadata.settings import MetadataSettings
from mdm_metadata.tree import Collections
from srm_dicom.clock import Clock
from srm_dicom.errors import InvalidRequest, MdmError
from srm_dicom.ids import SitePath, name, parent, parse_path
from srm_dicom.rights.declare import Declaration
from srm_dicom.wire import amga

ROOT = SitePath("/")
AMGA = "AMGA 1.2"
OWN = "srm-dicom 0.1, not in AMGA"


@dataclass
class Upload:
    """A bulk write between ``upload`` and ``commit``; the first failure is told by ``commit``."""

    view: View | None
    attributes: tuple[Attribute, ...]
    rows: list[tuple[object, ...]] = field(default_factory=list)
    failure: amga.Refused | MdmError | None = None


@dataclass
class Session:
    """One caller's conversation, and what commands may use.

    Attributes:
        access: of the command that is running.
        expires: end of the caller's credential, for the edge.
        directory: where ``cd`` has gone.
    """

    collections: Collections
    settings: MetadataSettings
    clock: Clock
    dn: str
    access: Access
    expires: datetime
    directory: SitePath = ROOT
    upload: Upload | None = None

    def path(self, text: str) -> SitePath:
        """Return the path that the caller means, from the root or from here.

        Raises:
            InvalidRequest: not acceptable as a path.
        """
        return parse_path(text if text.startswith("/") else f"{self.directory}/{text}")

    def entry(self, text: str) -> tuple[SitePath, str]:
        """Split the path of an entry into its collection and its name.

        Raises:
            InvalidRequest: not acceptable as a path.
        """
        path = self.path(text)
        return parent(path), name(path)

    def pattern(self, text: str) -> Pattern:
        """Read what ``rm``, ``find`` and their like take: a collection, an entry, or ``*`` and ``?``.

        Raises:
            InvalidRequest: not acceptable as a path.
        """
        directory, _, last = text.rpartition("/")
        if re.search(r"[*?]", last):
            if not re.fullmatch(r"[A-Za-z0-9._*?-]{1,255}", last):
                raise InvalidRequest("a pattern has the characters of a name, * and ?")
            above = f"{directory}/" if text.startswith("/") else directory or "."
            return Pattern(self.path(above), last, is_glob=True)
        path = self.path(text)
        if self.access.leads_somewhere(path):
            return Pattern(path, "*", is_glob=True)
        return Pattern(parent(path), name(path), is_glob=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Entries of one collection, chosen by name."""

    collection: SitePath
    text: str
    is_glob: bool

    def chooses(self, entry: str) -> bool:
        """Tell whether an entry is meant, case and all."""
        return fnmatch.fnmatchcase(entry, self.text) if self.is_glob else entry == self.text


Run = Callable[[Session, Sequence[str]], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    Attributes:
        right: what it checks.
        since: whose command it is.
        usage: for ``help`` and for a caller who got it wrong.
        least: arguments at least.
        most: arguments at most; None is any number.
        step: arguments beyond `least` come in groups of this many.
        silent: no reply is due (AMGA's bulk commands).
    """

    name: str
    right: Declaration
    since: str
    usage: str
    least: int
    most: int | None
    step: int
    silent: bool
    run: Run

    def accepts(self, count: int) -> bool:
        """Tell whether it can be called with so many arguments."""
        within = self.least <= count and (self.most is None or count <= self.most)
        return within and (count - self.least) % self.step == 0


COMMANDS: dict[str, Command] = {}


def command(
    usage: str,
    right: Declaration,
    *,
    since: str = AMGA,
    least: int = 0,
    most: int | None = None,
    step: int = 1,
    silent: bool = False,
) -> Callable[[Run], Run]:
    """Put a function into the table; the first word of `usage` is the command's name."""

    def register(run: Run) -> Run:
        verb = usage.partition(" ")[0]
        COMMANDS[verb] = Command(verb, right, since, usage, least, most, step, silent, run)
        return run

    return register
