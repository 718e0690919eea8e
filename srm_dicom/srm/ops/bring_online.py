"""srmBringOnline: stage files and pin them; who fetches them is told later (SRM v2.2, 5.3)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import RequestKind, Wish
from srm_dicom.errors import NotSupported
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.checks import lifetime, not_negative
from srm_dicom.srm.ops.files import bring_online_statuses, loggable, protocols_of, wanted_surls
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T
from srm_dicom.telemetry import logger

log = logger("srm")


@requires(Right.FILE_READ)
def run(request: Any, caller: Caller) -> Record:
    """Take the request in and answer its token; protocols are logged, and do not matter before a get.

    Raises:
        InvalidRequest: a time is negative, or the list is empty or too long.
        NotSupported: a whole directory is wanted, or a later start.
    """
    if not_negative("deferredStartTime", request.deferredStartTime):
        raise NotSupported("staging starts at once: ask when the files are wanted")
    wish = Wish(
        kind=RequestKind.BRING_ONLINE,
        surls=wanted_surls(request.arrayOfFileRequests),
        total_s=lifetime("desiredTotalRequestTime", request.desiredTotalRequestTime),
        protocols=protocols_of(request.transferParameters),
        pin_s=lifetime("desiredLifeTime", request.desiredLifeTime),
        description=request.userRequestDescription,
    )
    log.info("bring_online", dn=caller.principal.dn, count=len(wish.surls), protocols=loggable(wish))
    view = caller.broker.submit(caller.principal, wish)
    response: Record = T.srmBringOnlineResponse(
        returnStatus=of_request(view.states),
        requestToken=view.token,
        arrayOfFileStatuses=bring_online_statuses(view),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response
