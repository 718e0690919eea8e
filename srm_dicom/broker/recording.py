"""What the audit trail is told of a group of files that is staged, or was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.errors import MdmError, ObjectRefused
from srm_dicom.ids import Guid
from srm_dicom.scratch.slot import Filled
from srm_dicom.store.namespace import Entry


def staged(filled: Sequence[Filled], entries: Mapping[Guid, Entry]) -> list[Event]:
    """Return an event for the files of each report."""
    reports: dict[str, list[Guid]] = {}
    for item in filled:
        reports.setdefault(item.report, []).append(item.guid)
    return [_event(Outcome.ALLOWED, guids, entries, report=report) for report, guids in reports.items()]


def not_staged(failed: Mapping[Guid, MdmError], entries: Mapping[Guid, Entry]) -> Event:
    """Return an event for all that failed."""
    rule = "; ".join(sorted({type(error).__name__ for error in failed.values()}))
    refusals = {error.message for error in failed.values() if isinstance(error, ObjectRefused)}
    return _event(Outcome.FAILED, list(failed), entries, rule=rule, report="; ".join(sorted(refusals)))


def _event(
    outcome: Outcome,
    guids: Sequence[Guid],
    entries: Mapping[Guid, Entry],
    *,
    rule: str = "",
    report: str = "",
) -> Event:
    releases = [entries[guid].release for guid in guids]
    return Event(
        action=Action.STAGING,
        outcome=outcome,
        operation="stage",
        project=",".join(sorted({release.project for release in releases if release})),
        objects=tuple(guids),
        rule=rule,
        report=report,
    )
