"""srmAbortRequest: withdraw a request and what it waits for (SRM v2.2, 5.10)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """End the request; its status is SRM_ABORTED from now on.

    Raises:
        RequestUnknown: no request has this token.
        NotAuthorised: it is another caller's.
    """
    caller.broker.abort(caller.principal, request.requestToken)
    response: Record = T.srmAbortRequestResponse(returnStatus=success())
    return response
