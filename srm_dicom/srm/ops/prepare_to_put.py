"""srmPrepareToPut: make room for files and tell where to send them (SRM v2.2, 5.5)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import PutWish, RequestKind
from srm_dicom.errors import InvalidRequest, NotSupported
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.checks import lifetime
from srm_dicom.srm.ops.files import loggable, policy_of, protocols_of, put_statuses, refused_puts
from srm_dicom.srm.status import of_error, of_request
from srm_dicom.srm.types import Record, T, items
from srm_dicom.telemetry import logger

log = logger("srm")


@requires(Right.FILE_WRITE)
def run(request: Any, caller: Caller) -> Record:
    """Take the request in and answer a TURL for each file that may be written, at once.

    What is not supported for the whole request is told of each file as well: S2 looks there.

    Raises:
        InvalidRequest: a time is negative, a target is missing, or the list is empty or too long.
        NotSupported: files are only to be replaced by others.
    """
    wish = _wish(request)
    log.info("prepare_to_put", dn=caller.principal.dn, count=len(wish.surls), protocols=loggable(wish))
    response: Record
    try:
        view = caller.broker.puts.submit(caller.principal, wish)
    except NotSupported as error:
        response = T.srmPrepareToPutResponse(
            returnStatus=of_error(error), arrayOfFileStatuses=refused_puts(wish.surls, error)
        )
        return response
    response = T.srmPrepareToPutResponse(
        returnStatus=of_request(view.states),
        requestToken=view.token,
        arrayOfFileStatuses=put_statuses(view),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response


def _wish(request: Any) -> PutWish:
    files = [file for file in items(request.arrayOfFileRequests) if file is not None]
    if any(not file.targetSURL for file in files):
        raise InvalidRequest("targetSURL is missing: the site gives no names to files")
    if request.overwriteOption == "WHEN_FILES_ARE_DIFFERENT":
        raise NotSupported("whether files differ is not known before they are here: use NEVER or ALWAYS")
    lifetime("desiredFileLifeTime", request.desiredFileLifeTime)
    return PutWish(
        kind=RequestKind.PUT,
        surls=tuple(file.targetSURL for file in files),
        protocols=protocols_of(request.transferParameters),
        total_s=lifetime("desiredTotalRequestTime", request.desiredTotalRequestTime),
        pin_s=lifetime("desiredPinLifeTime", request.desiredPinLifeTime),
        description=request.userRequestDescription,
        sizes=tuple(file.expectedFileSize or 0 for file in files),
        overwrite=request.overwriteOption == "ALWAYS",
        space=request.targetSpaceToken or "",
        policy=policy_of(request.targetFileRetentionPolicyInfo),
    )
