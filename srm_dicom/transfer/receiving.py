"""Bytes off data connections into a file: one connection in stream mode, as many as come in MODE E."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from srm_dicom.errors import InvalidRequest
from srm_dicom.transfer.arriving import STRANGERS
from srm_dicom.transfer.channel import CHUNK_BYTES, DataChannel, Guard
from srm_dicom.transfer.files import NewFile
from srm_dicom.wire.gridftp.blocks import BlockReader
from srm_dicom.wire.gridftp.ranges import Received

_LOOK_EVERY_S = 0.25


@dataclass
class Target:
    """A file that is being received: where bytes go, and which have come. Safe between threads.

    Other nodes write into the same file; `gather` is told what they have.

    Attributes:
        file: where they go.
        base: what offset 0 of the transfer is in the file.
        received: what is there, in offsets of the transfer.
        moved_bytes: what this transfer has brought to this node.
        elsewhere_bytes: what it has brought to each of the others, by number.
    """

    file: NewFile
    base: int = 0
    received: Received = field(default_factory=Received)
    moved_bytes: int = 0
    elsewhere_bytes: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes where they belong.

        Raises:
            TooLarge, NoSpace: the file may not have them, or the disk does not take them.
            InvalidRequest: they come in too many pieces.
        """
        self.file.write(self.base + offset, data)
        with self._lock:
            self.received.add(offset, offset + len(data))
            self.moved_bytes += len(data)

    def gather(self, node: int, moved_bytes: int, ranges: Iterable[tuple[int, int]]) -> None:
        """Take what another node has received, in offsets of the transfer."""
        with self._lock:
            self.elsewhere_bytes[node] = moved_bytes
            for start, end in ranges:
                self.received.add(start, end)

    @property
    def stripes(self) -> list[int]:
        """The bytes that this transfer has brought to each node, this one first."""
        with self._lock:
            return [self.moved_bytes, *(count for _, count in sorted(self.elsewhere_bytes.items()))]

    def so_far(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return the bytes that have come to this node and all ranges that are there."""
        with self._lock:
            return self.moved_bytes, tuple(self.received.ranges)

    def marker(self) -> str:
        """Return what a restart marker tells: the ranges that have been written."""
        with self._lock:
            return str(self.received)

    @property
    def end(self) -> int:
        """How many bytes the file has to have for all that came."""
        return self.base + self.received.end


def receive_stream(channel: DataChannel, target: Target, offset: int, guard: Guard) -> None:
    """Receive bytes from `offset` on until the connection ends (MODE S).

    Raises:
        OSError: the connection is lost or stalled.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while count := channel.receive_into(buffer, guard):
        target.write(buffer[:count], offset)
        offset += count


class Arrivals(Protocol):
    """Where new connections of a transfer come from.

    Attributes:
        strangers: how many of those that were taken are not, or not yet, known to be the user's.
    """

    strangers: int

    def fileno(self) -> int:
        """What polls as readable when one has come; -1 when none can."""

    def take(self) -> Callable[[], DataChannel | None] | None:
        """Return what makes the next one ready, or None when none has come.

        That shakes hands, so it is called in the connection's own thread; of a stranger it leaves nothing.
        """

    def check_patience(self) -> None:
        """Be told that no connection is under way.

        Raises:
            OSError: that has lasted for too long.
        """


@dataclass(slots=True)
class _Stream:
    """One connection of a transfer."""

    channel: DataChannel
    reader: BlockReader = field(default_factory=BlockReader)
    used: bool = False
    gone: bool = False


class BlockReceiver:
    """Receives one transfer in MODE E over connections kept from the one before and over new ones.

    The sender opens as many as it likes; one of them tells how many there are. Each has its own thread, so
    a slow one delays none of the others.

    Args:
        target: the file.
        arrivals: new connections.
        max_streams: more connections than these are refused.
    """

    def __init__(self, target: Target, arrivals: Arrivals, max_streams: int) -> None:
        self._target = target
        self._arrivals = arrivals
        self._max_streams = max_streams
        self._stop = threading.Event()
        self._streams: list[_Stream] = []
        self._futures: list[Future[None]] = []
        self._wake = -1

    def run(self, kept: Sequence[DataChannel], guard: Guard, broken: Callable[[], None]) -> list[DataChannel]:
        """Receive everything; return the connections that may carry the next transfer.

        Args:
            kept: connections of the transfer before; the sender may use them or not.
            guard: called in this thread alone.
            broken: called when the transfer has failed, before the connections are closed.

        Raises:
            InvalidRequest: what comes is not MODE E.
            OSError: a connection is lost or stalled.
        """
        with closing(_Wake()) as wake:
            self._wake = wake.fd
            try:
                self._run(kept, guard)
            except BaseException:
                try:
                    broken()
                finally:
                    for stream in self._streams:
                        stream.channel.close()
                raise
        return self._reusable()

    def _run(self, kept: Sequence[DataChannel], guard: Guard) -> None:
        with ThreadPoolExecutor(self._max_streams + STRANGERS, thread_name_prefix="stream") as pool:
            try:
                for channel in kept:
                    self._begin(pool, partial(_itself, channel))
                self._gather(pool, guard)
            finally:
                self._stop.set()
        for future in self._futures:
            future.result()

    def _begin(self, pool: ThreadPoolExecutor, ready: Callable[[], DataChannel | None]) -> None:
        if len(self._futures) - self._arrivals.strangers >= self._max_streams:
            raise InvalidRequest(f"a transfer has at most {self._max_streams} connections")
        future = pool.submit(self._receive, ready)
        self._futures.append(future)
        future.add_done_callback(lambda _: os.eventfd_write(self._wake, 1))

    def _gather(self, pool: ThreadPoolExecutor, guard: Guard) -> None:
        """Take connections until as many have ended as the sender says there are."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._arrivals.fileno() >= 0:
            poll.register(self._arrivals.fileno(), select.POLLIN)
        while True:
            idle = all(future.done() for future in self._futures)
            if self._complete():
                return
            guard()
            while (ready := self._arrivals.take()) is not None:
                self._begin(pool, ready)
                idle = False
            if idle:
                self._arrivals.check_patience()
            if any(fd == self._wake for fd, _ in poll.poll(_LOOK_EVERY_S * 1000)):
                os.eventfd_read(self._wake)

    def _complete(self) -> bool:
        done = [future for future in self._futures if future.done()]
        for future in done:
            future.result()
        ended = [stream.reader for stream in tuple(self._streams) if stream.reader.ended]
        told = [reader.connections for reader in ended if reader.connections is not None]
        return bool(told) and len(ended) >= told[0]

    def _receive(self, ready: Callable[[], DataChannel | None]) -> None:
        """Take one connection's blocks; in its own thread."""
        channel = ready()
        if channel is None:
            return
        stream = _Stream(channel)
        self._streams.append(stream)
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while stream.reader.wants:
            part = buffer[: min(stream.reader.wants, len(buffer))]
            count = self._next(stream, part)
            if not count:
                return
            place = stream.reader.feed(part[:count])
            if place is not None:
                self._target.write(part[:count], place)

    def _next(self, stream: _Stream, part: memoryview) -> int:
        """Receive; 0 when a connection that the sender has not used is over, or the transfer is."""
        try:
            count = stream.channel.receive_into(part, self._go_on)
        except (_Stopped, TimeoutError) as error:
            if stream.used:
                raise ConnectionAbortedError(str(error)) from error
            return 0
        if count:
            stream.used = True
        elif stream.used:
            raise ConnectionAbortedError("a data connection ended before its end of data")
        else:
            stream.gone = True
        return count

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped("a data connection has not ended with the transfer")

    def _reusable(self) -> list[DataChannel]:
        reusable = []
        for stream in self._streams:
            if stream.gone or stream.reader.closing:
                stream.channel.close()
            else:
                reusable.append(stream.channel)
        return reusable


class _Stopped(Exception):
    """Ends a stream when its transfer has ended without it; never leaves this module."""


class _Wake:
    """Wakes a thread that polls."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def close(self) -> None:
        os.close(self.fd)


def _itself(channel: DataChannel) -> DataChannel:
    return channel
