"""Ports for servers that are started a moment later, perhaps while other tests start theirs.

A port that the kernel chose and that was given back may be taken before the server listens, by
another test or as the near end of a connection. So these lie below the kernel's own, and each process
takes them from a block that it has claimed by listening on the block's first.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from threading import Lock

_BLOCKS = range(10_000, 20_000, 100)


class _Block:
    def __init__(self) -> None:
        self._lock = Lock()
        self._claim = next(
            claim for first in random.sample(_BLOCKS, len(_BLOCKS)) if (claim := _listener(first)) is not None
        )
        self._first: int = self._claim.getsockname()[1]
        self._last: int = self._first

    def take(self) -> int:
        with self._lock:
            while True:
                self._last = self._first + (self._last - self._first) % (_BLOCKS.step - 1) + 1
                if (listener := _listener(self._last)) is not None:
                    listener.close()
                    return self._last


_block = cache(_Block)


def free_port() -> int:
    """Return a port that nobody listens on, and none of the last that this process was given."""
    return _block().take()


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """Return such a port for each name."""
    return {name: free_port() for name in names}


def free_pair() -> tuple[int, int]:
    """Return two such ports that follow each other."""
    first, second = free_port(), free_port()
    while second != first + 1:
        first, second = second, free_port()
    return first, second


def are_free(ports: Iterable[int]) -> bool:
    """Tell whether nobody listens on any of these."""
    for port in ports:
        listener = _listener(port)
        if listener is None:
            return False
        listener.close()
    return True


def _listener(port: int) -> socket.socket | None:
    with suppress(OSError):
        return socket.create_server(("", port))
    return None
