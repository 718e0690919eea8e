"""The admission list: who may enter at all, asked after the ban list and before any ACL.

It is a grid-mapfile, so that a site can go on using the one it has::

    "/DC=org/DC=example/CN=Alice Example" alice
    "/DC=org/DC=example/OU=radiology/*" .pool
    "/biomed/Role=physician"
    "token:https://issuer.example.org/#6f1c2" alice

Who has a name in it, or a VOMS group, may enter. The accounts of the second column mean nothing here:
callers are names, and what they may do is said by the ACLs. Without a list everybody whose credential is
good may enter, and the ACLs grant nothing that they do not say. Other servers of the site call with
their host certificates: a list must name those too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity.listed import Listed, WatchedList

_LINE = re.compile(
    r"""(?:"(?P<quoted>(?:[^"\\]|\\.)+)"|(?P<bare>[^"\s]\S*))
        (?:\s+(?P<accounts>[A-Za-z0-9_.-]+(?:\s*,\s*[A-Za-z0-9_.-]+)*))?
        \s*(?:\#.*)?\Z""",
    re.VERBOSE,
)


def parse_line(line: str) -> Listed:
    """Read one line of a grid-mapfile.

    Raises:
        InvalidRequest: not ``"name" account,account``.
    """
    match = _LINE.match(line)
    if match is None:
        raise InvalidRequest('a line of a grid-mapfile reads "name" [account[,account]]')
    return Listed.parse(match["quoted"] or match["bare"])


class AdmissionList:
    """The list of one file; where none is configured, everybody is admitted."""

    def __init__(self, path: Path | None) -> None:
        self._list = WatchedList(path, "admission list", parse_line) if path else None

    def check(self, name: str, fqans: Iterable[str] = ()) -> None:
        """Refuse a caller whom no line admits.

        Raises:
            NotAuthenticated: not admitted, or the list cannot be read.
        """
        if self._list is None:
            return
        names = (name, *fqans)
        if not any(listed.covers(candidate) for listed in self._list.current() for candidate in names):
            raise NotAuthenticated(
                f"{name}: not on this site's admission list", advice="Ask the site's administrator."
            )
