"""Verbs that are known and refused, whatever the object: the answer says nothing about it."""

from __future__ import annotations

from srm_dicom.rights.declare import OpenAccess, Right, requires
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.replies import Reply

WRITING = {
    "STOR": "RFC 959, 4.1.3",
    "STOU": "RFC 959, 4.1.3",
    "APPE": "RFC 959, 4.1.3",
    "ESTO": "GFD.020, 5.8",
    "DELE": "RFC 959, 4.1.3",
    "MKD": "RFC 959, 4.1.3",
    "RMD": "RFC 959, 4.1.3",
    "RNFR": "RFC 959, 4.1.3",
    "RNTO": "RFC 959, 4.1.3",
}
"""Verbs that change something, and their clauses."""


@requires(Right.FILE_WRITE)
def write(_dialogue: Dialogue, _argument: str) -> Reply:
    """Refuse to change anything."""
    return Reply.of(
        502,
        "GridFTP-Error-String: Permission denied",
        "This door is read-only: files come to be by registration at the site.",
    )


@requires(OpenAccess("touches no object"))
def clear_channel(_dialogue: Dialogue, _argument: str) -> Reply:
    """Refuse to go on without protection."""
    return Reply.of(534, "Commands stay protected.")
