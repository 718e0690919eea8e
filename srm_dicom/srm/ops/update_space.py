"""srmUpdateSpace: another size or lifetime for a space (SRM v2.2, 2.4)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.spaces import of_size, updated
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Change it at once; its token is the request's token too.

    Raises:
        InvalidRequest, NoSpace, SpaceExhausted: see `broker.spaces`.
    """
    total = request.newSizeOfTotalSpaceDesired
    size = request.newSizeOfGuaranteedSpaceDesired or total
    if size is None:
        size = request.newSizeOfGuaranteedSpaceDesired
    view = caller.broker.spaces.update(caller.principal, request.spaceToken, size, request.newLifeTime)
    response: Record = T.srmUpdateSpaceResponse(
        returnStatus=of_size(view, total), requestToken=view.space.token, **updated(view)
    )
    return response
