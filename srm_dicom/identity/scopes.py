"""Scopes of WLCG tokens: they narrow what the ACLs grant to a user, and grant nothing themselves.

``storage.read:/cohort`` leaves its user what is granted below ``/cohort``, by whole path components:
``/cohort2`` is not below it. On the way there directories may be passed. The permissions are those of
file ACLs; no scope leaves any right over keys, metadata or ACLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import parse_path

STAGE = "stage"
"""The permission to have a file brought from its source. ACLs do not know it: whoever may read may stage,
unless a token is for reading alone."""

_PERMISSIONS = {
    "storage.read": frozenset("rx"),
    "storage.stage": frozenset({"r", "x", STAGE}),
    "storage.create": frozenset("wx"),
    "storage.modify": frozenset("wx"),
}
_TRAVERSE = "x"


@dataclass(frozen=True, slots=True)
class Scope:
    """Permissions on a directory or file and everything below it."""

    permissions: frozenset[str]
    path: str

    def covers(self, permission: str, path: str) -> bool:
        """Say whether this scope leaves a permission on a normalised path."""
        if _is_below(path, self.path):
            return permission in self.permissions
        return permission == _TRAVERSE and _is_below(self.path, path)


def within(scopes: Sequence[Scope], permission: str, path: str | None) -> bool:
    """Say whether any of the scopes leaves a permission; what has no path is left to nobody."""
    return path is not None and any(scope.covers(permission, path) for scope in scopes)


def parse(text: str, base: str) -> tuple[Scope, ...]:
    """Read the ``scope`` claim of a token; words that are no storage scope, or a bad one, leave nothing.

    Args:
        text: words between spaces.
        base: the directory that ``/`` means in tokens of this issuer.
    """
    scopes = []
    for word in text.split():
        kind, colon, path = word.partition(":")
        permissions = _PERMISSIONS.get(kind)
        if permissions is not None and colon and _is_plain(path):
            scopes.append(Scope(permissions, parse_path(f"{base}/{path}")))
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
