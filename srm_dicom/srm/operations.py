"""The 39 operations: what is done, by whom it is answered, what right it checks, since when.

This table is the one source of the service, of the page of compliance and of the test that no
operation goes without a declared right. An operation that is not in `_DONE` is answered by
`ops.not_supported`; what makes it work is a file in `ops/` and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from srm_dicom.rights.declare import Declaration, declared
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.contract import contract
from srm_dicom.srm.ops import (
    abort_files,
    abort_request,
    bring_online,
    change_space_for_files,
    check_permission,
    copy,
    extend_file_life_time,
    extend_file_life_time_in_space,
    get_permission,
    get_request_summary,
    get_request_tokens,
    get_space_meta_data,
    get_space_tokens,
    get_transfer_protocols,
    ls,
    mkdir,
    mv,
    ping,
    prepare_to_get,
    prepare_to_put,
    purge_from_space,
    put_done,
    release_files,
    release_space,
    reserve_space,
    resume_request,
    rm,
    rmdir,
    set_permission,
    status_of_bring_online_request,
    status_of_change_space_for_files_request,
    status_of_copy_request,
    status_of_get_request,
    status_of_ls_request,
    status_of_put_request,
    status_of_reserve_space_request,
    status_of_update_space_request,
    suspend_request,
    update_space,
)
from srm_dicom.srm.types import Record

Handler = Callable[[Any, Caller], Record]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the contract.

    Attributes:
        name: on the wire, such as ``srmLs``.
        request, response: names of its types.
        handler: answers it.
        right: what the handler checks; None is an error that a test finds.
        since: the first version that does it.
        how: what a reader of the standard should know about our way of doing it.
    """

    name: str
    request: str
    response: str
    handler: Handler
    right: Declaration | None
    since: str
    how: str


