"""srmSetPermission: who may do what with a file or directory of one's own (SRM v2.2, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.acl import MAX_ENTRIES, Acl, Entry, Tag
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm import permissions
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import one_surl
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T, items


@requires(Right.FILE_ADMIN)
def run(request: Any, caller: Caller) -> Record:
    """Add, take away or set permissions; what the call does not name stays as it is.

    Raises:
        InvalidRequest: a user or group has no name or an impossible one, or there are too many.
        NotFound, NotAuthorised: see `broker.names`.
    """
    wanted = _entries(request)
    if len(wanted) > MAX_ENTRIES:
        raise InvalidRequest(f"a call sets at most {MAX_ENTRIES} permissions")
    caller.broker.names.change_acl(
        caller.principal,
        one_surl(caller, request.SURL),
        lambda acl: _changed(acl, request.permissionType, wanted),
        "srmSetPermission",
    )
    response: Record = T.srmSetPermissionResponse(returnStatus=success())
    return response


def _entries(request: Any) -> list[tuple[Tag, str, frozenset[str]]]:
    users = [(Tag.USER, one.userID, one.mode) for one in items(request.arrayOfUserPermissions) if one]
    groups = [(Tag.GROUP, one.groupID, one.mode) for one in items(request.arrayOfGroupPermissions) if one]
    if any(not who for _, who, _ in (*users, *groups)):
        raise InvalidRequest("a user or a group has no name")
    classes = [(Tag.USER, "", request.ownerPermission), (Tag.OTHER, "", request.otherPermission)]
    return [
        (tag, who, permissions.letters(mode))
        for tag, who, mode in (*classes, *users, *groups)
        if mode is not None
    ]


def _changed(acl: Acl, how: str, wanted: Sequence[tuple[Tag, str, frozenset[str]]]) -> Acl:
    """Return an ACL with permissions added, taken away or set, one after the other."""
    there = {(entry.tag, entry.qualifier): entry.permissions for entry in reversed(acl.access())}
    for tag, who, letters in wanted:
        held = there.get((tag, who), frozenset())
        there[tag, who] = letters if how == "CHANGE" else held | letters if how == "ADD" else held - letters
    changes = dict.fromkeys((tag, who) for tag, who, _ in wanted)
    return acl.changed(Acl(tuple(Entry(tag, who, there[tag, who]) for tag, who in changes)))
