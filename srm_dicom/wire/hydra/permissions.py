"""Hydra's ``Permission`` and the ACL grammar of this house.

Hydra's ``Perm`` has eight truths, written ``pdrwlxgs``; a `Permission` is owner, group and everybody
else, and named principals after them.
"""

from __future__ import annotations

from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.acl import Acl, Entry, Tag
from srm_dicom.wire.hydra.contract import ACLEntry, Perm, Permission


def acl_of(permission: Permission) -> Acl:
    """Return a permission as ACL; the base permissions are its entries without a name.

    A principal that looks like a DN (its first component has a ``=``) is a user, another is a group.
    """
    base = (
        Entry(Tag.USER, "", permission.user_perm.letters),
        Entry(Tag.GROUP, "", permission.group_perm.letters),
        Entry(Tag.OTHER, "", permission.other_perm.letters),
    )
    named = (
        Entry(_tag(entry.principal), entry.principal, entry.principal_perm.letters)
        for entry in permission.acl
    )
    return Acl((*base, *named))


def permission_of(acl: Acl, owner: str = "", group: str = "") -> Permission:
    """Return an ACL as permission.

    Raises:
        InvalidRequest: the ACL has a mask, which keys do not know.
    """
    if any(entry.tag is Tag.MASK for entry in acl.access()):
        raise InvalidRequest("the ACL of a key has no mask")
    base = {entry.tag: Perm.of(entry.permissions) for entry in acl.access() if not entry.qualifier}
    named = tuple(
        ACLEntry(Perm.of(entry.permissions), entry.qualifier) for entry in acl.access() if entry.qualifier
    )
    nothing = Perm()
    return Permission(
        owner,
        group,
        base.get(Tag.USER, nothing),
        base.get(Tag.GROUP, nothing),
        base.get(Tag.OTHER, nothing),
        named,
    )


def _tag(principal: str) -> Tag:
    return Tag.USER if "=" in principal.lstrip("/").partition("/")[0] else Tag.GROUP
