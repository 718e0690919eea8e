"""The audit log of one process: durable before the answer, chained, fail closed.

`record` returns when the event is on the disk; `recording` has it written while its caller prepares what it
permits. Threads that record at the same time share one write and one fsync. When the disk fails, every event
that was waiting is refused with an error, so what it would have released is not released; the file is cut
back to what is durable and later events are tried anew. An event whose rule is that somebody broke the glass
brings an alarm with it, written before it. A last line that a crash has torn was never acknowledged; it is
cut off when the log is opened, and an event says so. A file that has become large is followed by another
(`segments`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import msgspec

from srm_dicom.audit import segments
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.line import GENESIS, MAX_LINE_BYTES, Line, decode, encode
from srm_dicom.clock import Clock
from srm_dicom.durable import make_directory, sync_directory
from srm_dicom.errors import ConfigError, InternalError, Overloaded, TooLarge
from srm_dicom.identity.principal import BREAK_GLASS
from srm_dicom.telemetry import logger
from srm_dicom.waits import lock_file

log = logger("audit")

SEGMENT_BYTES = 256 * 1024 * 1024
_CLOSED = -1


class Head(NamedTuple):
    """The end of a chain: the last line's number and hash."""

    seq: int
    digest: str


class AuditLog:
    """The chain of one role on one host, in ``<directory>/<role>@<host>.jsonl`` and what follows it.

    Attributes:
        path: the file that is written now.
    """

    def __init__(
        self,
        directory: Path,
        role: str,
        host: str,
        clock: Clock,
        *,
        wait_s: float = 30.0,
        max_pending: int = 10_000,
        lock_wait_s: float = 0.0,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Open or create the log and find its end.

        Args:
            directory: where logs are; made if it is not there.
            role: the process's role.
            host: this machine's name.
            clock: the time of the events.
            wait_s: how long `record` waits for the disk.
            max_pending: how many events may wait for it.
            lock_wait_s: how long to wait for another process of the same role, such as a command.
            segment_bytes: a file that has so many is followed by another.

        Raises:
            ConfigError: not writable, damaged, or another process writes it.
        """
        self.path = segments.newest(directory, f"{role}@{host}")
        self._segment_bytes = segment_bytes
        self._role, self._host, self._clock = role, host, clock
        self._wait_s, self._max_pending = wait_s, max_pending
        self._changed = threading.Condition()
        self._pending: list[bytes] = []
        self._flushing, self._torn = False, False
        self._failures = 0
        self._begun: SimpleQueue[bool] = SimpleQueue()
        self._writer: threading.Thread | None = None
        try:
            self.path, self._fd = _open_newest(self.path, clock, clock.monotonic_s() + lock_wait_s)
            try:
                self._size, self._durable, torn = _recover(self._fd)
                if self._size == 0:
                    self._durable = _head_before(self.path)
            except BaseException:
                os.close(self._fd)  # and whoever has mended it may open it
                raise
        except BlockingIOError as error:
            raise ConfigError(
                f"another process writes the audit log {self.path}", advice="Stop the service first."
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"the audit log {self.path} is not usable: {error}") from error
        self._head = self._durable
        if torn:
            self.record(
                Event(
                    action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, rule="a torn last line was cut off"
                )
            )

    @property
    def head(self) -> Head:
        """The durable end of the chain; kept elsewhere it shows later that lines were cut off."""
        with self._changed:
            return self._durable

    def record(self, *events: Event) -> None:
        """Write events and return when they are durable.

        Raises:
            InternalError: they could not be written; what they are about must not happen.
            Overloaded: too many events are waiting.
            TooLarge: one lists more objects than a line can hold.
        """
        self._wait(*self._begin(events))

    @contextmanager
    def recording(self, *events: Event) -> Iterator[None]:
        """Write events while a block prepares what they permit; it is left when they are durable.

        Raises:
            InternalError, Overloaded, TooLarge: as `record`; what the block did must be undone.
        """
        begun = self._begin(events)
        self._have_written()
        try:
            yield
        finally:
            self._wait(*begun)

    def _begin(self, events: Sequence[Event]) -> tuple[int, int]:
        """Let events wait for the disk; returns the last one's number, and the failures before it."""
        with self._changed:
            for event in events:
                if len(self._pending) >= self._max_pending:
                    raise Overloaded("too many audit events are waiting for the disk")
                if BREAK_GLASS in event.rule and event.outcome is Outcome.ALLOWED:
                    log.error("break_glass_alarm", dn=event.dn, operation=event.operation)
                    self._append(msgspec.structs.replace(event, action=Action.ALARM))
                self._append(event)
            return self._head.seq, self._failures

    def _wait(self, seq: int, failures: int) -> None:
        """Wait until an event is durable; whoever finds the disk idle writes for all that wait."""
        with self._changed:
            deadline_s = self._clock.monotonic_s() + self._wait_s
            while failures == self._failures and self._durable.seq < seq:
                if not self._flushing:
                    self._flush()
                elif not self._changed.wait(deadline_s - self._clock.monotonic_s()):
                    raise InternalError(
                        "the audit log's disk does not answer; nothing is released without it"
                    )
            if failures != self._failures:
                raise InternalError("the audit log cannot be written; nothing is released without it")

    def _have_written(self) -> None:
        """Let a thread of the log's own write what waits, if nobody does before it comes to it."""
        with self._changed:
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_begun, name="audit", daemon=True)
                self._writer.start()
        self._begun.put(True)

    def _write_begun(self) -> None:
        while self._begun.get():
            with self._changed:
                if self._pending and not self._flushing:
                    self._flush()

    def close(self) -> None:
        """Close the file; everything recorded is on the disk already, and nothing can be recorded now.

        The number of a closed descriptor is soon another file's: a thread that is late must not write to it.
        """
        self._begun.put(False)
        with self._changed:
            self._changed.wait_for(lambda: not self._flushing, self._wait_s)
            fd, self._fd = self._fd, _CLOSED
            if fd != _CLOSED:
                os.close(fd)

    def _append(self, event: Event) -> None:
        if self._fd == _CLOSED:
            raise InternalError("the audit log is closed; nothing is released without it")
        line = Line(
            seq=self._head.seq + 1,
            prev=self._head.digest,
            when=self._clock.now(),
            role=self._role,
            host=self._host,
            event=event,
        )
        raw, digest = encode(line)
        if len(raw) > MAX_LINE_BYTES:
            raise TooLarge("an audit event lists too many objects")
        self._pending.append(raw)
        self._head = Head(line.seq, digest)

    def _flush(self) -> None:
        """Write what is pending; called with the lock, which is released while the disk works."""
        batch, head = b"".join(self._pending), self._head
        self._pending.clear()
        self._flushing, written = True, False
        self._changed.release()
        try:
            written = _write(self._fd, batch, self._size, cut=self._torn)
        finally:
            self._changed.acquire()
            self._flushing, self._torn = False, not written
            if written:
                self._size, self._durable = self._size + len(batch), head
                self._turn_over()
            else:
                self._failures += 1
                self._pending.clear()
                self._head = self._durable
            self._changed.notify_all()

    def _turn_over(self) -> None:
        """Begin the next file if this one is large; where that fails, this one goes on."""
        if self._size < self._segment_bytes:
            return
        following = segments.next_of(self.path, self._durable.seq + 1)
        try:
            fd = _open(following, self._clock, 0.0)
        except OSError as error:
            log.warning("audit_segment_failed", path=following.name, reason=error.strerror)
            return
        os.close(self._fd)
        self.path, self._fd, self._size = following, fd, 0


