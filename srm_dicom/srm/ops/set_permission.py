"""srmSetPermission: who may do what with a file or directory of one's own (SRM v2.2, 3.1)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.acl import Acl, Tag
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
        InvalidRequest: a user or group has no name.
        NotFound, NotAuthorised: see `broker.names`.
    """
    wanted = list(_entries(request))

    def changed(acl: Acl) -> Acl:
        for tag, who, letters in wanted:
            acl = _change(acl, request.permissionType, tag, who, letters)
        return acl

    caller.broker.names.change_acl(caller.principal, one_surl(request.SURL), changed, "srmSetPermission")
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


def _change(acl: Acl, how: str, tag: Tag, who: str, letters: frozenset[str]) -> Acl:
    if how == "CHANGE":
        return acl.granting(tag, who, letters)
    found = (entry.permissions for entry in acl.access() if (entry.tag, entry.qualifier) == (tag, who))
    there: frozenset[str] = next(found, frozenset())
    return acl.granting(tag, who, there | letters if how == "ADD" else there - letters)
