"""Permissions of keys in the words of ``glite-eds-getacl``, ``-setacl`` and ``-chmod``. Pure.

Letters are ``pdrwlxgs``, written in that order with a dash for each that is missing; an entry is
``principal:letters``, a principal a DN or an FQAN; a change of mode is ``[ugoa]*(+|-|=)letters``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.hydra.contract import LETTERS, ACLEntry, Perm, Permission

_MODE = re.compile(r"([ugoa]*)([+=-])([pdrwlxgs]*)\Z")
_FIELDS = {"u": "user_perm", "g": "group_perm", "o": "other_perm"}


def shown(perm: Perm) -> str:
    """Return the eight characters of permissions."""
    return "".join(letter if letter in perm.letters else "-" for letter in LETTERS)


def listing(permission: Permission) -> list[str]:
    """Return the lines that ``glite-eds-getacl`` prints."""
    base = ", ".join(
        f"{who} {shown(perm)}"
        for who, perm in (
            ("user", permission.user_perm),
            ("group", permission.group_perm),
            ("other", permission.other_perm),
        )
    )
    entries = [f"{entry.principal}:{shown(entry.principal_perm)}" for entry in permission.acl]
    return [
        f"# User: {permission.user_name}",
        f"# Group: {permission.group_name}",
        f"# Base perms: {base}",
        *entries,
    ]


def read_entries(lines: Iterable[str]) -> tuple[ACLEntry, ...]:
    """Read entries, one a line or separated by commas before a slash; comments and empty lines are skipped.

    Raises:
        InvalidRequest: a line is none.
    """
    texts = (part.strip() for line in lines for part in re.split(r",(?=\s*/)", line.partition("#")[0]))
    return tuple(_entry(text) for text in texts if text)


def _entry(text: str) -> ACLEntry:
    principal, colon, letters = text.rpartition(":")
    if not colon or not principal.startswith("/") or not set(letters) <= {*LETTERS, "-"}:
        raise InvalidRequest(f"an entry reads principal:{LETTERS}, a principal begins with /")
    return ACLEntry(Perm.of(letters.replace("-", "")), principal)


def merged(permission: Permission, entries: Iterable[ACLEntry]) -> Permission:
    """Return permissions with entries added, each in the place of one of its principal."""
    changed = {entry.principal: entry for entry in (*permission.acl, *entries)}
    return replace(permission, acl=tuple(changed.values()))


def without(permission: Permission, principals: Iterable[str]) -> Permission:
    """Return permissions without the entries of principals.

    Raises:
        InvalidRequest: one of them has none.
    """
    gone = {principal.partition(":")[0] if "=" not in principal else principal for principal in principals}
    if not gone <= {entry.principal for entry in permission.acl}:
        raise InvalidRequest("the ACL has no entry of this principal")
    return replace(permission, acl=tuple(entry for entry in permission.acl if entry.principal not in gone))


def changed_mode(permission: Permission, text: str) -> Permission:
    """Return permissions after a comma list of changes, such as ``u+g,o=-`` or ``g+gx``.

    Raises:
        InvalidRequest: it is none.
    """
    for change in text.split(","):
        match = _MODE.match(change)
        if match is None:
            raise InvalidRequest("a change of mode is [ugoa]*(+|-|=)[pdrwlxgs]+, several with commas between")
        whom, sign, letters = match.groups()
        for who in "ugo" if not whom or "a" in whom else whom:
            perms = {name: getattr(permission, name) for name in _FIELDS.values()}
            before = perms[_FIELDS[who]].letters
            after = {"+": before | set(letters), "-": before - set(letters), "=": frozenset(letters)}[sign]
            perms[_FIELDS[who]] = Perm.of(after)
            permission = replace(permission, **perms)
    return permission
