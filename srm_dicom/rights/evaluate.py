"""The one evaluator: an ACL, a caller and a permission give a `Decision` that names its rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from srm_dicom.identity.principal import BREAK_GLASS, Principal
from srm_dicom.rights.acl import Acl, Rule

EMERGENCY = frozenset("rgn")
"""What breaking the glass lets do: read files, fetch keys, see attributes, nominative ones too. It never
changes, administers or grants anything, and what has ended stays closed."""

OUT_OF_SCOPE = "the scope of the caller's token does not cover this"


class Decision(NamedTuple):
    """`rule` is the text of the entry that decided, or why none did."""

    allowed: bool
    rule: str


def decide(
    acl: Acl,
    owner: str,
    principal: Principal,
    permission: str,
    path: str | None = None,
    scope: str | None = None,
) -> Decision:
    """Decide as POSIX.1e draft 17 does: owner, named user, all groups together, everybody else.

    Before that, the scopes of a token are held: they narrow what the ACL grants, and leave nothing of
    what has no path. After it, and only where the ACL says no, counts the role for emergencies.

    Args:
        acl: the object's ACL; its default entries do not count.
        owner: DN of the object's owner; empty when the service owns it.
        principal: the verified caller.
        permission: one letter of `acl.PERMISSIONS`.
        path: normalised name of a file or directory of the storage; None for keys, metadata and ACLs.
        scope: the permission that a token has to leave (`identity.scopes`), where ACLs know no such one.
    """
    if principal.scopes is not None and not principal.in_scope(scope or permission, path):
        return Decision(allowed=False, rule=OUT_OF_SCOPE)
    decision = _by_acl(acl, owner, principal, permission)
    if principal.emergency and not decision.allowed and permission in EMERGENCY:
        return Decision(allowed=True, rule=BREAK_GLASS)
    return decision


def _by_acl(acl: Acl, owner: str, principal: Principal, permission: str) -> Decision:
    index = acl.index
    if owner and principal.dn == owner:
        return _single(index.owner, permission)
    matching = index.users.get(principal.dn)
    if matching is None:
        groups = index.groups
        matching = [rule for fqan in principal.fqans if fqan in groups for rule in groups[fqan]]
    if matching:
        return _masked(index.mask, matching, permission)
    return _single(index.other, permission)


def _single(rule: Rule | None, permission: str) -> Decision:
    if rule is None:
        return Decision(allowed=False, rule="no entry speaks of this caller")
    return Decision(permission in rule.permissions, rule.text)


def _masked(mask: Rule | None, matching: Sequence[Rule], permission: str) -> Decision:
    granting = next((rule for rule in matching if permission in rule.permissions), None)
    if granting is None:
        return Decision(allowed=False, rule=matching[0].text)
    if mask is not None and permission not in mask.permissions:
        return Decision(allowed=False, rule=mask.text)
    return Decision(allowed=True, rule=granting.text)
