"""A log that grows into several files stays one chain: written, verified, sought and sent as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from srm_dicom.audit import segments
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.forward import Forwarder
from srm_dicom.audit.log import AuditLog, head_of
from srm_dicom.audit.search import Hit, search
from srm_dicom.audit.verify import verify
from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError

EVENT = Event(action=Action.DECISION, outcome=Outcome.ALLOWED, dn="/CN=a", objects=("/vo/p1",), rule="x")
NAME = "front@node.example.org"


def opened(directory: Path, segment_bytes: int = 1000) -> AuditLog:
    return AuditLog(directory, "front", "node.example.org", SystemClock(), segment_bytes=segment_bytes)


def files(directory: Path) -> list[Path]:
    return segments.logs([directory])[NAME]


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A log of forty events in several files."""
    log = opened(tmp_path)
    for _ in range(40):
        log.record(EVENT)
    log.close()
    assert len(files(tmp_path)) > 5
    return tmp_path


def test_one_chain_through_all_files(grown: Path) -> None:
    assert verify(*files(grown)) == []
    assert head_of(files(grown)).seq == 40
    assert all(path.stat().st_size < 2000 for path in files(grown))


def test_the_chain_goes_on_in_the_newest_file_after_a_restart(grown: Path) -> None:
    newest = files(grown)[-1]
    log = opened(grown, segment_bytes=10**6)
    assert (log.path, log.head.seq) == (newest, 40)
    log.record(EVENT)
    log.close()
    assert verify(*files(grown)) == []


def test_no_second_chain_begins_when_all_before_an_empty_file_is_in_an_archive(grown: Path) -> None:
    segments.next_of(files(grown)[-1], 41).touch()
    archive = grown / "archive"
    archive.mkdir()
    for path in files(grown)[:-1]:
        path.rename(archive / path.name)
    with pytest.raises(ConfigError, match="the file before it is not here"):
        opened(grown)
    last = segments.logs([archive])[NAME][-1]
    last.rename(grown / last.name)
    log = opened(grown)
    assert log.head.seq == 40
    log.close()


def test_a_crash_before_the_first_line_of_a_new_file(grown: Path) -> None:
    segments.next_of(files(grown)[-1], 41).touch()
    log = opened(grown)
    assert log.head.seq == 40
    log.record(EVENT)
    log.close()
    assert verify(*files(grown)) == []


@pytest.mark.parametrize("number", [0, 2, -2])
def test_a_missing_file_is_a_gap(grown: Path, number: int) -> None:
    files(grown)[number].unlink()
    assert verify(*files(grown))


def test_an_archive_is_read_with_the_rest(grown: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for path in files(grown)[:3]:
        path.rename(archive / path.name)
    log = opened(grown)
    log.record(EVENT)
    log.close()
    assert verify(*segments.logs([grown, archive])[NAME]) == []
    hits = [one for one in search([archive, grown], {"/vo/p1"}) if isinstance(one, Hit)]
    assert [hit.line.seq for hit in hits] == list(range(1, 42))


def test_every_line_is_sent_once_and_in_order(grown: Path) -> None:
    sent: list[bytes] = []

    class Receiver:
        def send(self, frames: list[bytes]) -> None:
            sent.extend(frames)

    forwarder = Forwarder(grown, grown / "cursor.json", Receiver(), SystemClock())  # type: ignore[arg-type]
    assert forwarder.forward() == 40
    log = opened(grown)
    log.record(EVENT)
    log.close()
    assert forwarder.forward() == 1
    numbers = [int(frame.partition(b"example.org#")[2].partition(b'"')[0]) for frame in sent]
    assert numbers == list(range(1, 42))


def test_threads_write_one_chain_while_files_turn_over(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_bytes=2000)
    threads = [threading.Thread(target=lambda: [log.record(EVENT) for _ in range(25)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    log.close()
    assert verify(*files(tmp_path)) == []
    assert head_of(files(tmp_path)).seq == 150


def test_a_disk_without_room_for_a_new_file_goes_on_with_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path, segment_bytes=10)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("srm_dicom.audit.log._open", full)
        for _ in range(3):
            log.record(EVENT)
    assert len(files(tmp_path)) == 1
    log.record(EVENT)
    log.close()
    assert len(files(tmp_path)) == 2
    assert verify(*files(tmp_path)) == []


@pytest.mark.parametrize("look", [verify, lambda path: list(search([path.parent], ["/x"]))])
def test_a_line_that_is_being_written_is_not_taken_for_damaged(
    tmp_path: Path, look: Callable[[Path], list[object]]
) -> None:
    """A long one is seen in parts while its server writes it."""
    log = opened(tmp_path, segment_bytes=10**6)
    for _ in range(3):
        log.record(EVENT)
    log.close()
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with path.open("ab", buffering=0) as file:
        writer = threading.Timer(0.1, file.write, [whole[-100:]])
        writer.start()
        assert look(path) == []
        writer.join()
