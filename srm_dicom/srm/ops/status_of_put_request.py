"""srmStatusOfPutRequest: where the files of a put are (SRM v2.2, 5.6)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import RequestKind
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import put_statuses, surls_of
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for the files asked for, in that order; the request's own status is that of all its files.

    Raises:
        RequestUnknown: no put has this token.
    """
    asked = surls_of(request.arrayOfTargetSURLs) or None
    view = caller.broker.status(caller.principal, request.requestToken, asked, RequestKind.PUT)
    response: Record = T.srmStatusOfPutRequestResponse(
        returnStatus=of_request(view.states),
        arrayOfFileStatuses=put_statuses(view),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response
