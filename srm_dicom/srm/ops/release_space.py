"""srmReleaseSpace: give room back (SRM v2.2, 2.3)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Release the space; its files stay.

    Raises:
        InvalidRequest, Busy: see `broker.spaces`.
    """
    caller.broker.spaces.release(caller.principal, request.spaceToken, force=bool(request.forceFileRelease))
    response: Record = T.srmReleaseSpaceResponse(returnStatus=success())
    return response
