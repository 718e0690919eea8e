"""srmReserveSpace: promise room to the caller (SRM v2.2, 2.1)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.spaces import SpaceWish
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.spaces import granted
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(OpenAccess("room is promised to everybody who may enter, up to the site's bound"))
def run(request: Any, caller: Caller) -> Record:
    """Answer the space at once; its token is the request's token too.

    Raises:
        NotSupported, NoSpace, InvalidRequest: see `broker.spaces`.
    """
    info = request.retentionPolicyInfo
    wish = SpaceWish(
        size_bytes=request.desiredSizeOfGuaranteedSpace,
        policy=info.retentionPolicy,
        latency=info.accessLatency or "ONLINE",
        lifetime_s=request.desiredLifetimeOfReservedSpace,
        description=request.userSpaceTokenDescription,
    )
    view = caller.broker.spaces.reserve(caller.principal, wish)
    response: Record = T.srmReserveSpaceResponse(
        returnStatus=success(), requestToken=view.space.token, **granted(view)
    )
    return response
