"""Audit events as DICOM audit messages (PS3.15, A.5) in syslog frames (RFC 5424, RFC 5425). Pure.

What an event is in DICOM's terms is one table below. A message names pseudonymous objects only, and
says of each that it was encrypted and anonymised when its bytes left. Its last object is the line of the
hash-chained log itself, with the line's hash: whoever keeps the messages can later prove the log wrong.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.line import GENESIS, Line

OBJECTS_A_MESSAGE = 40
"""More objects go into another message: receivers take 32 KiB for sure (PS3.15, A.6)."""

_PRIORITY = 10 * 8 + 5  # facility security, severity notice
_OWN_CODES = "99SRMDICOM"
_XML: dict[str, Any] = {"encoding": "UTF-8", "xml_declaration": True}
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value of PS3.16, context groups 400 and following."""

    value: str
    meaning: str
    system: str = "DCM"


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event is in DICOM's terms.

    Attributes:
        action: EventActionCode: create, read, update, delete or execute.
        life_cycle: ParticipantObjectDataLifeCycle: 6 use, 7 de-identification, 10 export; empty for none.
    """

    event: Code
    type: Code | None = None
    action: str = "E"
    life_cycle: str = ""


_SECURITY_ALERT = Code("110113", "Security Alert")
_LOGIN = Kind(Code("110114", "User Authentication"), Code("110122", "Login"))
_RESTRICTED = Kind(_SECURITY_ALERT, Code("110132", "Use of Restricted Function"))
_LOG_USED = Kind(Code("110101", "Audit Log Used"), action="R")
_ACTIVITY = Code("110100", "Application Activity")

KINDS: dict[Action, Kind] = {
    Action.LOGIN: _LOGIN,
    Action.REFUSAL: _LOGIN,
    Action.QUERY: Kind(Code("110112", "Query"), life_cycle="6"),
    Action.DECISION: Kind(Code("110103", "DICOM Instances Accessed"), action="R", life_cycle="6"),
    Action.STAGING: Kind(Code("110104", "DICOM Instances Transferred"), action="C", life_cycle="7"),
    Action.BYTES_RELEASED: Kind(Code("110106", "Export"), action="R", life_cycle="10"),
    Action.KEY_RELEASED: Kind(_SECURITY_ALERT, Code("110132", "Use of Restricted Function"), life_cycle="10"),
    Action.RIGHTS_CHANGED: Kind(_SECURITY_ALERT, Code("110135", "Object Security Attributes Changed"), "U"),
    Action.ADMINISTRATIVE: _RESTRICTED,
    Action.ALARM: _RESTRICTED,
}
"""Every action."""

OPERATIONS: dict[str, Kind] = {
    "start": Kind(_ACTIVITY, Code("110120", "Application Start")),
    "stop": Kind(_ACTIVITY, Code("110121", "Application Stop")),
    "register": Kind(Code("110107", "Import"), action="C", life_cycle="2"),
    "audit verify": _LOG_USED,
    "audit who": _LOG_USED,
    "audit head": _LOG_USED,
    "audit forward": _LOG_USED,
}
"""Administrative acts that DICOM has a name for."""

_OUTCOMES = {Outcome.ALLOWED: "0", Outcome.DENIED: "4", Outcome.FAILED: "8"}


def kind_of(event: Event) -> Kind:
    """Return what an event is in DICOM's terms."""
    if event.action is Action.ADMINISTRATIVE:
        return OPERATIONS.get(event.operation, _RESTRICTED)
    return KINDS[event.action]


def messages(line: Line, digest: str) -> Iterator[bytes]:
    """Yield the XML messages of one line of the log: one, or several when it lists many objects.

    Args:
        line: the line.
        digest: its own hash, 64 hexadecimal digits.
    """
    objects = line.event.objects
    for start in range(0, max(1, len(objects)), OBJECTS_A_MESSAGE):
        yield etree.tostring(_message(line, digest, objects[start : start + OBJECTS_A_MESSAGE]), **_XML)


