"""Names in lists that an administrator edits while the service runs: the ban list, the admission list.

A name is a DN, a VOMS group (FQAN), or a token's ``token:<issuer>#<subject>``; a trailing ``/*`` stands for
everything below, and in the case of a group for the group itself. A list is looked at again whenever it
is asked; one that is configured and cannot be read lets nobody in, for a typing error must not undo a ban.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn

T = TypeVar("T")

FQAN = re.compile(r"(/[A-Za-z0-9_.-]+)+(/Role=[A-Za-z0-9_.-]+)?\Z")
_NULLS = re.compile(r"(/Role=NULL)?(/Capability=NULL)?\Z")
"""What voms-proxy-info shows where there is no role; a `Principal` has groups without it."""
TOKEN = "token:"  # noqa: S105 the beginning of a name
_BELOW = "/*"


@dataclass(frozen=True, slots=True)
class Listed:
    """One name of a list."""

    name: str
    below: bool = False

    @classmethod
    def parse(cls, text: str) -> Listed:
        """Read a name as people write it.

        Raises:
            InvalidRequest: it names nobody.
        """
        below = text.endswith(_BELOW)
        name = text.removesuffix(_BELOW) if below else text
        group = _NULLS.sub("", name, count=1)
        if FQAN.match(group):
            return cls(group, below)
        return cls(name if name.startswith(TOKEN) else dn.normalise(name), below)

    @property
    def is_group(self) -> bool:
        """True for a VOMS group."""
        return FQAN.match(self.name) is not None

    def covers(self, name: str) -> bool:
        """Say whether a name is this one or, for a trailing ``/*``, below it."""
        if not self.below:
            return name == self.name
        return name.startswith(self.name + "/") or (self.is_group and name == self.name)

    def __str__(self) -> str:
        return f'"{self.name}{_BELOW if self.below else ""}"'


def parse_lines(text: str, parse_line: Callable[[str], T]) -> tuple[T, ...]:
    """Read a list, one entry a line, ``#`` for comments.

    Raises:
        InvalidRequest: with the number of the first line that is not understood.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            try:
                entries.append(parse_line(bare))
            except InvalidRequest as error:
                raise InvalidRequest(f"line {number}: {error.message}") from error
    return tuple(entries)


class WatchedList(Generic[T]):
    """The entries of one file, read again when the file has changed.

    Args:
        path: the file.
        what: its name in a message, e.g. ``ban list``.
        parse_line: reads one entry; raises `InvalidRequest`.
    """

    def __init__(self, path: Path, what: str, parse_line: Callable[[str], T]) -> None:
        self._path = path
        self._what = what
        self._parse_line = parse_line
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._entries: tuple[T, ...] = ()

    def current(self) -> tuple[T, ...]:
        """Return the entries of this moment.

        Raises:
            NotAuthenticated: the file cannot be read or understood.
        """
        with self._lock:
            try:
                status = self._path.stat()
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp != self._stamp:
                    self._entries = parse_lines(self._path.read_text("utf-8"), self._parse_line)
                    self._stamp = stamp
            except (OSError, UnicodeDecodeError, InvalidRequest) as error:
                self._stamp = None
                raise NotAuthenticated(
                    f"nobody is let in: the {self._what} {self._path} cannot be read: {error}",
                    advice="The site's administrator has to repair the list.",
                ) from error
            return self._entries
