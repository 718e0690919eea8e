"""srmCheckPermission: what the caller may do to each SURL (SRM v2.2, 3.2)."""

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
    """Answer for the caller, whatever authorizationID says: nobody asks about others.

    Raises:
        InvalidRequest: no SURL is given.
    """
    surls = needed_surls(request.arrayOfSURLs)
    listings = caller.broker.entries(caller.principal, surls, "srmCheckPermission")
    response: Record = T.srmCheckPermissionResponse(
        returnStatus=of_many([listing.failure for listing in listings]),
        arrayOfPermissions=array(
            "ArrayOfTSURLPermissionReturn", [_permission(listing, caller) for listing in listings]
        ),
    )
    return response


def _permission(listing: Listing, caller: Caller) -> Record:
    made: Record = T.TSURLPermissionReturn(
        surl=listing.text,
        status=success() if listing.failure is None else of_error(listing.failure),
        permission=permissions.mode(listing.entry, caller.principal) if listing.entry else None,
    )
    return made