def message_of_heads(line: Line, heads: str) -> bytes:
    """Return the message that brings the heads of a site's chains to a second party.

    Args:
        line: the event of their sending, numbered 0: a message cannot have the hash of what comes after it.
        heads: as ``srm-dicom audit head`` writes them.
    """
    root = _message(line, GENESIS, ())
    _detail(root[-1], "heads", heads.encode())
    return bytes(etree.tostring(root, **_XML))


def frame(message: bytes, line: Line, sent_at: datetime) -> bytes:
    """Put a message into a syslog frame with octet counting."""
    moment = sent_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    header = f"<{_PRIORITY}>1 {moment} {line.host} srm-dicom {line.role} DICOM+RFC3881 - "
    body = header.encode("ascii", "replace") + b"\xef\xbb\xbf" + message
    return str(len(body)).encode() + b" " + body


def _message(line: Line, digest: str, objects: Sequence[str]) -> etree._Element:
    event, kind = line.event, kind_of(line.event)
    root = etree.Element("AuditMessage")
    _identification(root, line, kind)
    if event.dn or event.action is Action.REFUSAL:
        _participant(root, event.dn or "unknown", ";".join(event.fqans), requestor=True)
    server = _participant(root, f"srm-dicom {line.role}", "", requestor=not event.dn)
    server.set("NetworkAccessPointID", line.host)
    server.set("NetworkAccessPointTypeCode", "1")
    source = etree.SubElement(root, "AuditSourceIdentification", AuditSourceID=f"{line.role}@{line.host}")
    etree.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    for one in objects:
        _object(root, one, event, kind)
    _log_line(root, line, digest)
    return root


def _identification(root: etree._Element, line: Line, kind: Kind) -> None:
    event = line.event
    identification = etree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=kind.action,
        EventDateTime=line.when.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=_OUTCOMES[event.outcome],
    )
    _code(identification, "EventID", kind.event)
    if kind.type is not None:
        _code(identification, "EventTypeCode", kind.type)
    if event.operation:
        _code(identification, "EventTypeCode", Code(event.operation, event.operation, _OWN_CODES))
    if event.rule:
        etree.SubElement(identification, "EventOutcomeDescription").text = event.rule


def _participant(root: etree._Element, user: str, other: str, *, requestor: bool) -> etree._Element:
    attributes = {"UserID": user, "UserIsRequestor": "true" if requestor else "false"}
    if other:
        attributes["AlternativeUserID"] = other
    return etree.SubElement(root, "ActiveParticipant", attributes)


def _object(root: etree._Element, name: str, event: Event, kind: Kind) -> None:
    is_key = event.action is Action.KEY_RELEASED
    made = etree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=name,
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="13" if is_key else "3",
    )
    if kind.life_cycle:
        made.set("ParticipantObjectDataLifeCycle", kind.life_cycle)
    _code(made, "ParticipantObjectIDTypeCode", _type_of(name, is_key=is_key))
    if event.project:
        _detail(made, "project", event.project.encode())
    if event.action in (Action.BYTES_RELEASED, Action.STAGING):
        etree.SubElement(made, "Encrypted").text = "true"
        etree.SubElement(made, "Anonymized").text = "true"


def _type_of(name: str, *, is_key: bool) -> Code:
    if name.startswith("/"):
        return Code("12", "URI", "RFC-3881")
    if _GUID.match(name):
        return Code("guid", "GUID of a file", _OWN_CODES)
    return Code("key", "Key id", _OWN_CODES) if is_key else Code("token", "Token", _OWN_CODES)


def _log_line(root: etree._Element, line: Line, digest: str) -> None:
    made = etree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=f"{line.role}@{line.host}#{line.seq}",
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="13",
    )
    _code(made, "ParticipantObjectIDTypeCode", Code("line", "Line of the audit log", _OWN_CODES))
    _detail(made, "sha256", bytes.fromhex(digest))


def _detail(parent: etree._Element, name: str, value: bytes) -> None:
    encoded = base64.b64encode(value).decode()
    etree.SubElement(parent, "ParticipantObjectDetail", type=name, value=encoded)


def _code(parent: etree._Element, tag: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    etree.SubElement(parent, tag, attributes)
