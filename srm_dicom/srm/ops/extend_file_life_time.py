"""srmExtendFileLifeTime: hold pins for longer (SRM v2.2, 5.15).

With a token it is about the pins of that request, without one about the files themselves, which are
permanent here.
"""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.views import FileState, FileView, Listing
from srm_dicom.errors import InvalidRequest, IsADirectory
from srm_dicom.rights.declare import Right, requires
from srm_dicom.srm.caller import UNLIMITED_S, Caller
from srm_dicom.srm.checks import lifetime
from srm_dicom.srm.ops.files import needed_surls
from srm_dicom.srm.status import STATE_STATUS, of_error, of_outcomes, status, success
from srm_dicom.srm.types import Record, T, array

_EXTENDABLE = frozenset(
    {
        FileState.QUEUED,
        FileState.IN_PROGRESS,
        FileState.SUSPENDED,
        FileState.PINNED,
        FileState.SPACE_AVAILABLE,
    }
)


@requires(Right.OWN_REQUEST)
def run(request: Any, caller: Caller) -> Record:
    """Extend what the caller names; a lifetime never gets shorter, and a pin no longer than the site allows.

    Raises:
        InvalidRequest: no SURL is given, a time is negative, or the lifetime that is meant is missing.
        RequestUnknown: no request of this caller has this token.
    """
    surls = needed_surls(request.arrayOfSURLs)
    pin_s = lifetime("newPinLifeTime", request.newPinLifeTime)
    file_s = lifetime("newFileLifeTime", request.newFileLifeTime)
    if request.requestToken and pin_s is None:
        raise InvalidRequest("newPinLifeTime is missing: with a request token, pins are extended")
    if not request.requestToken and file_s is None:
        raise InvalidRequest("newFileLifeTime is missing: pins are extended with their request's token")
    if request.requestToken:
        files = caller.broker.extend(caller.principal, request.requestToken, surls, pin_s or 0)
        return _response([_of_pin(file) for file in files])
    entries = caller.broker.entries(caller.principal, surls, "srmExtendFileLifeTime")
    return _response([_of_file(entry) for entry in entries])


def _response(files: list[Record]) -> Record:
    failed = sum(file.status.statusCode != "SRM_SUCCESS" for file in files)
    response: Record = T.srmExtendFileLifeTimeResponse(
        returnStatus=of_outcomes(failed, len(files)),
        arrayOfFileStatuses=array("ArrayOfTSURLLifetimeReturnStatus", files),
    )
    return response


def _of_pin(file: FileView) -> Record:
    if file.failure is not None:
        outcome = of_error(file.failure)
    else:
        outcome = success() if file.state in _EXTENDABLE else _ended(file.state)
    made: Record = T.TSURLLifetimeReturnStatus(surl=file.surl, status=outcome, pinLifetime=file.pin_left_s)
    return made


def _ended(state: FileState) -> Record:
    """Return the status of a file of which there is no pin any more, and no TURL to write to."""
    if state in (FileState.STORING, FileState.STORED):
        return of_error(InvalidRequest("the put of this file is done"))
    return status(STATE_STATUS[state])


def _of_file(listing: Listing) -> Record:
    failure = listing.failure
    if failure is None and listing.entry is not None and listing.entry.is_directory:
        failure = IsADirectory("this is a directory")
    made: Record = T.TSURLLifetimeReturnStatus(
        surl=listing.text,
        status=success() if failure is None else of_error(failure),
        fileLifetime=UNLIMITED_S if failure is None else None,
    )
    return made
