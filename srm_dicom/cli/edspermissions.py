"""Permissions of keys in the words of ``glite-eds-getacl``, ``-setacl`` and ``-chmod``. Pure.

Letters are ``pdrwlxgs``, written in that order with a dash for each that is missing; an entry is
``principal:letters``, a principal a DN or an FQAN; a change of mode is ``[ugoa]*(+|-|=)letters``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.hydra.contract import LETTERS, ACLEntry, Perm, Permission

NOTHING = "NONE"
"""Stands for a list without entries."""

_MODE = re.compile(r"([ugoa]*)([+=-])([pdrwlxgs-]*)\Z")
_FIELDS = {"u": "user_perm", "g": "group_perm", "o": "other_perm"}


def shown(perm: Perm) -> str:
    """Return the eight characters of permissions."""
    return "".join(letter if letter in perm.letters else "-" for letter in LETTERS)


def listing(permission: Permission) -> list[str]:
    """Return the lines that ``glite-eds-getacl`` prints; names are what a key server says that they are."""
    base = ", ".join(
        f"{who} {shown(perm)}"
        for who, perm in (
            ("user", permission.user_perm),
            ("group", permission.group_perm),
            ("other", permission.other_perm),
        )
    )
    entries = [f"{entry.principal}:{shown(entry.principal_perm)}" for entry in permission.acl]
    lines = [
        f"# User: {permission.user_name}",
        f"# Group: {permission.group_name}",
        f"# Base perms: {base}",
        *entries,
    ]
    return ["".join(one if one.isprintable() else "?" for one in line) for line in lines]


# --- changes of an ACL ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of the named entries of a key.

    Attributes:
        removed: principals, or entries of them; one that has no entry changes nothing.
        added: entries, each in the place of one of its principal.
        exact: all that there shall be; None leaves what is there.
    """

    removed: tuple[str, ...] = ()
    added: tuple[ACLEntry, ...] = ()
    exact: tuple[ACLEntry, ...] | None = None

    @classmethod
    def read(
        cls, removed: Sequence[str] = (), added: Sequence[str] = (), exact: Sequence[str] = ()
    ) -> Changes:
        """Read the entries.

        Raises:
            InvalidRequest: one is none, a principal stands there twice, or ``NONE`` beside others.
        """
        alone = list(exact) == [NOTHING]
        if not alone and NOTHING in exact:
            raise InvalidRequest(f"{NOTHING} stands alone")
        entries = tuple(map(_entry, added)), tuple(map(_entry, () if alone else exact))
        _each_once([*(entry.principal for entry in (*entries[0], *entries[1])), *map(_principal, removed)])
        return cls(tuple(removed), entries[0], entries[1] if exact else None)

    def applied(self, permission: Permission) -> Permission:
        """Return permissions as they are then."""
        kept = permission.acl if self.exact is None else self.exact
        known = {entry.principal for entry in kept}
        gone = {text if text in known else _principal(text) for text in self.removed}
        after = {entry.principal: entry for entry in (*kept, *self.added) if entry.principal not in gone}
        return replace(permission, acl=tuple(after.values()))


def lines_of(file: Iterable[str]) -> Iterator[str]:
    """Yield the entries of a file, one a line: up to the first empty line, without comments."""
    for line in file:
        text = line.strip()
        if not text:
            return
        if not text.startswith("#"):
            yield text


def _entry(text: str) -> ACLEntry:
    principal, colon, letters = text.rpartition(":")
    if not colon:
        raise InvalidRequest(f"Missing permissions in {text}: an entry reads principal:{LETTERS}")
    if not set(letters) <= {*LETTERS, "-"}:
        raise InvalidRequest(f"Illegal permissions in {text}: they are letters of {LETTERS}")
    if not principal or not principal.isprintable():
        raise InvalidRequest("an entry without a principal")
    return ACLEntry(Perm.of(letters.replace("-", "")), principal)


def _principal(text: str) -> str:
    """Return whom a text speaks of that may be a principal or an entry."""
    principal, colon, letters = text.rpartition(":")
    return principal if colon and set(letters) <= {*LETTERS, "-"} else text


def _each_once(principals: Sequence[str]) -> None:
    if len(set(principals)) < len(principals):
        raise InvalidRequest("a principal is listed twice")


# --- changes of mode -----------------------------------------------------------------------------


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
