"""srmCopy: copies within this site, from other servers and to them, made by it (SRM v2.2, 5.16)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import PutWish, RequestKind
from srm_dicom.errors import InvalidRequest, NotSupported
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.checks import lifetime
from srm_dicom.srm.ops.files import copy_statuses, policy_of
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T, items
from srm_dicom.telemetry import logger

log = logger("srm")


@requires(Right.FILE_WRITE)
def run(request: Any, caller: Caller) -> Record:
    """Take the request in and answer its token; read on the source is decided as for a get.

    Raises:
        InvalidRequest: a time is negative, a name is missing, or the list is empty or too long.
        NotSupported: a whole directory is wanted, or files are only to be replaced by others.
    """
    files = [file for file in items(request.arrayOfFileRequests) if file is not None]
    if any(file.dirOption is not None and file.dirOption.isSourceADirectory for file in files):
        raise NotSupported("a directory is not copied as a whole: list it and copy its files")
    if any(not file.sourceSURL or not file.targetSURL for file in files):
        raise InvalidRequest("each file needs a sourceSURL and a targetSURL")
    lifetime("desiredTargetSURLLifeTime", request.desiredTargetSURLLifeTime)
    if request.overwriteOption == "WHEN_FILES_ARE_DIFFERENT":
        raise NotSupported("whether files differ is not compared: use NEVER or ALWAYS")
    wish = PutWish(
        kind=RequestKind.COPY,
        surls=tuple(file.targetSURL for file in files),
        total_s=lifetime("desiredTotalRequestTime", request.desiredTotalRequestTime),
        description=request.userRequestDescription,
        overwrite=request.overwriteOption == "ALWAYS",
        space=request.targetSpaceToken or "",
        policy=policy_of(request.targetFileRetentionPolicyInfo),
        sources=tuple(file.sourceSURL for file in files),
    )
    log.info("copy", dn=caller.principal.dn, count=len(wish.surls))
    view = caller.broker.copies.submit(caller.principal, wish, caller.delegated)
    response: Record = T.srmCopyResponse(
        returnStatus=of_request(view.states),
        requestToken=view.token,
        arrayOfFileStatuses=copy_statuses(view, wish.sources, caller.broker.surls.has),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response
