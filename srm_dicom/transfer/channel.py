"""Data connections that are ready to use: clear or TLS, never blocking longer than they may.

Sockets do not block; every wait has an end, and the caller's `Guard` is asked whether the transfer should
go on, before every wait and now and then where there is none. Clear data go by `os.sendfile`.
"""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.web.buffers import Buffers
from srm_dicom.wire.gridftp.addresses import Address

Guard = Callable[[], None]
"""Called again and again while a transfer runs; raises when it has to end."""

CHUNK_BYTES = 256 * 1024
SENDFILE_BYTES = 64 * 1024 * 1024
_GUARD_EVERY_S = 0.25
_GUARD_EVERY_BYTES = 1024 * 1024
_BUFFERS = Buffers(CHUNK_BYTES)


class DataChannel:
    """One established data connection.

    Args:
        sock: a plain socket, or an `ssl.SSLSocket` when data are encrypted; this object owns it.
        target: what it was connected to; connections to one address end at one node.
        stall_s: a peer that takes no byte for this long has gone.
        clock: for the deadlines.
        left: called once, when it is closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        target: Address,
        stall_s: float,
        clock: Clock,
        left: Callable[[], None] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.target = target
        self._stall_s = stall_s
        self._clock = clock
        self._left = left
        self._unguarded_bytes = 0
        self.private = isinstance(sock, ssl.SSLSocket)

    def send(self, data: bytes | memoryview, guard: Guard, *, more: bool = False) -> None:
        """Send all of `data`; with `more`, clear bytes may wait for what follows at once.

        Raises:
            OSError: the connection is lost or stalled.
        """
        view = memoryview(data)
        while view:
            chunk = view[:CHUNK_BYTES]
            attempt = partial(self._send_records, chunk)
            if not self.private:
                attempt = partial(self._sock.send, chunk, socket.MSG_MORE if more else 0)
            view = view[self._push(attempt, guard) :]

    def send_file(self, fd: int, start: int, end: int, guard: Guard) -> None:
        """Send the bytes of an open file from `start` to `end`.

        Raises:
            OSError: the connection is lost or stalled, or the file is shorter than it was.
        """
        if not self.private:
            self._send_pages(fd, start, end, guard)
            return
        with _BUFFERS.one() as buffer:
            while start < end:
                count = os.preadv(fd, [buffer[: end - start]], start)
                if count == 0:
                    raise _ended_early()
                self.send(buffer[:count], guard)
                start += count

    def receive_into(self, buffer: memoryview, guard: Guard) -> int:
        """Wait for bytes and return how many came; 0 at the end of the stream.

        Raises:
            OSError: the connection is lost or stalled.
        """
        return self._push(partial(self._sock.recv_into, buffer), guard, select.POLLIN)

    def close(self) -> None:
        """End the stream with a plain FIN; data connections know no close_notify."""
        self._sock.close()
        left, self._left = self._left, None
        if left is not None:
            left()

    def _send_records(self, data: memoryview) -> int:
        """Send until all has gone or no more is taken; OpenSSL takes a record of 16 KiB at a time."""
        sent = 0
        try:
            while sent < len(data):
                sent += self._sock.send(data[sent:])
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            if not sent:
                raise
        return sent

    def _send_pages(self, fd: int, start: int, end: int, guard: Guard) -> None:
        while start < end:
            count = min(SENDFILE_BYTES, end - start)
            sent = self._push(partial(os.sendfile, self._sock.fileno(), fd, start, count), guard)
            if sent == 0:
                raise _ended_early()
            start += sent

    def _push(self, attempt: Callable[[], int], guard: Guard, ready: int = select.POLLOUT) -> int:
        """Attempt until something has gone through; `ready` is what a plain socket waits for."""
        deadline_s = math.inf
        while True:
            try:
                moved_bytes = attempt()
            except BlockingIOError:
                event = ready
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            except ssl.SSLWantReadError:
                event = select.POLLIN
            else:
                self._count(moved_bytes, guard)
                return moved_bytes
            deadline_s = min(deadline_s, self._clock.monotonic_s() + self._stall_s)
            self._wait(event, guard)
            if self._clock.monotonic_s() > deadline_s:
                raise TimeoutError("the other side stopped moving data")

    def _count(self, moved_bytes: int, guard: Guard) -> None:
        self._unguarded_bytes += moved_bytes
        if self._unguarded_bytes >= _GUARD_EVERY_BYTES:
            self._unguarded_bytes = 0
            guard()

    def _wait(self, event: int, guard: Guard) -> None:
        self._unguarded_bytes = 0
        guard()
        poll = select.poll()
        poll.register(self._sock.fileno(), event)
        poll.poll(_GUARD_EVERY_S * 1000)


def _ended_early() -> OSError:
    return OSError("the file ended early")
