"""srmPurgeFromSpace: take files out of a space (SRM v2.2, 2.10)."""

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
    """Drop their copies in scratch; the files themselves stay, and come back when somebody asks.

    Raises:
        InvalidRequest: no SURL is given, or the caller has no such space.
    """
    surls = needed_surls(request.arrayOfSURLs)
    failures = caller.broker.spaces.purge_files(caller.principal, surls, request.spaceToken)
    statuses = [surl_outcome(surl, failure) for surl, failure in zip(surls, failures, strict=True)]
    response: Record = T.srmPurgeFromSpaceResponse(
        returnStatus=of_many(failures), arrayOfFileStatuses=array("ArrayOfTSURLReturnStatus", statuses)
    )
    return response
