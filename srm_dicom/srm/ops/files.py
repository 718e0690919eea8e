"""What the operations on requests share: SURLs in, file statuses out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from srm_dicom.broker.views import FileState, FileView, RequestKind, RequestView, Wish
from srm_dicom.errors import InvalidRequest, IsADirectory, MdmError, NotSupported
from srm_dicom.ids import SitePath, Surl
from srm_dicom.srm.caller import UNLIMITED_S, Caller
from srm_dicom.srm.status import of_error, of_file, status, success
from srm_dicom.srm.types import Record, T, array, items

KNOWN_PROTOCOLS = frozenset(
    "gsiftp https http root xroot davs dav httpg ftp file rfio dcap gsidcap kdcap".split()  # noqa: SIM905
)
"""What gfal2, ARC, S2 and other clients list, and what sites speak."""


def protocols_of(parameters: Any) -> tuple[str, ...]:
    """Return the protocols of TTransferParameters in their order."""
    if parameters is None:
        return ()
    return tuple(name for name in items(parameters.arrayOfTransferProtocols) if name)


def loggable(wish: Wish) -> list[str]:
    """Return the caller's protocols for the log: they decide which door is chosen.

    A word that is no protocol is somebody's own, and is not logged.
    """
    return [name if name in KNOWN_PROTOCOLS else "other" for name in wish.protocols[:16]]


def policy_of(info: Any) -> str:
    """Return the retention policy of a TRetentionPolicyInfo, empty where the caller left it to the site."""
    return info.retentionPolicy if info is not None else ""


def surls_of(value: Any) -> tuple[str, ...]:
    """Return the SURLs of an ArrayOfAnyURI; an empty element stays, as the wrong SURL that it is."""
    return tuple(surl or "" for surl in items(value))


def needed_surls(value: Any) -> tuple[str, ...]:
    """Return the SURLs of an array that may not be empty.

    Raises:
        InvalidRequest: it is.
    """
    surls = surls_of(value)
    if not surls:
        raise InvalidRequest("arrayOfSURLs has no SURL")
    return surls


def wanted_surls(value: Any) -> tuple[str, ...]:
    """Return the SURLs of an ArrayOfTGetFileRequest.

    Raises:
        NotSupported: one of them is to be fetched as a directory.
    """
    files = [file for file in items(value) if file is not None]
    if any(file.dirOption is not None and file.dirOption.isSourceADirectory for file in files):
        raise NotSupported("a directory is not fetched as a whole: list it and ask for its files")
    return tuple(file.sourceSURL for file in files)


def get_statuses(view: RequestView) -> Any:
    """Return the ArrayOfTGetRequestFileStatus of a request."""
    return array("ArrayOfTGetRequestFileStatus", [_get_status(file) for file in view.files])


def _get_status(file: FileView) -> Record:
    waiting = file.state in (FileState.QUEUED, FileState.IN_PROGRESS)
    pinned = file.state is FileState.PINNED
    made: Record = T.TGetRequestFileStatus(
        sourceSURL=file.surl,
        fileSize=file.size_bytes,
        status=of_file(file, RequestKind.GET),
        estimatedWaitTime=file.wait_s if waiting else None,
        remainingPinTime=_pin_left_s(file),
        transferURL=file.turl if pinned else None,
    )
    return made


def _pin_left_s(file: FileView) -> int | None:
    """Return what is left of a pin: nothing of one that was given back or is over."""
    if file.state in (FileState.RELEASED, FileState.EXPIRED):
        return 0
    return file.pin_left_s if file.state is FileState.PINNED else None


def bring_online_statuses(view: RequestView) -> Any:
    """Return the ArrayOfTBringOnlineRequestFileStatus of a request."""
    name = "ArrayOfTBringOnlineRequestFileStatus"
    return array(name, [_bring_online_status(file) for file in view.files])


def _bring_online_status(file: FileView) -> Record:
    waiting = file.state in (FileState.QUEUED, FileState.IN_PROGRESS)
    made: Record = T.TBringOnlineRequestFileStatus(
        sourceSURL=file.surl,
        status=of_file(file, RequestKind.BRING_ONLINE),
        fileSize=file.size_bytes,
        estimatedWaitTime=file.wait_s if waiting else None,
        remainingPinTime=_pin_left_s(file),
    )
    return made


def put_statuses(view: RequestView) -> Any:
    """Return the ArrayOfTPutRequestFileStatus of a request."""
    return array("ArrayOfTPutRequestFileStatus", [_put_status(file) for file in view.files])


def refused_puts(surls: Sequence[str], error: MdmError) -> Any:
    """Return the ArrayOfTPutRequestFileStatus of files whose request was refused as a whole."""
    refused = [T.TPutRequestFileStatus(SURL=surl, status=of_error(error)) for surl in surls]
    return array("ArrayOfTPutRequestFileStatus", refused)


def _put_status(file: FileView) -> Record:
    open_for_bytes = file.state is FileState.SPACE_AVAILABLE
    made: Record = T.TPutRequestFileStatus(
        SURL=file.surl,
        status=_put_outcome(file),
        fileSize=file.size_bytes,
        estimatedWaitTime=file.wait_s if file.state is FileState.STORING else None,
        remainingPinLifetime=file.pin_left_s if open_for_bytes else None,
        transferURL=file.turl if open_for_bytes else None,
    )
    return made


def _put_outcome(file: FileView) -> Record:
    """Return the status of a file that is put.

    A directory of its name is a duplication: at SRM_INVALID_PATH ARC makes directories and asks again.
    """
    if isinstance(file.failure, IsADirectory):
        return status("SRM_DUPLICATION_ERROR", file.failure.message)
    return of_file(file, RequestKind.PUT)


def copy_statuses(view: RequestView, sources: Sequence[str], is_here: Callable[[str], bool]) -> Any:
    """Return the ArrayOfTCopyRequestFileStatus of a request whose files are copies of `sources`.

    How long a file lives is known of this site alone (`is_here`), where files are permanent.
    """
    statuses = [
        T.TCopyRequestFileStatus(
            sourceSURL=source,
            targetSURL=file.surl,
            status=of_file(file, RequestKind.COPY),
            fileSize=file.size_bytes,
            estimatedWaitTime=file.wait_s
            if file.state in (FileState.QUEUED, FileState.IN_PROGRESS)
            else None,
            remainingFileLifetime=UNLIMITED_S
            if file.state is FileState.STORED and is_here(file.surl)
            else None,
        )
        for file, source in zip(view.files, sources, strict=True)
    ]
    return array("ArrayOfTCopyRequestFileStatus", statuses)


def one_surl(caller: Caller, text: str | None) -> SitePath:
    """Return the path that a SURL of this site names.

    Raises:
        NotFound: it is none; to whoever asks for it, it is not there.
    """
    surl = caller.broker.surls.parse(text or "")
    if not isinstance(surl, Surl):
        raise surl
    return surl.path


def surl_status(file: FileView) -> Record:
    """Return the TSURLReturnStatus of an operation that was done or not done to a file."""
    outcome = success() if file.failure is None else of_error(file.failure)
    made: Record = T.TSURLReturnStatus(surl=file.surl, status=outcome)
    return made
