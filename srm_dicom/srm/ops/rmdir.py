"""srmRmdir: remove a directory (SRM v2.2, 4.2)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import one_surl
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.FILE_WRITE)
def run(request: Any, caller: Caller) -> Record:
    """Remove it; with `recursive` everything in it too, or nothing at all.

    Raises:
        NotEmpty, NotFound, NotADirectory, NotAuthorised: see `broker.names`.
    """
    caller.broker.names.remove_directory(
        caller.principal, one_surl(caller, request.SURL), "srmRmdir", recursive=bool(request.recursive)
    )
    response: Record = T.srmRmdirResponse(returnStatus=success())
    return response
