"""srmRm: remove files (SRM v2.2, 4.3)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import MdmError
from srm_dicom.ids import Surl
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import needed_surls
from srm_dicom.srm.status import of_error, of_many, success
from srm_dicom.srm.types import Record, T, array


@requires(Right.FILE_WRITE)
def run(request: Any, caller: Caller) -> Record:
    """Remove each file, and end what is being put under its name.

    Raises:
        InvalidRequest: no SURL is given.
    """
    surls = needed_surls(request.arrayOfSURLs)
    parsed = [caller.broker.surls.parse(text) for text in surls]
    known = [surl.path for surl in parsed if isinstance(surl, Surl)]
    removed = iter(caller.broker.names.remove_files(caller.principal, known, "srmRm"))
    failures = [next(removed) if isinstance(surl, Surl) else surl for surl in parsed]
    statuses = [_status(text, failure) for text, failure in zip(surls, failures, strict=True)]
    response: Record = T.srmRmResponse(
        returnStatus=of_many(failures), arrayOfFileStatuses=array("ArrayOfTSURLReturnStatus", statuses)
    )
    return response


def _status(surl: str, failure: MdmError | None) -> Record:
    outcome = success() if failure is None else of_error(failure)
    made: Record = T.TSURLReturnStatus(surl=surl, status=outcome)
    return made
