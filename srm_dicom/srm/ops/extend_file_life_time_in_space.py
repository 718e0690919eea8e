"""srmExtendFileLifeTimeInSpace: files are permanent, and so is their stay (SRM v2.2, 2.9)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import MdmError
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import UNLIMITED_S, Caller
from srm_dicom.srm.ops.files import needed_surls
from srm_dicom.srm.ops.spaces import outcome
from srm_dicom.srm.status import of_many
from srm_dicom.srm.types import Record, T, array


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for each file of the space that it lasts without an end.

    Raises:
        InvalidRequest: no SURL is given, or the caller has no such space.
    """
    surls = needed_surls(request.arrayOfSURLs)
    failures = caller.broker.spaces.files_in(caller.principal, surls, request.spaceToken)
    statuses = [_status(surl, failure) for surl, failure in zip(surls, failures, strict=True)]
    response: Record = T.srmExtendFileLifeTimeInSpaceResponse(
        returnStatus=of_many(failures),
        arrayOfFileStatuses=array("ArrayOfTSURLLifetimeReturnStatus", statuses),
    )
    return response


def _status(surl: str, failure: MdmError | None) -> Record:
    made: Record = T.TSURLLifetimeReturnStatus(
        surl=surl, status=outcome(failure), fileLifetime=UNLIMITED_S if failure is None else None
    )
    return made
