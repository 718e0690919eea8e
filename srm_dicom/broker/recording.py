"""What the audit trail is told of a group of files that was staged, or was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.errors import MdmError, ObjectRefused
from srm_dicom.ids import Guid
from srm_dicom.scratch.slot import Filled
from srm_dicom.store.namespace import Entry


def record(
    audit: AuditLog,
    group: Mapping[Guid, Filled | MdmError],
    failed: Mapping[Guid, MdmError],
    entries: Mapping[Guid, Entry],
) -> None:
    """Write an event for the files of each report, and one for those that failed."""
    reports: dict[str, list[Guid]] = {}
    for guid, item in group.items():
        if isinstance(item, Filled) and guid not in failed:
            reports.setdefault(item.report, []).append(guid)
    for report, guids in reports.items():
        _record_one(audit, Outcome.ALLOWED, guids, entries, report=report)
    if failed:
        rule = "; ".join(sorted({type(error).__name__ for error in failed.values()}))
        refusals = {error.message for error in failed.values() if isinstance(error, ObjectRefused)}
        reasons = "; ".join(sorted(refusals))
        _record_one(audit, Outcome.FAILED, list(failed), entries, rule=rule, report=reasons)


def _record_one(
    audit: AuditLog,
    outcome: Outcome,
    guids: Sequence[Guid],
    entries: Mapping[Guid, Entry],
    *,
    rule: str = "",
    report: str = "",
) -> None:
    releases = [entries[guid].release for guid in guids]
    audit.record(
        Event(
            action=Action.STAGING,
            outcome=outcome,
            operation="stage",
            project=",".join(sorted({release.project for release in releases if release})),
            objects=tuple(guids),
            rule=rule,
            report=report,
        )
    )
