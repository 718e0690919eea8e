"""Errors and states of files as TStatusCode: the one table of this edge (SRM v2.2, 2.1.14 and section 5).

A request-level SRM_INTERNAL_ERROR makes gfal2 try again until its time is up, so it stands only for
what may heal by itself. The status of a request is never stored: it follows from its files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from srm_dicom import errors
from srm_dicom.broker.views import FileState, FileView, RequestKind
from srm_dicom.errors import MdmError
from srm_dicom.srm.types import Record, T

ERROR_STATUS: Mapping[type[MdmError], str] = {
    errors.NotAuthenticated: "SRM_AUTHENTICATION_FAILURE",
    errors.NotAuthorised: "SRM_AUTHORIZATION_FAILURE",
    errors.NotFound: "SRM_INVALID_PATH",
    errors.AlreadyExists: "SRM_DUPLICATION_ERROR",
    errors.NotADirectory: "SRM_INVALID_PATH",
    errors.IsADirectory: "SRM_INVALID_PATH",
    errors.NotEmpty: "SRM_NON_EMPTY_DIRECTORY",
    errors.Busy: "SRM_FILE_BUSY",
    errors.InvalidRequest: "SRM_INVALID_REQUEST",
    errors.NotSupported: "SRM_NOT_SUPPORTED",
    errors.RequestUnknown: "SRM_INVALID_REQUEST",
    errors.Aborted: "SRM_ABORTED",
    errors.RequestExpired: "SRM_REQUEST_TIMED_OUT",
    errors.TooLarge: "SRM_TOO_MANY_RESULTS",
    errors.BudgetExhausted: "SRM_EXCEED_ALLOCATION",
    errors.SpaceExhausted: "SRM_NO_USER_SPACE",
    errors.SpaceExpired: "SRM_SPACE_LIFETIME_EXPIRED",
    errors.ConfigError: "SRM_FATAL_INTERNAL_ERROR",
    errors.NoSpace: "SRM_NO_FREE_SPACE",
    errors.Overloaded: "SRM_INTERNAL_ERROR",
    errors.IntegrityError: "SRM_FAILURE",
    errors.CatalogueUnavailable: "SRM_INTERNAL_ERROR",
    errors.InternalError: "SRM_FATAL_INTERNAL_ERROR",
    errors.SourceUnavailable: "SRM_FAILURE",
    errors.SourceSlow: "SRM_FAILURE",
    errors.SourceRefused: "SRM_FAILURE",
    errors.NotDelivered: "SRM_FILE_UNAVAILABLE",
    errors.ObjectRefused: "SRM_FAILURE",
    errors.KeyServerUnavailable: "SRM_INTERNAL_ERROR",
    errors.KeyQuorumMissing: "SRM_INTERNAL_ERROR",
    errors.KeyShareInvalid: "SRM_FAILURE",
}
"""Every leaf of the error tree; a file that a source did not give before its deadline is SRM_FAILURE."""

STATE_STATUS: Mapping[FileState, str] = {
    FileState.QUEUED: "SRM_REQUEST_QUEUED",
    FileState.IN_PROGRESS: "SRM_REQUEST_INPROGRESS",
    FileState.SUSPENDED: "SRM_REQUEST_SUSPENDED",
    FileState.PINNED: "SRM_FILE_PINNED",
    FileState.SPACE_AVAILABLE: "SRM_SPACE_AVAILABLE",
    FileState.STORING: "SRM_REQUEST_INPROGRESS",
    FileState.STORED: "SRM_SUCCESS",
    FileState.RELEASED: "SRM_RELEASED",
    FileState.EXPIRED: "SRM_FILE_LIFETIME_EXPIRED",
    FileState.TIMED_OUT: "SRM_FAILURE",
    FileState.FAILED: "SRM_FAILURE",
    FileState.ABORTED: "SRM_ABORTED",
}
"""A file that has no failure of its own; FAILED and ABORTED usually have one."""

_LATE = "the request's time was over before its files were there"
_WAITING = frozenset({FileState.QUEUED, FileState.IN_PROGRESS, FileState.STORING})
_SERVED = frozenset({FileState.PINNED, FileState.RELEASED, FileState.SPACE_AVAILABLE, FileState.STORED})


def success() -> Record:
    """Return a TReturnStatus SRM_SUCCESS."""
    return status("SRM_SUCCESS")


def status(code: str, explanation: str | None = None) -> Record:
    """Return a TReturnStatus."""
    made: Record = T.TReturnStatus(statusCode=code, explanation=explanation)
    return made


def of_error(error: MdmError) -> Record:
    """Return the TReturnStatus of an error; its message reaches the user to the letter."""
    return status(ERROR_STATUS[type(error)], error.message)


def of_file(file: FileView, kind: RequestKind) -> Record:
    """Return the file-level status of a get or a bringOnline (SRM v2.2, 5.2 and 5.4)."""
    if file.state is FileState.TIMED_OUT:
        return status("SRM_FAILURE", _LATE)
    if file.failure is not None:
        return of_error(file.failure)
    if file.state is FileState.PINNED and kind is RequestKind.BRING_ONLINE:
        return status("SRM_SUCCESS", file.explanation)
    return status(STATE_STATUS[file.state], file.explanation)


def of_request(states: Collection[FileState]) -> Record:
    """Return the request-level status that follows from the states of all files."""
    return of_counts(Counter(states))


def of_counts(counts: Mapping[FileState, int]) -> Record:
    """Return the request-level status that follows from the number of files in each state."""
    states = frozenset(state for state, count in counts.items() if count)
    if states <= {FileState.QUEUED}:
        return status("SRM_REQUEST_QUEUED")
    if FileState.SUSPENDED in states and not states & _WAITING:
        return status("SRM_REQUEST_SUSPENDED", "srmResumeRequest lets it go on")
    if states & _WAITING:
        return status("SRM_REQUEST_INPROGRESS")
    if states <= _SERVED:
        return success()
    if states & _SERVED:
        failed = sum(count for state, count in counts.items() if state not in _SERVED)
        return status("SRM_PARTIAL_SUCCESS", f"{failed} of {sum(counts.values())} files failed")
    return _of_failed(states)


def _of_failed(states: frozenset[FileState]) -> Record:
    if states == {FileState.ABORTED}:
        return status("SRM_ABORTED", "the request was aborted")
    if states == {FileState.TIMED_OUT}:
        return status("SRM_REQUEST_TIMED_OUT", _LATE)
    if states == {FileState.EXPIRED}:
        return status("SRM_REQUEST_TIMED_OUT", "the lifetime of every pin is over")
    return status("SRM_FAILURE", "no file of the request is available; each file's status tells why")


def of_many(failures: Collection[MdmError | None]) -> Record:
    """Return the status of an operation over several files that leaves no request behind."""
    return of_outcomes(sum(failure is not None for failure in failures), len(failures))


def of_outcomes(failed: int, total: int) -> Record:
    """Return the status of an operation of which `failed` of `total` parts failed."""
    if not failed:
        return success()
    if failed < total:
        return status("SRM_PARTIAL_SUCCESS", f"{failed} of {total} failed")
    return status("SRM_FAILURE", "all of it failed; each status tells why")
