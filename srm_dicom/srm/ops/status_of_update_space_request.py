"""srmStatusOfUpdateSpaceRequest: the space as it was changed at once (SRM v2.2, 2.5)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.spaces import updated
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer the space again.

    Raises:
        InvalidRequest: the caller has none of this token.
    """
    view = caller.broker.spaces.view(caller.principal, request.requestToken)
    response: Record = T.srmStatusOfUpdateSpaceRequestResponse(returnStatus=success(), **updated(view))
    return response
