"""srmPrepareToGet: stage files and pin them for reading (SRM v2.2, 5.1)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import RequestKind, Wish
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.checks import lifetime
from srm_dicom.srm.ops.files import get_statuses, loggable, protocols_of, wanted_surls
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T
from srm_dicom.telemetry import logger

log = logger("srm")


@requires(Right.FILE_READ)
def run(request: Any, caller: Caller) -> Record:
    """Take the request in and answer its token; nobody waits here for bytes.

    Raises:
        InvalidRequest: a time is negative, or the list is empty or too long.
        NotSupported: a whole directory is wanted, or no protocol of the list is spoken here.
    """
    wish = _wish(request)
    log.info("prepare_to_get", dn=caller.principal.dn, count=len(wish.surls), protocols=loggable(wish))
    view = caller.broker.submit(caller.principal, wish)
    response: Record = T.srmPrepareToGetResponse(
        returnStatus=of_request(view.states),
        requestToken=view.token,
        arrayOfFileStatuses=get_statuses(view),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response


def _wish(request: Any) -> Wish:
    return Wish(
        kind=RequestKind.GET,
        surls=wanted_surls(request.arrayOfFileRequests),
        protocols=protocols_of(request.transferParameters),
        total_s=lifetime("desiredTotalRequestTime", request.desiredTotalRequestTime),
        pin_s=lifetime("desiredPinLifeTime", request.desiredPinLifeTime),
        description=request.userRequestDescription,
    )
