"""Hosts that are some way apart: a relay that passes on whatever comes as much later as the way takes.

Servers of separate administrations do not stand on the client's own machine, where a message takes no time
and all of them share its processors. The relay is a process of its own; it delays, it does not pace.
"""

import heapq
import multiprocessing
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count

READ_BYTES = 1 << 18


@contextmanager
def apart(ports: Sequence[int], round_trip_s: float) -> Iterator[list[int]]:
    """Yield for each port of this machine another one that is half a round trip away."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ports]
    relay = multiprocessing.get_context("fork").Process(
        target=_relay, args=(listeners, ports, round_trip_s / 2), daemon=True
    )
    relay.start()
    try:
        yield [listener.getsockname()[1] for listener in listeners]
    finally:
        relay.kill()
        relay.join()
        for listener in listeners:
            listener.close()


def _relay(listeners: Sequence[socket.socket], ports: Sequence[int], delay_s: float) -> None:
    ready, under_way, numbers = selectors.DefaultSelector(), [], count()
    for listener, port in zip(listeners, ports, strict=True):
        ready.register(listener, selectors.EVENT_READ, port)
    while True:
        due_s = under_way[0][0] - time.monotonic() if under_way else None
        # A wait of the kernel's ends up to a millisecond late: the rest of the way is looked at, not slept.
        for key, _ in ready.select(due_s if due_s is None or due_s > 0.002 else 0):
            if isinstance(key.data, int):
                _connect(ready, key.fileobj, key.data)
                continue
            data = _read(key.fileobj)
            if not data:
                ready.unregister(key.fileobj)
            heapq.heappush(under_way, (time.monotonic() + delay_s, next(numbers), key.data, data))
        while under_way and under_way[0][0] <= time.monotonic():
            _pass_on(*heapq.heappop(under_way)[2:])


def _connect(ready: selectors.BaseSelector, listener: socket.socket, port: int) -> None:
    near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
    for one, other in ((near, far), (far, near)):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.register(one, selectors.EVENT_READ, other)


def _read(source: socket.socket) -> bytes:
    with suppress(ConnectionError):
        return source.recv(READ_BYTES)
    return b""


def _pass_on(target: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the other end has gone; who sent it hears of that by reading
        if data:
            target.sendall(data)
        else:
            target.shutdown(socket.SHUT_WR)
