"""srmStatusOfCopyRequest: how far copies are (SRM v2.2, 5.17)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from srm_dicom.broker.views import RequestKind
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import copy_statuses, surls_of
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for the targets asked for, or for all; the request's own status is that of all its files.

    Raises:
        RequestUnknown: no copy has this token.
    """
    view = caller.broker.status(caller.principal, request.requestToken, None, RequestKind.COPY)
    sources = caller.broker.copies.sources(view.token)
    wanted = frozenset(surls_of(request.arrayOfTargetSURLs))
    pairs = [
        (file, source)
        for file, source in zip(view.files, sources, strict=True)
        if not wanted or file.surl in wanted
    ]
    shown = replace(view, files=tuple(file for file, _ in pairs))
    response: Record = T.srmStatusOfCopyRequestResponse(
        returnStatus=of_request(view.states),
        arrayOfFileStatuses=copy_statuses(
            shown, [source for _, source in pairs], caller.broker.copies.is_here
        ),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response
