"""The one evaluator: an ACL, a caller and a permission give a `Decision` that names its rule."""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl, Entry, Tag


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` is the text of the entry that decided, or why none did."""

    allowed: bool
    rule: str


def decide(acl: Acl, owner: str, principal: Principal, permission: str, path: str | None = None) -> Decision:
    """Decide as POSIX.1e draft 17 does: owner, named user, all groups together, everybody else.

    Before that, the scopes of a token are held: they narrow what the ACL grants, and leave nothing of
    what has no path.

    Args:
        acl: the object's ACL; its default entries do not count.
        owner: DN of the object's owner; empty when the service owns it.
        principal: the verified caller.
        permission: one letter of `acl.PERMISSIONS`.
        path: normalised name of a file or directory of the storage; None for keys, metadata and ACLs.
    """
    if not principal.in_scope(permission, path):
        return Decision(allowed=False, rule="the scope of the caller's token does not cover this")
    entries = acl.access()
    if owner and principal.dn == owner:
        return _first(entries, Tag.USER, "", permission)
    named = [entry for entry in entries if entry.tag is Tag.USER and entry.qualifier == principal.dn]
    if named:
        return _masked(entries, named, permission)
    groups = [entry for entry in entries if entry.tag is Tag.GROUP and entry.qualifier in principal.fqans]
    if groups:
        return _masked(entries, groups, permission)
    return _first(entries, Tag.OTHER, "", permission)


def _first(entries: tuple[Entry, ...], tag: Tag, qualifier: str, permission: str) -> Decision:
    for entry in entries:
        if entry.tag is tag and entry.qualifier == qualifier:
            return Decision(permission in entry.permissions, str(entry))
    return Decision(allowed=False, rule="no entry speaks of this caller")


def _masked(entries: tuple[Entry, ...], matching: list[Entry], permission: str) -> Decision:
    granting = [entry for entry in matching if permission in entry.permissions]
    if not granting:
        return Decision(allowed=False, rule=str(matching[0]))
    mask = next((entry for entry in entries if entry.tag is Tag.MASK), None)
    if mask is not None and permission not in mask.permissions:
        return Decision(allowed=False, rule=str(mask))
    return Decision(allowed=True, rule=str(granting[0]))
