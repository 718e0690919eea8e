"""Data connections that come to a listening port."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.transfer.channel import DataChannel
from srm_dicom.wire.gridftp.addresses import MAX_STRIPES, Address

Found = tuple[socket.socket, Address]
"""A connection that has come, and from where."""

STRANGERS = MAX_STRIPES
"""So many of those who have to prove that they are the user do so at the same time; others wait, ..."""
_MOST_WAITING = 2 * STRANGERS
"""... and who comes when so many wait is not wanted."""


class CannotConnect(OSError):
    """No data connection came to be; the message says between which ends."""


class Arriving:
    """The connections of a transfer that come to a listening port; a `receiving.Arrivals` in MODE E.

    Anybody can knock: the user's own come first, and however many others come, they take no stream's place.

    Args:
        listener: does not block; None when only connections of the transfer before can carry this one.
        take: accepts one from an allowed peer, or nothing.
        known: tells whose address is enough.
        ready: shakes hands; of a stranger nothing is left.
        patience_s: how long nothing may be under way.
        left: called when the port is given back.

    Attributes:
        strangers: how many have been taken that are not, or not yet, proven to be the user's.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        take: Callable[[socket.socket], Found | None],
        known: Callable[[Address], bool],
        ready: Callable[[socket.socket, Address], DataChannel | None],
        patience_s: float,
        clock: Clock,
        left: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._take = take
        self._known = known
        self._ready = ready
        self._patience_s = patience_s
        self._clock = clock
        self._left = left
        self._until_s = clock.monotonic_s() + patience_s
        self._lock = threading.Lock()
        self._waiting: deque[Found] = deque()
        self._proving = 0
        self.strangers = 0

    def fileno(self) -> int:
        """Return the listening port's descriptor, -1 if there is none."""
        return -1 if self._listener is None else self._listener.fileno()

    def take(self) -> Callable[[], DataChannel | None] | None:
        """Return what makes the next connection ready, or None."""
        found = self._known_one()
        if found is not None:
            self._until_s = self._clock.monotonic_s() + self._patience_s
            return partial(self._ready, *found)
        with self._lock:
            if not self._waiting or self._proving >= STRANGERS:
                return None
            self._proving += 1
            self.strangers += 1
        return partial(self._prove, *self._waiting.popleft())

    def _known_one(self) -> Found | None:
        """Return the next of the user's connections; who else has come waits."""
        while self._listener is not None and (found := self._take(self._listener)) is not None:
            if self._known(found[1]):
                return found
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(found)
            else:
                found[0].close()
        return None

    def _prove(self, sock: socket.socket, peer: Address) -> DataChannel | None:
        channel = None
        try:
            channel = self._ready(sock, peer)
        finally:
            with self._lock:
                self._proving -= 1
                if channel is not None:  # it was the user's all the time
                    self.strangers -= 1
                    self._until_s = self._clock.monotonic_s() + self._patience_s
        return channel

    def check_patience(self) -> None:
        """Raise when nothing has been under way for too long.

        Raises:
            CannotConnect: the sender opened no connection, or fewer than it announced.
        """
        if self._listener is None or self._clock.monotonic_s() > self._until_s:
            raise CannotConnect("the sender opened too few data connections: look for a firewall")

    def close(self) -> None:
        """Give the port back."""
        if self._listener is not None:
            self._listener.close()
        while self._waiting:
            self._waiting.popleft()[0].close()
        self._left()
