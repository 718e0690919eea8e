"""Verbs that are known and refused, whatever the object: the answer says nothing about it."""

from __future__ import annotations

from srm_dicom.rights.declare import OpenAccess, Right, requires
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.replies import Reply


@requires(OpenAccess("touches no object"))
def clear_channel(_dialogue: Dialogue, _argument: str) -> Reply:
    """Refuse to go on without protection."""
    return Reply.of(534, "Commands stay protected.")


@requires(Right.FILE_WRITE)
def store_unique(_dialogue: Dialogue, _argument: str) -> Reply:
    """Refuse to choose a name for the client."""
    return Reply.of(502, "Names are chosen by the client here: use STOR.")
