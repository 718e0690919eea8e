"""srmStatusOfCopyRequest: how far copies are (SRM v2.2, 5.17)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from srm_dicom.broker.owned import each_in_turn
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.views import FileState, FileView, RequestKind
from srm_dicom.errors import InvalidRequest, NotFound
from srm_dicom.ids import Surl
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops.files import copy_statuses, surls_of
from srm_dicom.srm.status import of_request
from srm_dicom.srm.types import Record, T

_Copy = tuple[str, FileView]
"""A source, and the file that it is copied to."""


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for the sources, the targets or the pairs of both that are asked for, or for all.

    The request's own status is that of all its files.

    Raises:
        RequestUnknown: no copy of this caller has this token.
        InvalidRequest: sources and targets are given, and not as many of these as of those.
    """
    view = caller.broker.status(caller.principal, request.requestToken, None, RequestKind.COPY)
    told: Sequence[_Copy] = list(zip(caller.broker.copies.sources(view.token), view.files, strict=True))
    sources, targets = surls_of(request.arrayOfSourceSURLs), surls_of(request.arrayOfTargetSURLs)
    if sources and targets and len(sources) != len(targets):
        raise InvalidRequest(
            "arrayOfSourceSURLs and arrayOfTargetSURLs are pairs: as many of one as of the other"
        )
    if sources or targets:
        told = _chosen(told, sources, targets, caller.broker.surls)
    shown = replace(view, files=tuple(file for _, file in told))
    response: Record = T.srmStatusOfCopyRequestResponse(
        returnStatus=of_request(view.states),
        arrayOfFileStatuses=copy_statuses(shown, [source for source, _ in told], caller.broker.surls.has),
        remainingTotalRequestTime=view.remaining_s,
    )
    return response


def _chosen(
    copies: Sequence[_Copy], sources: Sequence[str], targets: Sequence[str], surls: OwnSurls
) -> list[_Copy]:
    """Return the copies asked for in that order, named as they were asked for."""

    def name(text: str) -> str:
        """Return what both forms of a SURL of this site have in common."""
        surl = surls.parse(text)
        return surl.path if isinstance(surl, Surl) and surls.has(text) else text

    by_name: defaultdict[tuple[str, str], list[_Copy]] = defaultdict(list)
    for source, file in copies:
        by_name[name(source) if sources else "", name(file.surl) if targets else ""].append((source, file))
    missing = ("", FileView("", FileState.FAILED, NotFound("this file is not in the request")))
    pairs = list(zip(sources or [""] * len(targets), targets or [""] * len(sources), strict=True))
    asked = [(name(source) if sources else "", name(target) if targets else "") for source, target in pairs]
    return [
        (source or old_source, replace(file, surl=target or file.surl))
        for (source, target), found in zip(pairs, each_in_turn(asked, by_name), strict=True)
        for old_source, file in found or [missing]
    ]
