"""srmResumeRequest: let a suspended request go on (SRM v2.2, 5.9)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Queue what was suspended.

    Raises:
        RequestUnknown: no request of the caller has this token.
        NotSupported: it writes.
        InvalidRequest: nothing of it is suspended.
    """
    caller.broker.resume(caller.principal, request.requestToken)
    response: Record = T.srmResumeRequestResponse(returnStatus=success())
    return response
