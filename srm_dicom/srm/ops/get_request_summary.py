"""srmGetRequestSummary: requests by their numbers (SRM v2.2, 5.14)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from srm_dicom.broker.views import FileState, RequestSummary
from srm_dicom.errors import InvalidRequest, RequestUnknown
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import of_counts, of_error, of_outcomes
from srm_dicom.srm.types import Record, T, array, items

_COMPLETED = (
    FileState.PINNED, FileState.RELEASED, FileState.EXPIRED, FileState.SPACE_AVAILABLE, FileState.STORED,
)  # fmt: skip
_WAITING = (FileState.QUEUED, FileState.IN_PROGRESS, FileState.SUSPENDED, FileState.STORING)
_FAILED = (FileState.FAILED, FileState.ABORTED, FileState.TIMED_OUT)


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Answer for each token in its order; completed, waiting and failed files add up to all.

    Raises:
        InvalidRequest: no token is given.
        RequestUnknown: none of the tokens is of a request of this caller.
        TooLarge: too many tokens.
    """
    tokens = [token or "" for token in items(request.arrayOfRequestTokens)]
    if not tokens:
        raise InvalidRequest("arrayOfRequestTokens has no token")
    found = caller.broker.summaries(caller.principal, tokens)
    if not any(found):
        raise RequestUnknown("you have no request with any of these tokens")
    summaries = [_summary(token, summary) for token, summary in zip(tokens, found, strict=True)]
    response: Record = T.srmGetRequestSummaryResponse(
        returnStatus=of_outcomes(sum(summary is None for summary in found), len(found)),
        arrayOfRequestSummaries=array("ArrayOfTRequestSummary", summaries),
    )
    return response


def _summary(token: str, summary: RequestSummary | None) -> Record:
    if summary is None:
        unknown = of_error(RequestUnknown("you have no request with this token"))
        missing: Record = T.TRequestSummary(requestToken=token, status=unknown)
        return missing

    def count(states: Iterable[FileState]) -> int:
        return sum(summary.states.get(state, 0) for state in states)

    made: Record = T.TRequestSummary(
        requestToken=token,
        status=of_counts(summary.states),
        requestType=summary.kind.value,
        totalNumFilesInRequest=count(FileState),
        numOfCompletedFiles=count(_COMPLETED),
        numOfWaitingFiles=count(_WAITING),
        numOfFailedFiles=count(_FAILED),
    )
    return made