def _write(fd: int, batch: bytes, at: int, *, cut: bool) -> bool:
    """Put a batch behind the durable part; what a failed write has left there is `cut` off before."""
    try:
        if cut:
            os.ftruncate(fd, at)
        done = 0
        while done < len(batch):
            done += os.pwrite(fd, batch[done:], at + done)
        os.fsync(fd)
    except OSError:
        return False
    return True


def head_of(files: Sequence[Path]) -> Head:
    """Return the end of a log that another process may be writing, from its segments, the oldest first.

    Raises:
        OSError: one cannot be read.
        ValueError: the last whole line is not as it was written.
    """
    for path in reversed(files):  # the newest may have no line yet
        with path.open("rb") as file:
            head = _end(file.fileno())[1]
        if head.seq:
            return head
    return Head(0, GENESIS)


def _head_before(path: Path) -> Head:
    """Return where the chain stands at the beginning of a segment.

    Raises:
        ValueError: the segment before it has been moved away, so the chain cannot go on.
    """
    files = segments.logs([path.parent])[segments.log_of(path)]
    head = head_of(files[: files.index(path)])
    if head.seq + 1 != segments.begins(path):
        raise ValueError("it has no event yet, and the file before it is not here")
    return head


def _open_newest(path: Path, clock: Clock, until_s: float) -> tuple[Path, int]:
    """Open and lock the newest segment of a log; while we wait for it another may begin one more."""
    while True:
        fd = _open(path, clock, until_s)
        newest = segments.newest(path.parent, segments.log_of(path))
        if newest == path:
            return path, fd
        os.close(fd)
        path = newest


def _open(path: Path, clock: Clock, until_s: float) -> int:
    make_directory(path.parent, mode=0o750)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        lock_file(fd, clock, until_s)
        if not os.fstat(fd).st_size:
            os.fchmod(fd, 0o640)  # whoever verifies the logs reads it, whatever umask its writer has
        sync_directory(path.parent)
    except OSError:
        os.close(fd)
        raise
    return fd


def _recover(fd: int) -> tuple[int, Head, bool]:
    """Find the durable size, the end of the chain, and whether a torn line was cut off."""
    keep, head = _end(fd)
    torn = keep < os.fstat(fd).st_size
    if torn:
        os.ftruncate(fd, keep)
        os.fsync(fd)
    return keep, head, torn


def _end(fd: int) -> tuple[int, Head]:
    """Find where the last whole line ends, and that line."""
    size = os.fstat(fd).st_size
    start = max(0, size - 2 * MAX_LINE_BYTES)
    tail = os.pread(fd, size - start, start)
    whole = tail[: tail.rfind(b"\n") + 1]
    if not whole:
        if start:
            raise ValueError("its end is not made of lines")
        return 0, Head(0, GENESIS)
    line, digest = decode(whole[:-1].rpartition(b"\n")[2])
    return start + len(whole), Head(line.seq, digest)
