"""srmReserveSpace: promise room to the caller (SRM v2.2, 2.1)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.spaces import SpaceWish
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.spaces import granted, of_size
from srm_dicom.srm.types import Record, T


@requires(OpenAccess("room is promised to everybody who may enter, up to the site's bound"))
def run(request: Any, caller: Caller) -> Record:
    """Answer the space at once; its token is the request's token too.

    All of a space is guaranteed: it has the size of which that is asked, and the total one where none is.

    Raises:
        NotSupported, NoSpace, InvalidRequest: see `broker.spaces`.
    """
    info = request.retentionPolicyInfo
    wish = SpaceWish(
        size_bytes=request.desiredSizeOfGuaranteedSpace or request.desiredSizeOfTotalSpace or 0,
        policy=info.retentionPolicy,
        latency=info.accessLatency or "ONLINE",
        lifetime_s=request.desiredLifetimeOfReservedSpace,
        description=request.userSpaceTokenDescription,
    )
    view = caller.broker.spaces.reserve(caller.principal, wish)
    response: Record = T.srmReserveSpaceResponse(
        returnStatus=of_size(view, request.desiredSizeOfTotalSpace),
        requestToken=view.space.token,
        **granted(view),
    )
    return response
