"""srmMkdir: make one directory (SRM v2.2, 4.1)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import one_surl
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.FILE_WRITE)
def run(request: Any, caller: Caller) -> Record:
    """Make it; those above it must be there.

    Raises:
        AlreadyExists, NotFound, NotADirectory, NotAuthorised: see `broker.names`.
    """
    caller.broker.names.make_directory(caller.principal, one_surl(caller, request.SURL), "srmMkdir")
    response: Record = T.srmMkdirResponse(returnStatus=success())
    return response
