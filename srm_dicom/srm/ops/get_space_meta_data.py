"""srmGetSpaceMetaData: what is left of spaces (SRM v2.2, 2.6)."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.spaces import SpaceView
from srm_dicom.errors import InvalidRequest, SpaceExpired
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import of_error, of_outcomes, success
from srm_dicom.srm.types import Record, T, array, items


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for each token in its order; a space whose lifetime is over is told of as such.

    Raises:
        InvalidRequest: no token is given.
        TooLarge: too many tokens.
    """
    tokens = [token or "" for token in items(request.arrayOfSpaceTokens)]
    if not tokens:
        raise InvalidRequest("arrayOfSpaceTokens has no token")
    views = caller.broker.spaces.views(caller.principal, tokens)
    details = [_detail(token, view) for token, view in zip(tokens, views, strict=True)]
    response: Record = T.srmGetSpaceMetaDataResponse(
        returnStatus=of_outcomes(sum(view is None for view in views), len(views)),
        arrayOfSpaceDetails=array("ArrayOfTMetaDataSpace", details),
    )
    return response


def _detail(token: str, view: SpaceView | None) -> Record:
    if view is None:
        unknown = of_error(InvalidRequest("you have no space with this token"))
        missing: Record = T.TMetaDataSpace(spaceToken=token, status=unknown)
        return missing
    space = view.space
    over = SpaceExpired("the lifetime of the space is over")
    made: Record = T.TMetaDataSpace(
        spaceToken=token,
        status=of_error(over) if view.left_s == 0 else success(),
        retentionPolicyInfo=T.TRetentionPolicyInfo(retentionPolicy=space.policy, accessLatency=space.latency),
        owner=space.owner,
        totalSize=space.size_bytes,
        guaranteedSize=space.size_bytes,
        unusedSize=max(0, space.size_bytes - view.used_bytes),
        lifetimeAssigned=view.assigned_s,
        lifetimeLeft=view.left_s,
    )
    return made
