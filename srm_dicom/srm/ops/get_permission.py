"""srmGetPermission: owner, group and others of each SURL, naming nobody but the caller (SRM v2.2, 3.3)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import Listing
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm import permissions
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import needed_surls
from srm_dicom.srm.status import of_error, of_many, success
from srm_dicom.srm.types import Record, T, array


@requires(Right.FILE_LIST)
def run(request: Any, caller: Caller) -> Record:
    """Answer what srmLs shows as permissions; an ACL's other entries stay unsaid.

    Raises:
        InvalidRequest: no SURL is given.
    """
    surls = needed_surls(request.arrayOfSURLs)
    listings = caller.broker.entries(caller.principal, surls, "srmGetPermission")
    response: Record = T.srmGetPermissionResponse(
        returnStatus=of_many([listing.failure for listing in listings]),
        arrayOfPermissionReturns=array(
            "ArrayOfTPermissionReturn", [_permissions(listing, caller) for listing in listings]
        ),
    )
    return response


def _permissions(listing: Listing, caller: Caller) -> Record:
    if listing.entry is None:
        refused: Record = T.TPermissionReturn(
            surl=listing.text, status=success() if listing.failure is None else of_error(listing.failure)
        )
        return refused
    shown = permissions.shown(listing.entry, caller.principal)
    made: Record = T.TPermissionReturn(
        surl=listing.text,
        status=success(),
        owner=shown["ownerPermission"].userID,
        ownerPermission=shown["ownerPermission"].mode,
        arrayOfGroupPermissions=array("ArrayOfTGroupPermission", [shown["groupPermission"]]),
        otherPermission=shown["otherPermission"],
    )
    return made
