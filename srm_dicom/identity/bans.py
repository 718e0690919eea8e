"""The ban list: who may not enter although the credential is good.

A text file, one quoted name a line, ``#`` for comments::

    "/DC=org/DC=example/CN=Mallory"
    "/DC=org/DC=example/OU=closed/*"
    "/biomed/intruders/Role=any"
    "token:https://issuer.example.org/#6f1c2"
    authority "/DC=org/DC=broken/CN=CA"

After the word ``authority`` comes the name of an authority: nobody whom it certified, directly or not,
may enter. `srm_dicom.identity.listed` tells how names are written and how the file is watched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity.listed import Listed, WatchedList, parse_lines

_LINE = re.compile(r'(?P<authority>authority\s+)?"(?P<name>[^"]+)"\Z')


@dataclass(frozen=True, slots=True)
class Ban:
    """One line of the list."""

    who: Listed
    authority: bool = False

    def covers(self, name: str) -> bool:
        """Say whether the ban is about this name."""
        return self.who.covers(name)

    def __str__(self) -> str:
        return f"authority {self.who}" if self.authority else str(self.who)


def parse_line(line: str) -> Ban:
    """Read one line that is neither empty nor a comment.

    Raises:
        InvalidRequest: it does not name anybody.
    """
    match = _LINE.match(line.strip())
    if match is None:
        raise InvalidRequest('a ban reads [authority] "name"')
    who = Listed.parse(match["name"])
    if match["authority"] and (who.is_group or not who.name.startswith("/")):
        raise InvalidRequest("an authority is named by its DN")
    return Ban(who, match["authority"] is not None)


def parse(text: str) -> tuple[Ban, ...]:
    """Read a whole list.

    Raises:
        InvalidRequest: with the number of the first line that is not understood.
    """
    return parse_lines(text, parse_line)


class BanList:
    """The list of one file, or an empty list where no file is configured."""

    def __init__(self, path: Path | None) -> None:
        self._list = WatchedList(path, "ban list", parse_line) if path else None

    def check(self, name: str, fqans: Iterable[str] = (), authorities: Iterable[str] = ()) -> None:
        """Refuse a caller of whom any name is banned.

        Raises:
            NotAuthenticated: naming what is banned, or that the list cannot be read.
        """
        if self._list is None:
            return
        personal, above = (name, *fqans), tuple(authorities)
        for ban in self._list.current():
            if any(ban.covers(candidate) for candidate in (above if ban.authority else personal)):
                raise NotAuthenticated(
                    f"{name}: banned here by {ban}", advice="Ask the site's administrator."
                )
