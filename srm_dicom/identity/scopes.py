"""Scopes of WLCG tokens: they narrow what the ACLs grant to a user, and grant nothing themselves.

``storage.read:/cohort`` leaves its user what is granted below ``/cohort``, by whole path components:
``/cohort2`` is not below it. On the way there directories may be passed. What each scope leaves is the
profile's word (WLCG Common JWT Profiles 1.3, 2.2.1): permissions of file ACLs, and finer ones that those do
not know; no scope leaves any right over keys, metadata or ACLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srm_dicom.errors import InvalidRequest, NotAuthorised
from srm_dicom.ids import parse_path

READ, WRITE, PASS = "r", "w", "x"
"""Permissions of ACLs; of a scope, `WRITE` is to make names that are not there."""

SEE = "see"
"""To see name, size, checksum and whether it is online; of an ACL, who may read may see."""
REPLACE = "replace"
"""To remove a name, to put another file in its place, and to move a directory: `w` of an ACL."""
LEAD = "lead"
"""To make a directory: one that is covered, or one that leads there; `w` of an ACL."""
STAGE = "stage"
"""To have a file brought from its source, and to let go of it; of an ACL, who may read may stage."""
POLL = "poll"
"""To ask whether a file is online, or how far its staging is."""

_STAT = frozenset({PASS, SEE, POLL})
_CREATE = _STAT | {WRITE, LEAD}
_PERMISSIONS = {
    "storage.read": _STAT | {READ},
    "storage.stage": _STAT | {STAGE},
    "storage.create": _CREATE,
    "storage.modify": _CREATE | {REPLACE},
    "storage.poll": frozenset({POLL}),
}
_ON_THE_WAY = frozenset({PASS, LEAD})


@dataclass(frozen=True, slots=True)
class Scope:
    """Permissions on a directory or file and everything below it.

    Attributes:
        directory: the path is a directory's, and no file may be made in its place.
    """

    permissions: frozenset[str]
    path: str
    directory: bool = False

    def covers(self, permission: str, path: str) -> bool:
        """Say whether this scope leaves a permission on a normalised path."""
        if permission not in self.permissions:
            return False
        if path == self.path:
            return not (self.directory and permission == WRITE)
        return _is_below(path, self.path) or (permission in _ON_THE_WAY and _is_below(self.path, path))


def refusal(permission: str) -> NotAuthorised:
    """Return what a caller hears whose token does not leave a permission, whether or not a name is there."""
    wanted = [word for word, left in _PERMISSIONS.items() if permission in left and permission != SEE]
    advice = f"Ask for the scope {' or '.join(wanted)} on it." if wanted else ""
    return NotAuthorised("the scope of the token does not cover this", advice=advice)


def within(scopes: Sequence[Scope], permission: str, path: str | None) -> bool:
    """Say whether any of the scopes leaves a permission; what has no path is left to nobody."""
    return path is not None and any(scope.covers(permission, path) for scope in scopes)


def parse(text: str, base: str) -> tuple[Scope, ...]:
    """Read the ``scope`` claim of a token; words that are no storage scope, or a bad one, leave nothing.

    Args:
        text: words between spaces.
        base: the directory that ``/`` means in tokens of this issuer.

    Raises:
        InvalidRequest: a storage scope has no path; such a token is no good one, by the profile.
    """
    scopes = []
    for word in text.split():
        kind, _, path = word.partition(":")
        permissions = _PERMISSIONS.get(kind)
        if permissions is not None and not path:
            raise InvalidRequest("a storage scope has no path")
        if permissions is not None and _is_plain(path):
            scopes.append(Scope(permissions, parse_path(f"{base}/{path}"), path.endswith("/")))
    return tuple(scopes)


def _is_plain(path: str) -> bool:
    """Refuse what could leave `base` or be read in two ways."""
    try:
        parse_path(path)
    except InvalidRequest:
        return False
    return path.startswith("/") and not any(part in (".", "..") for part in path.split("/"))


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")