_DONE: Mapping[str, tuple[Handler, str, str]] = {
    "srmPing": (ping.run, "0.1", "versionInfo v2.2; backend_type and backend_version in otherInfo"),
    "srmGetTransferProtocols": (get_transfer_protocols.run, "0.1", "in the site's order of preference"),
    "srmLs": (
        ls.run,
        "0.1",
        "at once, never queued; offset and count cut the first level; too long: SRM_TOO_MANY_RESULTS",
    ),
    "srmPrepareToGet": (
        prepare_to_get.run,
        "0.1",
        "the first protocol of the caller's list that is spoken here; a whole directory: SRM_NOT_SUPPORTED",
    ),
    "srmStatusOfGetRequest": (
        status_of_get_request.run,
        "0.1",
        "subsets in the order asked; the request-level status is that of all files",
    ),
    "srmReleaseFiles": (
        release_files.run,
        "0.1",
        "by token, by SURL, by both; doRemove changes nothing: what nobody pins is swept",
    ),
    "srmBringOnline": (
        bring_online.run,
        "0.1",
        "pins as a get does; a deferred start and a whole directory: SRM_NOT_SUPPORTED",
    ),
    "srmStatusOfBringOnlineRequest": (
        status_of_bring_online_request.run,
        "0.1",
        "as for a get; the token of a get is SRM_INVALID_REQUEST",
    ),
    "srmExtendFileLifeTime": (
        extend_file_life_time.run,
        "0.1",
        "with a token its pins, never shortened; without one the files, which are permanent",
    ),
    "srmPrepareToPut": (
        prepare_to_put.run,
        "0.1",
        "room and TURL at once; overwriteOption NEVER (the default) or ALWAYS; being written: SRM_FILE_BUSY",
    ),
    "srmStatusOfPutRequest": (
        status_of_put_request.run,
        "0.1",
        "as for a get; a put that nobody finished in time: SRM_REQUEST_TIMED_OUT, its files SRM_FAILURE",
    ),
    "srmPutDone": (
        put_done.run,
        "0.1",
        "when the file is stored; without its bytes: SRM_INVALID_PATH; after success: SRM_DUPLICATION_ERROR",
    ),
    "srmMkdir": (mkdir.run, "0.1", "one level; below a directory that the site has opened for writing"),
    "srmRmdir": (rmdir.run, "0.1", "recursive: all of it or nothing; with a put under way: not empty"),
    "srmRm": (rm.run, "0.1", "ends puts of the name, and gets of the file, with SRM_ABORTED"),
    "srmMv": (mv.run, "0.1", "onto itself: SRM_SUCCESS; onto a directory: into it; within one area"),
    "srmSetPermission": (
        set_permission.run,
        "0.1",
        "by the owner, not with a limited credential; userID a DN, groupID an FQAN, a mode gfal2's digit too",
    ),
    "srmCopy": (
        copy.run,
        "0.1",
        "within the site, and with srm, gsiftp and https servers, shown the credential that was delegated",
    ),
    "srmStatusOfCopyRequest": (
        status_of_copy_request.run,
        "0.1",
        "subsets by source, by target or by pairs of both",
    ),
    "srmReserveSpace": (
        reserve_space.run,
        "0.1",
        "at once; REPLICA or OUTPUT; all of it is guaranteed; a larger total: SRM_LOWER_SPACE_GRANTED",
    ),
    "srmStatusOfReserveSpaceRequest": (status_of_reserve_space_request.run, "0.1", "by the space token"),
    "srmReleaseSpace": (release_space.run, "0.1", "files stay; with a put under way: SRM_FILE_BUSY"),
    "srmUpdateSpace": (update_space.run, "0.1", "at once; not below what its files take"),
    "srmStatusOfUpdateSpaceRequest": (status_of_update_space_request.run, "0.1", "by the space token"),
    "srmGetSpaceMetaData": (get_space_meta_data.run, "0.1", "of the caller's spaces; unusedSize is counted"),
    "srmGetSpaceTokens": (get_space_tokens.run, "0.1", "the caller's own; unknown: SRM_INVALID_REQUEST"),
    "srmChangeSpaceForFiles": (change_space_for_files.run, "0.1", "at once; only accounts change"),
    "srmStatusOfChangeSpaceForFilesRequest": (
        status_of_change_space_for_files_request.run,
        "0.1",
        "no such request is left behind: SRM_INVALID_REQUEST",
    ),
    "srmExtendFileLifeTimeInSpace": (extend_file_life_time_in_space.run, "0.1", "files are permanent: -1"),
    "srmPurgeFromSpace": (purge_from_space.run, "0.1", "drops copies in scratch; the file itself stays"),
    "srmSuspendRequest": (suspend_request.run, "0.1", "what nobody has begun to stage; its time runs on"),
    "srmResumeRequest": (
        resume_request.run,
        "0.1",
        "what was suspended is queued again, or pinned if it is there",
    ),
    "srmStatusOfLsRequest": (status_of_ls_request.run, "0.1", "no such request is left behind"),
    "srmAbortFiles": (abort_files.run, "0.1", "a file that has ended stays as it is; that is a success"),
    "srmGetRequestTokens": (
        get_request_tokens.run,
        "0.1",
        "the caller's own, the newest first; a description matches to the letter",
    ),
    "srmGetRequestSummary": (
        get_request_summary.run,
        "0.1",
        "completed, waiting and failed files add up to all",
    ),
    "srmCheckPermission": (
        check_permission.run,
        "0.1",
        "of the caller; authorizationID is not looked at",
    ),
    "srmGetPermission": (
        get_permission.run,
        "0.1",
        "what srmLs shows: no member of an ACL but the caller is named",
    ),
    "srmAbortRequest": (abort_request.run, "0.1", "files that have ended stay as they are"),
}


def _operation(name: str) -> Operation:
    handler, since, how = _DONE[name]
    return Operation(
        name=name,
        request=f"{name}Request",
        response=f"{name}Response",
        handler=handler,
        right=declared(handler),
        since=since,
        how=how,
    )


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {name: _operation(name) for name in contract().operations}
)
"""Every operation of SRM v2.2 by its name on the wire, in the order of the contract."""
