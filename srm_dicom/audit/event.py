"""One audited event: who, what, on which objects, with what outcome, by which rule.

An event is one decision, not one object: it lists its objects. Objects are GUIDs, paths of the
namespace (pseudonymous by construction) and request tokens; whatever looks like a DICOM UID or has
other characters is refused here, because an audit trail is kept for years and read by many.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from srm_dicom.errors import InternalError
from srm_dicom.identity.principal import Principal

_OBJECT = re.compile(r"[A-Za-z0-9._:/@?=+-]{1,1200}\Z")
_UID = re.compile(r"(?<![A-Za-z0-9])[0-2](?:\.(?:0|[1-9][0-9]*)){5,}")
MAX_RULE_CHARS = 400
_REPORT = re.compile(r"[ -~]{0,262144}\Z")
_RULE = re.compile(rf"[ -~]{{0,{MAX_RULE_CHARS}}}\Z")


def is_object(text: str) -> bool:
    """Tell whether a text may stand among the objects of an event: no DICOM UID, no free text."""
    return bool(_OBJECT.match(text)) and not _UID.search(text)


def printable(text: str) -> str:
    """Return a text as a rule can hold it: on one line, in ASCII, not too long."""
    if text.isascii() and text.isprintable():
        return text[:MAX_RULE_CHARS]
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    return "".join(one if " " <= one <= "~" else "?" for one in ascii_text)[:MAX_RULE_CHARS]


class Action(StrEnum):
    """What was decided or done."""

    LOGIN = "login"
    REFUSAL = "refusal"
    QUERY = "query"
    DECISION = "decision"
    STAGING = "staging"
    BYTES_RELEASED = "bytes_released"
    KEY_RELEASED = "key_released"
    RIGHTS_CHANGED = "rights_changed"
    ADMINISTRATIVE = "administrative"
    ALARM = "alarm"


class Outcome(StrEnum):
    """How it ended."""

    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event; the log adds time, role, host, sequence number and chain.

    Attributes:
        action: what was decided or done.
        outcome: how it ended.
        dn: canonical name of the caller; empty for the system itself.
        fqans: the caller's groups.
        operation: the protocol's own word for what was called, such as srmPrepareToGet or RETR.
        project: the project that the data leave for; empty where none is concerned.
        objects: GUIDs, namespace paths, request tokens.
        rule: the rule that decided, in printable ASCII; never a text that a user typed.
        report: what was done to each of the objects, in printable ASCII: rules and places, no values.
    """

    action: Action
    outcome: Outcome
    dn: str = ""
    fqans: tuple[str, ...] = ()
    operation: str = ""
    project: str = ""
    objects: tuple[str, ...] = ()
    rule: str = ""
    report: str = ""

    def __post_init__(self) -> None:
        """Refuse what must not be in an audit trail.

        Raises:
            InternalError: an object is no name of this system, or the rule or report is not printable.
        """
        for one in self.objects:
            if not is_object(one):
                raise InternalError("an audit event was given an object that is no GUID, path or token")
        if not _RULE.match(self.rule):
            raise InternalError("an audit event was given a rule that is not short printable text")
        if not _REPORT.match(self.report):
            raise InternalError("an audit event was given a report that is not printable text")

    @classmethod
    def by(cls, principal: Principal, action: Action, outcome: Outcome, **details: object) -> Event:
        """Make an event of a known caller; `details` are the other fields."""
        return cls(action=action, outcome=outcome, dn=principal.dn, fqans=principal.fqans, **details)  # type: ignore[arg-type]
