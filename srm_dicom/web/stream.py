"""A TLS connection on which no wait is without an end.

Each call takes a `Budget`: the seconds that waiting may still cost. Bytes that move earn a little back, so a
large body over a slow line passes and one byte a minute does not. Time that the program itself
spends between two calls costs nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from srm_dicom.clock import Clock

RECORD_BYTES = 64 * 1024
_BRISK_S = 0.1


class PeerGone(Exception):
    """The peer closed or broke the connection."""


class Stalled(Exception):
    """The peer used up its time."""


class Budget:
    """Seconds of waiting that are left."""

    def __init__(self, seconds: float, *, bytes_per_s: int | None = None) -> None:
        self._most_s = seconds
        self._bytes_per_s = bytes_per_s
        self.left_s = seconds

    def spend(self, seconds: float, moved_bytes: int) -> None:
        """Take off what a wait has cost and add what its bytes have earned."""
        earned_s = moved_bytes / self._bytes_per_s if self._bytes_per_s else 0.0
        self.left_s = min(self._most_s, self.left_s - seconds + earned_s)


class Stream:
    """Sends and receives on a TLS socket within budgets; not for two threads at once.

    Args:
        tls: after its handshake.
        clock: measures the waits.
        guard: called before every wait; raises when the session has to end.
    """

    def __init__(self, tls: ssl.SSLSocket, clock: Clock, guard: Callable[[], None] = lambda: None) -> None:
        self._tls = tls
        self._clock = clock
        self._guard = guard

    def receive(self, budget: Budget) -> bytes:
        """Return what arrives next, one TLS record at most; empty when the peer has closed.

        Raises:
            Stalled: nothing came within the budget.
            PeerGone: the connection broke.
        """
        started_s = self._start(budget)
        try:
            data = self._tls.recv(RECORD_BYTES)
        except TimeoutError as error:
            raise Stalled from error
        except (OSError, ValueError) as error:
            raise PeerGone from error
        budget.spend(self._clock.monotonic_s() - started_s, len(data))
        return data

    def receive_now(self) -> bytes | None:
        """Return what has arrived, one TLS record at most, without waiting; None when that is nothing.

        Raises:
            PeerGone: the connection broke.
        """
        self._guard()
        try:
            self._tls.settimeout(0.0)
            return self._tls.recv(RECORD_BYTES)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        except (OSError, ValueError) as error:
            raise PeerGone from error

    def send(self, data: bytes | memoryview, budget: Budget) -> None:
        """Send everything.

        Raises:
            Stalled: the peer did not take it within the budget.
            PeerGone: the connection broke.
        """
        view = memoryview(data)
        while view:
            started_s = self._start(budget)
            sent_bytes = self._send_briskly(view, started_s)
            budget.spend(self._clock.monotonic_s() - started_s, sent_bytes)
            view = view[sent_bytes:]

    def send_now(self, data: bytes) -> int:
        """Send what the peer takes without waiting; returns how many bytes that is.

        Raises:
            PeerGone: the connection broke.
        """
        self._guard()
        try:
            self._tls.settimeout(0.0)
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return 0
        except (OSError, ValueError) as error:
            raise PeerGone from error

    def _send_briskly(self, view: memoryview, started_s: float) -> int:
        """Send record after record for as long as the peer keeps up: a deadline costs a system call."""
        sent_bytes, elapsed_s = 0, 0.0
        try:
            while sent_bytes < len(view) and elapsed_s < _BRISK_S:
                sent_bytes += self._tls.send(view[sent_bytes:])
                elapsed_s = self._clock.monotonic_s() - started_s
        except TimeoutError as error:
            raise Stalled from error
        except (OSError, ValueError) as error:
            raise PeerGone from error
        return sent_bytes

    def linger(self, seconds: float, limit_bytes: int) -> None:
        """Throw away what still arrives, so that closing does not reset what was sent."""
        until_s = self._clock.monotonic_s() + seconds
        with suppress(OSError):
            self._farewell()
            socket.socket.shutdown(self._tls, socket.SHUT_WR)
            while limit_bytes > 0 and (left_s := until_s - self._clock.monotonic_s()) > 0:
                self._tls.settimeout(left_s)
                data = socket.socket.recv(self._tls, RECORD_BYTES)
                if not data:
                    break
                limit_bytes -= len(data)

    def close(self) -> None:
        """Say goodbye in TLS without waiting for the answer, and close."""
        with suppress(OSError, ValueError):
            self._farewell()
        self._tls.close()

    def _farewell(self) -> None:
        self._tls.setblocking(False)
        with suppress(ssl.SSLError, ValueError):  # what is wanted is our alert, not the peer's
            self._tls.unwrap()

    def _start(self, budget: Budget) -> float:
        self._guard()
        if budget.left_s <= 0:
            raise Stalled
        try:
            self._tls.settimeout(budget.left_s)
        except OSError as error:
            raise PeerGone from error
        return self._clock.monotonic_s()
