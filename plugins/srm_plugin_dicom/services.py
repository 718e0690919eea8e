"""What this plugin does of DICOM, as a table: the conformance statement's services (PS3.2, annex A).

The documentation prints it and a test holds it against the code, so neither can drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from srm_plugin_dicom import getting, moving, negotiation, pacs


@dataclass(frozen=True, slots=True)
class Service:
    """One service: `sop_class` is a UID, a prefix when it ends with a dot, or a web service's clause."""

    name: str
    role: Literal["SCU", "SCP", "user agent"]
    sop_class: str
    supported: bool
    notes: str


SERVICES = (
    Service("Verification", "SCU", pacs.ECHO, True, "srm-dicom check; a probe of a source"),
    Service("Verification", "SCP", negotiation.VERIFICATION, True, "both AEs"),
    Service(
        "Storage",
        "SCP",
        "1.2.840.10008.5.1.4.",
        True,
        "every storage class, private ones too, in every standard transfer syntax, as the PACS holds it; "
        "moves' AE: only what an open C-MOVE of ours announced; arrivals' AE: configured peers",
    ),
    Service(
        "Storage",
        "SCU",
        "1.2.840.10008.5.1.4.",
        True,
        "only what users upload, only to the archive that `uploads_to` names, and to none by default; one "
        "context an association, of the object's own transfer syntax; only status 0000 is success",
    ),
    Service("Query, study root", "SCU", pacs.FIND, True, "STUDY, SERIES, IMAGE; answers are filtered again"),
    Service(
        "Retrieve by C-MOVE, study root",
        "SCU",
        moving.MOVE,
        True,
        "IMAGE, a list of UIDs of one study; C-CANCEL when nobody waits any more",
    ),
    Service(
        "Retrieve by C-GET, study root",
        "SCU",
        getting.GET,
        True,
        "where configured; one transfer syntax a context, so that objects come as the PACS holds them; "
        "C-CANCEL as with C-MOVE",
    ),
    Service(
        "Search (QIDO-RS)",
        "user agent",
        "PS3.18 10.6",
        True,
        "studies, series, instances, as JSON, page by page; answers are filtered again",
    ),
    Service(
        "Retrieve (WADO-RS)",
        "user agent",
        "PS3.18 10.4",
        True,
        "series or instances as multipart/related application/dicom with transfer-syntax=*",
    ),
    Service("Store (STOW-RS)", "user agent", "PS3.18 10.5", False, "uploads go by C-STORE"),
    Service(
        "Secure transport connection",
        "SCU",
        "PS3.15 B.9",
        True,
        "TLS 1.2 and 1.3, certificates on both sides; for both AEs and for what we ask; no TLS is an option",
    ),
    Service("Query and retrieve", "SCP", "1.2.840.10008.5.1.4.1.2.", False, "a PACS is not asked through us"),
    Service(
        "Storage commitment",
        "SCU",
        "1.2.840.10008.1.20.1",
        False,
        "the response to a C-STORE is what an archive promises",
    ),
    Service("Storage commitment", "SCP", "1.2.840.10008.1.20.1", False, "an arrival is news, not custody"),
)
"""Every service that an administrator of a PACS might ask for."""


def as_markdown() -> str:
    """Return the table for the documentation."""
    head = ("| service | role | SOP class | supported | notes |", "|---|---|---|---|---|")
    return "\n".join((*head, *map(_row, SERVICES), ""))


def _row(service: Service) -> str:
    supported = "yes" if service.supported else "no"
    return f"| {service.name} | {service.role} | `{service.sop_class}` | {supported} | {service.notes} |"
