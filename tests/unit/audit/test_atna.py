"""Audit events as DICOM messages: valid, complete, and sent until they have arrived."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from srm_dicom.audit.atna import KINDS, OBJECTS_A_MESSAGE, OPERATIONS, frame, message_of_heads, messages
from srm_dicom.audit.event import Action, Event, Outcome, printable
from srm_dicom.audit.forward import Forwarder, SyslogTls
from srm_dicom.audit.line import GENESIS, MAX_LINE_BYTES, Line
from srm_dicom.audit.log import AuditLog
from srm_dicom.audit.search import Damaged, Hit, search
from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError
from srm_dicom.testing.pki import TestPki as Pki

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))
WHEN = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
PATH = "/vo/mdm/site/heart-v1/p1/s1/r1/i1.dcm.c4gh"
GUID = "5c2a1a9e-6f3e-4f0e-9b5c-0d1f6a1f8a11"
RELEASE = Event(
    action=Action.BYTES_RELEASED,
    outcome=Outcome.ALLOWED,
    dn='/DC=test/CN=Zoë <"A&B">',
    fqans=("/biomed/radiology",),
    operation="open",
    project="heart",
    objects=(PATH, GUID),
    rule='user:"/DC=test/CN=Alice":r',
)


def xml_of(event: Event) -> list[etree._Element]:
    line = Line(seq=7, prev=GENESIS, when=WHEN, role="transfer", host="node", event=event)
    made = [etree.fromstring(message) for message in messages(line, "ab" * 32)]
    for one in made:
        SCHEMA.assertValid(one)
    return made


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("action", Action)
def test_every_action_makes_a_valid_message(action: Action, outcome: Outcome) -> None:
    assert action in KINDS
    for dn in ("", "/CN=Alice"):
        xml_of(Event(action=action, outcome=outcome, dn=dn, objects=(PATH, GUID, "k-1"), rule="x"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_administrative_acts_that_have_a_name(operation: str) -> None:
    [message] = xml_of(Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, operation=operation))
    assert message.find("EventIdentification/EventID").get("csd-code") == OPERATIONS[operation].event.value


def test_an_export_says_what_left_and_how() -> None:
    [message] = xml_of(RELEASE)
    assert message.find("EventIdentification/EventID").get("csd-code") == "110106"
    assert message.find("EventIdentification").get("EventOutcomeIndicator") == "0"
    assert message.find("ActiveParticipant").get("UserID") == RELEASE.dn
    file, guid, line = message.findall("ParticipantObjectIdentification")
    assert file.get("ParticipantObjectID") == PATH
    assert (file.findtext("Encrypted"), file.findtext("Anonymized")) == ("true", "true")
    assert guid.find("ParticipantObjectIDTypeCode").get("csd-code") == "guid"
    assert line.get("ParticipantObjectID") == "transfer@node#7"


def test_heads_travel_in_a_valid_message() -> None:
    event = Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, operation="audit head")
    line = Line(seq=0, prev=GENESIS, when=WHEN, role="admin", host="node", event=event)
    SCHEMA.assertValid(etree.fromstring(message_of_heads(line, '{"heads": {}}')))


def test_many_objects_go_into_several_messages() -> None:
    names = tuple(f"/vo/{number}" for number in range(2 * OBJECTS_A_MESSAGE + 1))
    made = xml_of(Event(action=Action.DECISION, outcome=Outcome.ALLOWED, dn="/CN=x", objects=names))
    told = [
        one.get("ParticipantObjectID") for m in made for one in m.findall("ParticipantObjectIdentification")
    ]
    assert len(made) == 3
    assert [name for name in told if "#" not in name] == list(names)


@given(st.text(max_size=600))
def test_any_text_becomes_a_rule_and_a_valid_message(text: str) -> None:
    xml_of(Event(action=Action.REFUSAL, outcome=Outcome.DENIED, rule=printable(text)))


def test_a_frame_counts_its_octets() -> None:
    line = Line(seq=1, prev=GENESIS, when=WHEN, role="front", host="node", event=RELEASE)
    [message] = messages(line, "00" * 32)
    count, _, rest = frame(message, line, WHEN).partition(b" ")
    assert int(count) == len(rest)
    header, _, body = rest.partition(b"\xef\xbb\xbf")
    assert header == b"<85>1 2026-11-21T12:30:00.000000Z node srm-dicom front DICOM+RFC3881 - "
    SCHEMA.assertValid(etree.fromstring(body))


# --- forwarding ----------------------------------------------------------------------------------


class Flaky:
    """A receiver that is down when `down` says so."""

    def __init__(self) -> None:
        self.down = False
        self.frames: list[bytes] = []

    def send(self, frames: Sequence[bytes]) -> None:
        if self.down:
            raise ConnectionRefusedError("down")
        self.frames += frames

    def lines(self) -> list[str]:
        bodies = (one.partition(b"\xef\xbb\xbf")[2] for one in self.frames)
        return [
            etree.fromstring(body).findall("ParticipantObjectIdentification")[-1].get("ParticipantObjectID")
            for body in bodies
        ]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    made = AuditLog(tmp_path, "front", "node", SystemClock())
    yield made
    made.close()


def test_what_is_queued_while_the_receiver_is_down_arrives_once(tmp_path: Path, log: AuditLog) -> None:
    receiver = Flaky()
    forwarder = Forwarder(tmp_path, tmp_path / "cursor.json", receiver, SystemClock(), batch=2)
    for _ in range(3):
        log.record(RELEASE)
    assert forwarder.forward() == 3
    receiver.down = True
    for _ in range(5):
        log.record(RELEASE)
    with pytest.raises(OSError, match="down"):
        forwarder.forward()
    receiver.down = False
    again = Forwarder(tmp_path, tmp_path / "cursor.json", receiver, SystemClock(), batch=2)
    assert again.forward() == 5
    assert again.forward() == 0
    assert receiver.lines() == [f"front@node#{number}" for number in range(1, 9)]


def test_a_changed_line_is_an_alarm_and_not_the_end(tmp_path: Path, log: AuditLog) -> None:
    for _ in range(3):
        log.record(RELEASE)
    raw = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(raw[0] + raw[1].replace(b"heart", b"lungs") + raw[2])
    receiver = Flaky()
    assert Forwarder(tmp_path, tmp_path / "c.json", receiver, SystemClock()).forward() == 3
    assert receiver.lines() == ["front@node#1", "front@node#0", "front@node#3"]
    assert b"is not as it was written" in receiver.frames[1]


def test_what_is_longer_than_any_line_is_damaged_and_holds_nothing_up(tmp_path: Path, log: AuditLog) -> None:
    log.record(RELEASE)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b"x" * (MAX_LINE_BYTES + 100) + b"\n" + whole)
    receiver = Flaky()
    Forwarder(tmp_path, tmp_path / "c.json", receiver, SystemClock()).forward()
    assert receiver.lines()[::3] == ["front@node#1", "front@node#1"]
    assert all(b"is not as it was written" in frame for frame in receiver.frames[1:3])


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path, log: AuditLog) -> None:
    log.record(RELEASE)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-10])
    receiver = Flaky()
    forwarder = Forwarder(tmp_path, tmp_path / "c.json", receiver, SystemClock())
    assert forwarder.forward() == 0
    log.path.write_bytes(whole)
    assert forwarder.forward() == 1


def test_a_damaged_cursor_is_told(tmp_path: Path, log: AuditLog) -> None:
    log.record(RELEASE)
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(ConfigError):
        Forwarder(tmp_path, tmp_path / "c.json", Flaky(), SystemClock()).forward()


def test_over_tls_to_a_receiver_that_is_who_it_says(tmp_path: Path, log: AuditLog) -> None:
    pki = Pki(tmp_path / "pki", fast=True)
    host = pki.host()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(host.certificate, host.key)
    server.load_verify_locations(capath=str(pki.trust_dir))
    server.verify_mode = ssl.CERT_REQUIRED
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        for _ in range(2):
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with server.wrap_socket(plain, server_side=True) as tls:
                    while piece := tls.recv(65536):
                        received.append(piece)
                    tls.unwrap()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    log.record(RELEASE)
    stranger = Pki(tmp_path / "other", fast=True).user("sender").client_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        Forwarder(tmp_path, tmp_path / "c", SyslogTls("localhost", port, stranger), SystemClock()).forward()
    receiver = SyslogTls("localhost", port, pki.user("sender").client_context())
    assert Forwarder(tmp_path, tmp_path / "c", receiver, SystemClock()).forward() == 1
    thread.join(10)
    listener.close()
    count, _, rest = b"".join(received).partition(b" ")
    assert int(count) == len(rest)


# --- who got it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p1", "s1", "r1", "/vo/mdm/site/heart-v1/p1", PATH, GUID])
def test_who_got_data_of_a_name(tmp_path: Path, log: AuditLog, name: str) -> None:
    log.record(Event(action=Action.LOGIN, outcome=Outcome.ALLOWED, dn="/CN=Alice"))
    log.record(Event(action=Action.DECISION, outcome=Outcome.ALLOWED, dn="/CN=Alice", objects=(PATH, GUID)))
    log.record(RELEASE)
    hits = [one for one in search([tmp_path], {name}) if isinstance(one, Hit)]
    assert [(hit.line.event.action, hit.is_release) for hit in hits] == [
        (Action.DECISION, False),
        (Action.BYTES_RELEASED, True),
    ]
    assert hits[1].line.event.rule == RELEASE.rule
    assert list(search([tmp_path], {"p", "heart", "/vo/mdm/site/heart", "i1"})) == []


def test_a_search_tells_of_lines_that_it_could_not_read(tmp_path: Path, log: AuditLog) -> None:
    log.record(RELEASE)
    log.path.write_bytes(log.path.read_bytes().replace(b"heart", b"lungs"))
    assert list(search([tmp_path], {GUID})) == [Damaged(log.path, 1)]
    assert json.loads(log.path.read_text())["seq"] == 1
