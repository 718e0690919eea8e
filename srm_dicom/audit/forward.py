"""Sends the audit logs to another machine: DICOM audit messages over syslog TLS.

The logs themselves are the queue: a cursor file says how far each one has been sent, so nothing is lost
while the receiver is down and nothing but a batch is ever in memory. Syslog has no acknowledgement; a
batch counts as sent when the receiver has answered the end of the TLS session that carried it, and is
sent again otherwise: a receiver may see a message twice and never misses one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from srm_dicom.audit import segments
from srm_dicom.audit.atna import frame, messages
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.line import GENESIS, MAX_LINE_BYTES, Line, decode
from srm_dicom.clock import Clock
from srm_dicom.durable import replace
from srm_dicom.errors import ConfigError
from srm_dicom.telemetry import logger

log = logger("audit")


class Receiver(Protocol):
    """Where frames go."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Deliver frames, in order.

        Raises:
            OSError: not all of them may have arrived.
        """
        ...


@dataclass(frozen=True, slots=True)
class SyslogTls:
    """A syslog receiver over TLS (RFC 5425); one session a batch.

    Attributes:
        context: verifies the receiver, and has our own certificate if the receiver wants one.
        timeout_s: of every step.
    """

    host: str
    port: int
    context: ssl.SSLContext
    timeout_s: float = 20.0

    def send(self, frames: Sequence[bytes]) -> None:
        """Deliver frames; see `Receiver.send`."""
        with (
            socket.create_connection((self.host, self.port), self.timeout_s) as plain,
            self.context.wrap_socket(plain, server_hostname=self.host) as tls,
        ):
            for one in frames:
                tls.sendall(one)
            with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
                tls.unwrap()  # an orderly end: what came before it has arrived


class Forwarder:
    """Sends what has not been sent of every log of a directory.

    Args:
        directory: the logs, ``*.jsonl``.
        cursor: the file that remembers how far.
        receiver: where to.
        clock: the time of sending.
        batch: lines a session.
    """

    def __init__(
        self, directory: Path, cursor: Path, receiver: Receiver, clock: Clock, *, batch: int = 500
    ) -> None:
        self._directory = directory
        self._cursor = cursor
        self._receiver = receiver
        self._clock = clock
        self._batch = batch

    def forward(self) -> int:
        """Send everything that is there; returns how many lines that were.

        Raises:
            OSError: the receiver does not take it; what it has taken is remembered.
            ConfigError: the cursor file is damaged.
        """
        sent = 0
        for path in chain.from_iterable(segments.logs([self._directory]).values()):
            while count := self._forward(path):
                sent += count
        return sent

    def _forward(self, path: Path) -> int:
        offsets = self._offsets()
        start = offsets.get(path.name, 0)
        if start > path.stat().st_size:
            start = 0  # another file of the same name
        batch = list(islice(_lines(path, start), self._batch))
        if not batch:
            return 0
        self._receiver.send([one for raw, number in batch for one in self._frames(path, raw, number)])
        self._remember(offsets | {path.name: start + sum(len(raw) for raw, _ in batch)})
        return len(batch)

    def _frames(self, path: Path, raw: bytes, offset: int) -> Iterator[bytes]:
        now = self._clock.now()
        try:
            line, digest = decode(raw[:-1])
        except ValueError as error:
            log.error("audit_line_damaged", path=path.name, reason=str(error))  # noqa: TRY400 - all is said
            line, digest = self._damaged(path, offset), GENESIS
        for message in messages(line, digest):
            yield frame(message, line, now)

    def _damaged(self, path: Path, offset: int) -> Line:
        """Return a line that tells of one that is not as it was written."""
        role, _, host = segments.log_of(path).partition("@")
        rule = f"the line at byte {offset} of {path.name} is not as it was written"
        event = Event(action=Action.ALARM, outcome=Outcome.FAILED, operation="audit forward", rule=rule)
        return Line(seq=0, prev=GENESIS, when=self._clock.now(), role=role, host=host, event=event)

    def _offsets(self) -> dict[str, int]:
        try:
            content = json.loads(self._cursor.read_text())
            return {str(name): int(offset) for name, offset in content.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"{self._cursor} is damaged", advice="Remove it: everything is sent again."
            ) from error

    def _remember(self, offsets: dict[str, int]) -> None:
        fresh = self._cursor.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(offsets, file)
            file.flush()
            os.fsync(file.fileno())
        replace(fresh, self._cursor)


def _lines(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield complete lines from an offset on, each with its own offset; and what is too long, in pieces."""
    with path.open("rb") as file:
        file.seek(start)
        at = start
        while (raw := file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n") or len(raw) > MAX_LINE_BYTES:
            yield raw, at
            at += len(raw)
