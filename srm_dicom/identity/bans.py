"""The ban list: who may not enter although the credential is good.

A text file, one quoted name a line, ``#`` for comments::

    "/DC=org/DC=example/CN=Mallory"
    "/DC=org/DC=example/OU=closed/*"
    "/biomed/intruders/Role=any"
    authority "/DC=org/DC=broken/CN=CA"

A name is a DN, a VOMS attribute (FQAN) or, after the word ``authority``, the name of an authority; a
trailing ``/*`` stands for everything below. The file is looked at again at every login. A list that is
configured and cannot be read bans everybody: a typing error must not let a banned user in.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn

_LINE = re.compile(r'(?P<authority>authority\s+)?"(?P<name>[^"]+)"\Z')
_FQAN = re.compile(r"(/[A-Za-z0-9_.-]+)+(/Role=[A-Za-z0-9_.-]+)?\Z")
_BELOW = "/*"


@dataclass(frozen=True, slots=True)
class Ban:
    """One line of the list."""

    name: str
    authority: bool = False
    below: bool = False

    def covers(self, name: str) -> bool:
        """Say whether a name is this one or, for a trailing ``/*``, below it."""
        return name.startswith(self.name + "/") if self.below else name == self.name

    def __str__(self) -> str:
        word = "authority " if self.authority else ""
        return f'{word}"{self.name}{_BELOW if self.below else ""}"'


def parse_line(line: str) -> Ban:
    """Read one line that is neither empty nor a comment.

    Raises:
        InvalidRequest: it does not name anybody.
    """
    match = _LINE.match(line.strip())
    if match is None:
        raise InvalidRequest('a ban reads [authority] "name"')
    name, below = match["name"], match["name"].endswith(_BELOW)
    name = name.removesuffix(_BELOW) if below else name
    is_fqan = _FQAN.match(name) is not None
    if is_fqan and match["authority"]:
        raise InvalidRequest("an authority is named by its DN")
    return Ban(name if is_fqan else dn.normalise(name), match["authority"] is not None, below)


def parse(text: str) -> tuple[Ban, ...]:
    """Read a whole list.

    Raises:
        InvalidRequest: with the number of the first line that is not understood.
    """
    bans = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            try:
                bans.append(parse_line(bare))
            except InvalidRequest as error:
                raise InvalidRequest(f"line {number}: {error.message}") from error
    return tuple(bans)


class BanList:
    """The list of one file, or an empty list where no file is configured."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._bans: tuple[Ban, ...] = ()

    def check(self, name: str, fqans: Iterable[str] = (), authorities: Iterable[str] = ()) -> None:
        """Refuse a caller of whom any name is banned.

        Raises:
            NotAuthenticated: naming what is banned, or that the list cannot be read.
        """
        personal = (name, *fqans)
        above = tuple(authorities)
        for ban in self._current():
            if any(ban.covers(candidate) for candidate in (above if ban.authority else personal)):
                raise NotAuthenticated(
                    f"{name}: banned here by {ban}", advice="Ask the site's administrator."
                )

    def _current(self) -> tuple[Ban, ...]:
        if self._path is None:
            return ()
        with self._lock:
            try:
                status = self._path.stat()
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp != self._stamp:
                    self._bans = parse(self._path.read_text("utf-8"))
                    self._stamp = stamp
            except (OSError, UnicodeDecodeError, InvalidRequest) as error:
                self._stamp = None
                raise NotAuthenticated(
                    f"nobody is let in: the ban list {self._path} cannot be read: {error}",
                    advice="The site's administrator has to repair the list.",
                ) from error
            return self._bans
