"""srmStatusOfGetRequest: how far the files of a request are (SRM v2.2, 5.2)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import RequestKind
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import get_statuses, surls_of
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for the files asked for, in that order; the request's own status is that of all its files.

    Raises:
        RequestUnknown: no get of this caller has this token.
    """
    asked = surls_of(request.arrayOfSourceSURLs) or None
    view = caller.broker.status(caller.principal, request.requestToken, asked, RequestKind.GET)
    response: Record = T.srmStatusOfGetRequestResponse(
        returnStatus=of_request(view.states),
        arrayOfFileStatuses=get_statuses(view),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response
