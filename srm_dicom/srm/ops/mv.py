"""srmMv: another name for a file or a directory (SRM v2.2, 4.6)."""

from __future__ import annotations

from typing import Any

from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import one_surl
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T


@requires(Right.FILE_WRITE)
def run(request: Any, caller: Caller) -> Record:
    """Rename; onto itself that is a success, onto a directory it moves into that.

    Raises:
        AlreadyExists, NotFound, NotADirectory, NotAuthorised, NotSupported: see `broker.names`.
    """
    source, target = one_surl(caller, request.fromSURL), one_surl(caller, request.toSURL)
    caller.broker.names.rename(caller.principal, source, target, "srmMv")
    response: Record = T.srmMvResponse(returnStatus=success())
    return response
