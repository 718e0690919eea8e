"""srmReleaseFiles: give pins back, by request, by SURL or by both (SRM v2.2, 5.13)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import surl_status, surls_of
from srm_dicom.srm.status import of_many
from srm_dicom.srm.types import Record, T, array


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Release the files; `doRemove` asks for nothing more, since what nobody pins is swept by itself.

    Raises:
        InvalidRequest: neither a token nor a SURL is given, or the token is no get's.
        RequestUnknown: no request has this token.
    """
    asked = surls_of(request.arrayOfSURLs) or None
    files = caller.broker.release(caller.principal, request.requestToken or None, asked)
    response: Record = T.srmReleaseFilesResponse(
        returnStatus=of_many([file.failure for file in files]),
        arrayOfFileStatuses=array("ArrayOfTSURLReturnStatus", [surl_status(file) for file in files]),
    )
    return response
