"""srmPutDone: the bytes of files are all there; store them under their names (SRM v2.2, 5.7)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import Overloaded
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import needed_surls, surl_status
from srm_dicom.srm.status import of_many
from srm_dicom.srm.types import Record, T, array


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer when every file is stored, or why it is not.

    Raises:
        InvalidRequest: no SURL is given.
        RequestUnknown: no put has this token.
        Overloaded: storing goes on for longer than a call may take; the same call waits on.
    """
    asked = needed_surls(request.arrayOfSURLs)
    files = caller.broker.puts.done(caller.principal, request.requestToken, asked)
    late = [file.failure for file in files if isinstance(file.failure, Overloaded)]
    if late:
        raise late[0]
    response: Record = T.srmPutDoneResponse(
        returnStatus=of_many([file.failure for file in files]),
        arrayOfFileStatuses=array("ArrayOfTSURLReturnStatus", [surl_status(file) for file in files]),
    )
    return response
