"""srmGetRequestTokens: find one's requests again (SRM v2.2, 5.17)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import RequestUnknown
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T, array


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer the tokens of the caller's requests, the newest first; of one description, to the letter.

    Raises:
        RequestUnknown: none has this description.
    """
    description = request.userRequestDescription or None
    found = caller.broker.tokens(caller.principal, description)
    if description is not None and not found:
        raise RequestUnknown("you have no request of this description")
    tokens = [T.TRequestTokenReturn(requestToken=one.token, createdAtTime=one.created_at) for one in found]
    response: Record = T.srmGetRequestTokensResponse(
        returnStatus=success(), arrayOfRequestTokens=array("ArrayOfTRequestTokenReturn", tokens)
    )
    return response
