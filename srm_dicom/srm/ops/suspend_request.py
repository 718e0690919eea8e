"""srmSuspendRequest: let a request wait (SRM v2.2, 5.8)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Suspend what nobody has begun to stage; its time runs on.

    Raises:
        RequestUnknown: no request of the caller has this token.
        NotSupported: it writes.
        InvalidRequest: nothing of it waits.
    """
    caller.broker.suspend(caller.principal, request.requestToken)
    response: Record = T.srmSuspendRequestResponse(returnStatus=success())
    return response
