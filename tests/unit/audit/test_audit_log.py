"""The audit log: durable, chained, refuses when the disk does."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog, Head
from srm_dicom.audit.verify import verify
from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, InternalError, TooLarge
from srm_dicom.identity.principal import Principal

EVENT = Event(
    action=Action.DECISION,
    outcome=Outcome.ALLOWED,
    dn="/DC=test/DC=mdm/CN=Alice",
    project="cohort-1",
    objects=("/vo/mdm/site/cohort-1/p/s/i.dcm.c4gh", "5c2a1a9e-6f3e-4f0e-9b5c-0d1f6a1f8a11"),
    rule="namespace ACL: user entry",
)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path, "front", "node1", SystemClock())


def lines(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_what_is_recorded_is_in_the_file_and_verifies(log: AuditLog) -> None:
    for _ in range(5):
        log.record(EVENT)
    assert log.head.seq == 5
    assert len(lines(log)) == 5
    assert b'"dn":"/DC=test/DC=mdm/CN=Alice"' in lines(log)[4]
    assert verify(log.path, known=log.head) == []


def test_an_event_of_a_principal_carries_name_and_groups() -> None:
    alice = Principal("/CN=Alice", ("/vo/a",), False, datetime(2027, 1, 1, tzinfo=UTC))
    event = Event.by(alice, Action.KEY_RELEASED, Outcome.DENIED, rule="no entry")
    assert (event.dn, event.fqans, event.rule) == ("/CN=Alice", ("/vo/a",), "no entry")


def test_the_chain_goes_on_after_a_restart(tmp_path: Path, log: AuditLog) -> None:
    log.record(EVENT)
    log.close()
    again = AuditLog(tmp_path, "front", "node1", SystemClock())
    again.record(EVENT)
    assert again.head.seq == 2
    assert verify(again.path) == []


def test_whoever_verifies_the_logs_reads_what_a_careful_root_has_begun(tmp_path: Path) -> None:
    careful = os.umask(0o077)
    try:
        AuditLog(tmp_path, "admin-0", "node", SystemClock()).close()
    finally:
        os.umask(careful)
    path = tmp_path / "admin-0@node.jsonl"
    assert path.stat().st_mode & 0o777 == 0o640
    log = AuditLog(tmp_path, "admin-0", "node", SystemClock())
    log.record(Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED))
    log.close()
    path.chmod(0o600)
    AuditLog(tmp_path, "admin-0", "node", SystemClock()).close()
    assert path.stat().st_mode & 0o777 == 0o600, "what an administrator has said later stays"


def test_a_torn_last_line_is_cut_off_and_told(tmp_path: Path, log: AuditLog) -> None:
    log.record(EVENT)
    log.close()
    with log.path.open("ab") as file:
        file.write(b'{"seq":2,"prev":"00')
    assert [problem.what for problem in verify(log.path)] == ["the line is torn"]
    again = AuditLog(tmp_path, "front", "node1", SystemClock())
    assert again.head.seq == 2
    assert b"torn last line" in lines(again)[1]
    assert verify(again.path) == []


def test_one_process_writes_a_log(tmp_path: Path, log: AuditLog) -> None:
    with pytest.raises(ConfigError, match="another process writes the audit log"):
        AuditLog(tmp_path, "front", "node1", SystemClock())
    AuditLog(tmp_path, "front", "node2", SystemClock())


def test_a_damaged_end_is_not_continued(tmp_path: Path, log: AuditLog) -> None:
    log.record(EVENT)
    log.close()
    log.path.write_bytes(log.path.read_bytes().replace(b"Alice", b"Mally"))
    with pytest.raises(ConfigError, match="changed after it was written"):
        AuditLog(tmp_path, "front", "node1", SystemClock())


def drop_third(text: list[bytes]) -> list[bytes]:
    return text[:2] + text[3:]


def swap(text: list[bytes]) -> list[bytes]:
    return [text[0], text[2], text[1], *text[3:]]


def edit(text: list[bytes]) -> list[bytes]:
    return [text[0].replace(b"Alice", b"Mally"), *text[1:]]


def edit_last(text: list[bytes]) -> list[bytes]:
    return [*text[:-1], text[-1].replace(b"allowed", b"denied")]


def repeat(text: list[bytes]) -> list[bytes]:
    return [*text, text[-1]]


def empty_line(text: list[bytes]) -> list[bytes]:
    return [text[0], b"\n", *text[1:]]


@pytest.mark.parametrize("tamper", [drop_third, swap, edit, edit_last, repeat, empty_line])
def test_verify_finds_any_edit(log: AuditLog, tamper: object) -> None:
    for _ in range(5):
        log.record(EVENT)
    log.path.write_bytes(b"".join(tamper(lines(log))))  # type: ignore[operator]
    assert verify(log.path) != []


def test_a_rewritten_line_breaks_the_chain_behind_it(log: AuditLog, tmp_path: Path) -> None:
    for _ in range(3):
        log.record(EVENT)
    forged = AuditLog(tmp_path / "elsewhere", "front", "node1", SystemClock())
    forged.record(EVENT)
    log.path.write_bytes(b"".join([*lines(forged), *lines(log)[1:]]))
    assert [problem.line for problem in verify(log.path)] == [2]


def test_a_cut_end_shows_against_a_head_kept_elsewhere(log: AuditLog) -> None:
    for _ in range(5):
        log.record(EVENT)
    head = log.head
    log.path.write_bytes(b"".join(lines(log)[:3]))
    assert verify(log.path) == []
    assert len(verify(log.path, known=head)) == 1
    assert len(verify(log.path, known=Head(3, "0" * 64))) == 1


def test_threads_share_fsyncs_and_lose_nothing(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(fd), real(fd)))

    def work() -> None:
        for _ in range(25):
            log.record(EVENT)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.head.seq == 400
    assert len(lines(log)) == 400
    assert len(calls) < 300
    assert verify(log.path, known=log.head) == []


def test_a_failing_disk_refuses_and_recovers(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.record(EVENT)

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        for _ in range(3):
            with pytest.raises(InternalError, match="nothing is released"):
                log.record(EVENT)
    assert log.head.seq == 1
    log.record(EVENT)
    assert log.head.seq == 2
    assert verify(log.path, known=log.head) == []


def test_events_are_written_while_what_they_permit_is_prepared(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, real = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (syncing.set(), real(fd)))
    for count in (2, 4):
        syncing.clear()
        with log.recording(EVENT, EVENT):
            assert syncing.wait(30)
        assert log.head.seq == count
    assert verify(log.path, known=log.head) == []


def test_a_block_is_not_left_before_its_event_is_on_the_disk(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, left, real = threading.Event(), threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (go_on.wait(30), real(fd)))

    def work() -> None:
        with log.recording(EVENT):
            pass
        left.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not left.wait(0.2)
    go_on.set()
    assert left.wait(30)
    thread.join()
    assert log.head.seq == 1


def test_a_block_hears_that_its_event_is_not_on_the_disk(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", broken)
        with pytest.raises(InternalError, match="nothing is released"), log.recording(EVENT):
            pass
    with log.recording(EVENT):
        pass
    assert log.head.seq == 1
    log.close()
    with pytest.raises(InternalError, match="closed"), log.recording(EVENT):
        pass


def test_a_failing_disk_refuses_every_waiting_thread(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def slow_then_full(_fd: int) -> None:
        gate.wait(5)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", slow_then_full)
    refused = []

    def work() -> None:
        try:
            log.record(EVENT)
        except InternalError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert len(refused) == 8


def test_a_disk_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path, "front", "node1", SystemClock(), wait_s=0.1)
    hang, started = threading.Event(), threading.Event()

    def hanging(_fd: int) -> None:
        started.set()
        hang.wait(10)

    monkeypatch.setattr(os, "fsync", hanging)
    stuck = threading.Thread(target=log.record, args=(EVENT,))
    stuck.start()
    started.wait(5)
    with pytest.raises(InternalError, match="does not answer"):
        log.record(EVENT)
    hang.set()
    stuck.join()


@pytest.mark.parametrize(
    "bad",
    ["1.2.840.113619.2.55.3.604688119", "/vo/1.2.840.10008.5.1.4.1.1.2.1/x", "Doe^Jane", "a b", "", "ä"],
)
def test_objects_that_could_name_a_patient_are_refused(bad: str) -> None:
    with pytest.raises(InternalError):
        Event(action=Action.STAGING, outcome=Outcome.ALLOWED, objects=(bad,))
    with pytest.raises(InternalError):
        Event(action=Action.STAGING, outcome=Outcome.ALLOWED, report=f"{bad}\n")


def test_a_line_is_bounded(log: AuditLog) -> None:
    objects = tuple(f"/vo/{number:01000d}" for number in range(5000))
    with pytest.raises(TooLarge):
        log.record(Event(action=Action.STAGING, outcome=Outcome.ALLOWED, objects=objects))
    log.record(EVENT)
    assert verify(log.path, known=log.head) == []


WRITER = """
import sys
from pathlib import Path
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import SystemClock
log = AuditLog(Path(sys.argv[1]), "front", "node1", SystemClock())
while True:
    log.record(Event(action=Action.DECISION, outcome=Outcome.ALLOWED))
    print(log.head.seq, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert process.stdout is not None
    acknowledged = 0
    for _ in range(50):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = AuditLog(tmp_path, "front", "node1", SystemClock())
    assert again.head.seq >= acknowledged
    assert verify(again.path) == []


def test_a_late_event_is_refused_and_touches_no_file_that_got_the_descriptor(
    log: AuditLog, tmp_path: Path
) -> None:
    log.record(EVENT)
    log.close()
    other = tmp_path / "other"
    with other.open("wb") as file:  # the lowest free number: the one that the log had
        file.write(b"somebody else's")
        file.flush()
        with pytest.raises(InternalError, match="closed"):
            log.record(EVENT)
        log.close()
        assert os.fstat(file.fileno()).st_size == len(b"somebody else's")
    assert other.read_bytes() == b"somebody else's"
    assert verify(log.path, known=log.head) == []
