"""New data connections of a MODE E transfer that we receive."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.transfer.channel import DataChannel
from srm_dicom.wire.gridftp.addresses import Address


class CannotConnect(OSError):
    """No data connection came to be; the message says between which ends."""


class Arriving:
    """New connections of a MODE E transfer that we receive: `receiving.Arrivals` over a listening port.

    Args:
        listener: does not block; None when only connections of the transfer before can carry this one.
        take: accepts one from an allowed peer, or nothing.
        ready: shakes hands; of a stranger nothing is left.
        patience_s: how long nothing may be under way.
        left: called when the port is given back.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        take: Callable[[socket.socket], tuple[socket.socket, Address] | None],
        ready: Callable[[socket.socket, Address], DataChannel | None],
        patience_s: float,
        clock: Clock,
        left: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._take = take
        self._ready = ready
        self._patience_s = patience_s
        self._clock = clock
        self._left = left
        self._until_s = clock.monotonic_s() + patience_s

    def fileno(self) -> int:
        """Return the listening port's descriptor, -1 if there is none."""
        return -1 if self._listener is None else self._listener.fileno()

    def take(self) -> Callable[[], DataChannel | None] | None:
        """Return what makes the next connection ready, or None."""
        found = None if self._listener is None else self._take(self._listener)
        if found is None:
            return None
        self._until_s = self._clock.monotonic_s() + self._patience_s
        return partial(self._ready, *found)

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
        self._left()
