"""srmAbortFiles: withdraw files of a request (SRM v2.2, 5.11)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import needed_surls, surl_status
from srm_dicom.srm.status import of_many
from srm_dicom.srm.types import Record, T, array


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Withdraw the files, whatever became of them; only one that is not in the request has failed.

    Raises:
        InvalidRequest: no SURL is given.
        RequestUnknown: no request of this caller has this token.
    """
    asked = needed_surls(request.arrayOfSURLs)
    files = caller.broker.abort_files(caller.principal, request.requestToken, asked)
    response: Record = T.srmAbortFilesResponse(
        returnStatus=of_many([file.failure for file in files]),
        arrayOfFileStatuses=array("ArrayOfTSURLReturnStatus", [surl_status(file) for file in files]),
    )
    return response
