"""What is decided about a name, and what the audit keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srm_dicom.audit.event import Action, Event, Outcome, is_object, printable
from srm_dicom.broker.areas import Areas
from srm_dicom.errors import MdmError
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.store.namespace import Entry

ABSENT = "no such file or directory"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One name: the entry that may be used, or the error to answer; `guessed` is what no listing shows."""

    path: SitePath
    entry: Entry | None
    error: MdmError | None
    rule: str = ""
    guessed: bool = False


def events(
    areas: Areas, principal: Principal, verdicts: Sequence[Verdict], operation: str, action: Action
) -> list[Event]:
    """Return what was decided: of what was granted, and of what was not."""
    granted = [verdict for verdict in verdicts if verdict.entry is not None]
    refused = [verdict for verdict in verdicts if verdict.entry is None]
    return [
        _event(areas, principal, chosen, operation, action, outcome)
        for outcome, chosen in ((Outcome.ALLOWED, granted), (Outcome.DENIED, refused))
        if chosen
    ]


def _event(
    areas: Areas,
    principal: Principal,
    verdicts: Sequence[Verdict],
    operation: str,
    action: Action,
    outcome: Outcome,
) -> Event:
    """Return what is audited; a name that is not there is a string that a user typed: it is not kept."""
    projects = {v.entry.release.project for v in verdicts if v.entry is not None and v.entry.release}
    known = [areas.told(verdict.path) for verdict in verdicts if verdict.rule != ABSENT]
    return Event.by(
        principal,
        action,
        outcome,
        operation=operation,
        project=",".join(sorted(projects)),
        objects=tuple(path for path in known if is_object(path)),
        rule=printable("; ".join(dict.fromkeys(verdict.rule for verdict in verdicts))),
    )
