"""srmChangeSpaceForFiles: let files stand in another space (SRM v2.2, 2.7)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import needed_surls
from srm_dicom.srm.ops.spaces import surl_outcome
from srm_dicom.srm.status import of_many
from srm_dicom.srm.types import Record, T, array


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Move them at once: only accounts change, so no request is left behind.

    Raises:
        InvalidRequest: no SURL is given, or the caller has no such space.
    """
    surls = needed_surls(request.arrayOfSURLs)
    failures = caller.broker.spaces.move_files(caller.principal, surls, request.targetSpaceToken)
    statuses = [surl_outcome(surl, failure) for surl, failure in zip(surls, failures, strict=True)]
    response: Record = T.srmChangeSpaceForFilesResponse(
        returnStatus=of_many(failures), arrayOfFileStatuses=array("ArrayOfTSURLReturnStatus", statuses)
    )
    return response
