"""Files as facts: MLST and MLSD (RFC 3659, 7), LIST, SIZE and MDTM.

Times are the only ones that may be shown (`shown_at`), owners are constants: a fact never tells more
than the namespace may.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from srm_dicom.errors import InvalidRequest, IsADirectory
from srm_dicom.ids import SitePath, name
from srm_dicom.wire.gridftp.replies import Reply

OWNER = "mdm"


class Described(Protocol):
    """What a listing needs of a name."""

    @property
    def path(self) -> str:
        """The normalised absolute path."""

    @property
    def is_directory(self) -> bool:
        """A directory, or a file."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the bytes that would be served; None while nobody knows it."""

    @property
    def shown_at(self) -> datetime:
        """The one time that may be shown outside."""

    @property
    def writable(self) -> bool:
        """Whether the caller may replace the file, or change the names in the directory."""

    @property
    def removable(self) -> bool:
        """Whether the caller may remove or rename it."""


@lru_cache(maxsize=256)
def timestamp(moment: datetime) -> str:
    """Write a time as ``YYYYMMDDHHMMSS`` in UTC (RFC 3659, 2.3); few different ones may be shown."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def permissions(file: Described) -> str:
    """Write what the caller may do as the fact Perm does (RFC 3659, 7.5.5).

    Whoever is shown a file may retrieve it, and a directory, list it; nothing can be appended to what is
    finished.
    """
    letters = "el" if file.is_directory else "r"
    if file.writable:
        letters += "cmp" if file.is_directory else "w"
    if file.removable:
        letters += "df"
    return "".join(sorted(letters))


def mode(file: Described) -> int:
    """Return the caller's own rights as the bits of a UNIX mode."""
    return (0o555 if file.is_directory else 0o444) | (0o200 if file.writable else 0)


_FACTS: Mapping[str, Callable[[Described], str | None]] = {
    "Type": lambda file: "dir" if file.is_directory else "file",
    "Modify": lambda file: timestamp(file.shown_at),
    "Size": lambda file: "0" if file.is_directory else _text(file.size_bytes),
    "Perm": permissions,
    "UNIX.mode": lambda file: f"{mode(file):04o}",
    "UNIX.owner": lambda _: OWNER,
    "UNIX.uid": lambda _: "0",
    "UNIX.group": lambda _: OWNER,
    "UNIX.gid": lambda _: "0",
}
ALL_FACTS = tuple(_FACTS)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def parse_timestamp(text: str) -> datetime:
    """Read ``YYYYMMDDHHMMSS``, fractions dropped.

    Raises:
        InvalidRequest: not a time.
    """
    try:
        return datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidRequest("the server's reply holds no time") from error


def choose(names: str) -> tuple[str, ...]:
    """Read the argument of OPTS MLST: the facts that the client wants, unknown ones left out."""
    wanted = {fact.strip().lower() for fact in names.split(";")}
    return tuple(fact for fact in ALL_FACTS if fact.lower() in wanted)


def feature(chosen: Iterable[str]) -> str:
    """Write the FEAT line: every fact, a star after those that are sent."""
    sent = frozenset(chosen)
    return "MLST " + "".join(f"{fact}{'*' if fact in sent else ''};" for fact in ALL_FACTS)


def fact_line(file: Described, chosen: Iterable[str], shown_name: str, kind: str | None = None) -> str:
    """Write ``fact=value;... name``; facts that nobody knows are left out, `kind` replaces the type."""
    values = ((fact, _FACTS[fact](file)) for fact in chosen)
    facts = "".join(
        f"{fact}={kind if kind and fact == 'Type' else value};" for fact, value in values if value is not None
    )
    return f"{facts} {shown_name}"


def list_line(file: Described) -> str:
    """Write one line in the manner of ``ls -l``, which is what programs read out of LIST."""
    bits = stat.filemode(mode(file) | (stat.S_IFDIR if file.is_directory else stat.S_IFREG))
    when = file.shown_at.astimezone(UTC).strftime("%b %d  %Y")
    return f"{bits}   1 {OWNER} {OWNER} {file.size_bytes or 0:>14} {when} {name(SitePath(file.path))}"


def mlst_reply(file: Described, chosen: Iterable[str]) -> Reply:
    """Answer MLST."""
    return Reply.of(250, f"status of {file.path}", fact_line(file, chosen, file.path), "End.")


def size_reply(file: Described) -> Reply:
    """Answer SIZE (RFC 3659, 4).

    Raises:
        IsADirectory: directories have no size.
    """
    if file.is_directory:
        raise IsADirectory("a directory has no size")
    if file.size_bytes is None:
        return Reply.of(
            550, "The size is not known before the file has been staged once: ask for it through SRM."
        )
    return Reply.of(213, str(file.size_bytes))


def mdtm_reply(file: Described) -> Reply:
    """Answer MDTM (RFC 3659, 3)."""
    return Reply.of(213, timestamp(file.shown_at))


def parse_facts(line: str) -> tuple[dict[str, str], str]:
    """Read ``fact=value;... name``; fact names in lower case.

    Raises:
        InvalidRequest: not that form.
    """
    facts, separator, shown_name = line.strip().partition(" ")
    if not separator and not facts.endswith(";"):
        raise InvalidRequest("the server's listing cannot be read")
    pairs = (fact.partition("=") for fact in facts.split(";") if fact)
    return {key.lower(): value for key, _, value in pairs}, shown_name
