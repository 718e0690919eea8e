"""What the operations on spaces share."""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.spaces import SpaceView
from srm_dicom.errors import MdmError
from srm_dicom.srm.status import of_error, status, success
from srm_dicom.srm.types import Record, T


def granted(view: SpaceView) -> dict[str, Any]:
    """Return the elements of srmReserveSpace and its status that tell of a space."""
    space = view.space
    return {
        "retentionPolicyInfo": T.TRetentionPolicyInfo(
            retentionPolicy=space.policy, accessLatency=space.latency
        ),
        "sizeOfTotalReservedSpace": space.size_bytes,
        "sizeOfGuaranteedReservedSpace": space.size_bytes,
        "lifetimeOfReservedSpace": view.assigned_s,
        "spaceToken": space.token,
    }


def updated(view: SpaceView) -> dict[str, Any]:
    """Return the elements of srmUpdateSpace and its status that tell of a space."""
    size = view.space.size_bytes
    return {"sizeOfTotalSpace": size, "sizeOfGuaranteedSpace": size, "lifetimeGranted": view.left_s}


def of_size(view: SpaceView, total_bytes: int | None) -> Record:
    """Return the status of a call that got a space of a size, where a total size was wanted."""
    if total_bytes is not None and total_bytes > view.space.size_bytes:
        return status("SRM_LOWER_SPACE_GRANTED", "all of a space is guaranteed, and it is no larger")
    return success()


def outcome(failure: MdmError | None) -> Record:
    """Return the TReturnStatus of one file."""
    return success() if failure is None else of_error(failure)


def surl_outcome(surl: str, failure: MdmError | None) -> Record:
    """Return the TSURLReturnStatus of one file."""
    made: Record = T.TSURLReturnStatus(surl=surl, status=outcome(failure))
    return made
