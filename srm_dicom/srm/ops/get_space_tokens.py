"""srmGetSpaceTokens: find one's spaces again (SRM v2.2, 2.11)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer the tokens of the caller's spaces; of one description, to the letter.

    Raises:
        InvalidRequest: none has this description.
    """
    description = request.userSpaceTokenDescription or None
    tokens = caller.broker.spaces.tokens(caller.principal, description)
    if description is not None and not tokens:
        raise InvalidRequest("you have no space of this description")
    # An array that is missing is no answer to gfal2: one of nothing is an array.
    response: Record = T.srmGetSpaceTokensResponse(
        returnStatus=success(), arrayOfSpaceTokens=T.ArrayOfString(stringArray=list(tokens))
    )
    return response
