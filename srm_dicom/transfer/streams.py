"""Bytes of an open file onto data connections: one in stream mode, several in MODE E."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from srm_dicom.errors import Aborted
from srm_dicom.transfer.channel import DataChannel, Guard
from srm_dicom.transfer.files import OpenedFile
from srm_dicom.wire.gridftp.blocks import BlockQueue, Flag, Header, ends_of_streams

_GUARD_EVERY_S = 0.25

Ranges = Sequence[tuple[int, int]]
T = TypeVar("T")


def send_stream(channel: DataChannel, file: OpenedFile, ranges: Ranges, guard: Guard) -> None:
    """Send ranges one after the other (MODE S); the end of the connection is the end of the file."""
    for start, end in ranges:
        _send_range(channel, file, start, end, guard)


def send_blocks(
    channels: Sequence[DataChannel],
    file: OpenedFile,
    ranges: Ranges,
    base: int,
    guard: Guard,
    ends: Sequence[Header] | None = None,
) -> None:
    """Send ranges as blocks over all connections at once (MODE E).

    Args:
        channels: at least one.
        file: the open file.
        ranges: (start, end) in the file.
        base: what offset 0 of the transfer is in the file.
        guard: called in this thread alone.
        ends: what ends each connection; left out where other nodes have no part in the transfer.

    Raises:
        OSError: a connection is lost.
    """
    queue = BlockQueue(ranges)
    if ends is None:
        ends = ends_of_streams([channel.target for channel in channels])
    if len(channels) == 1:
        _send_share(channels[0], file, queue, base, ends[0], guard)
        return
    stop = threading.Event()
    with ThreadPoolExecutor(len(channels), thread_name_prefix="stream") as pool:
        futures = [
            pool.submit(_send_share, channel, file, queue, base, end, until(stop))
            for channel, end in zip(channels, ends, strict=True)
        ]
        try:
            watch(futures, guard)
        finally:
            stop.set()


def send_pieces(channels: Sequence[DataChannel], pieces: Iterable[bytes], guard: Guard) -> None:
    """Send bytes that are not a file's (a listing) as blocks of one connection, and end every connection."""
    first, offset = channels[0], 0
    for piece in pieces:
        first.send(Header(Flag(0), len(piece), offset).encode() + piece, guard, more=True)
        offset += len(piece)
    ends = ends_of_streams([channel.target for channel in channels])
    for channel, end in zip(channels, ends, strict=True):
        channel.send(end.encode(), guard)


def _send_share(
    channel: DataChannel, file: OpenedFile, queue: BlockQueue, base: int, end: Header, guard: Guard
) -> None:
    while (block := queue.take()) is not None:
        offset, count = block
        channel.send(Header(Flag(0), count, offset - base).encode(), guard, more=True)
        _send_range(channel, file, offset, offset + count, guard)
    channel.send(end.encode(), guard)


def _send_range(channel: DataChannel, file: OpenedFile, start: int, end: int, guard: Guard) -> None:
    for extent in file.extents(start, end):
        channel.send_file(extent.fd, extent.start, extent.end, guard)


def until(stop: threading.Event) -> Guard:
    """Return a guard that ends what runs once another part of the transfer has ended."""

    def guard() -> None:
        if stop.is_set():
            raise Aborted("another part of this transfer has ended")

    return guard


def watch(futures: Sequence[Future[T]], guard: Guard) -> None:
    """Wait for all, or for the first that fails; `guard` is called meanwhile."""
    waiting: set[Future[T]] = set(futures)
    while waiting:
        guard()
        done, waiting = wait(waiting, timeout=_GUARD_EVERY_S, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
