"""The data side of a door: its bounds, shared by all of its sessions, and between which addresses data go."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Self

from srm_dicom.turns import Turns
from srm_dicom.wire.gridftp.addresses import MAX_STRIPES, plain

_DYNAMIC_PORTS = (49152, 65535)
"""What is nobody's (RFC 6335, 6). The kernel, asked for any port, takes none that lingers in TIME_WAIT, and
from 7,000 files a minute on looks through all of them for every file."""
_EVERY_PORT = 65536


def _most_of(count: int) -> int:
    return max(1, count * 3 // 4)


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Bounds of data connections.

    Attributes:
        ports: first and last port to listen on; (0, 0) takes any dynamic one.
        host: address told to clients instead of the control connection's local one (behind NAT).
        connect_s: deadline of a connection with its handshake.
        stall_s: a peer that moves no byte for this long has gone.
        max_streams: connections of one transfer that we receive.
        connections: that there may be at a time.
        listeners: who listens on how many ports: one identity leaves a quarter of them to others.
        channels: who has how many connections: one identity leaves a quarter of them to others.
    """

    ports: tuple[int, int] = (20000, 20199)
    host: str | None = None
    connect_s: float = 30.0
    stall_s: float = 120.0
    max_streams: int = MAX_STRIPES
    connections: int = 4000
    listeners: Turns = field(init=False)
    channels: Turns = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count."""
        first, last = self.range
        object.__setattr__(self, "listeners", Turns(_EVERY_PORT, _most_of(last - first + 1)))
        object.__setattr__(self, "channels", Turns(self.connections, _most_of(self.connections)))

    @property
    def range(self) -> tuple[int, int]:
        """First and last port."""
        return self.ports if any(self.ports) else _DYNAMIC_PORTS


@dataclass(frozen=True, slots=True)
class Ends:
    """Between which addresses the data of a session go.

    Attributes:
        family: of the sockets.
        bind: what is listened on.
        peer: the client, in its plain form.
    """

    family: socket.AddressFamily
    bind: str
    peer: str

    @classmethod
    def of(cls, control: socket.socket, peer: str = "") -> Self:
        """Take the addresses of a control connection; `peer` names a client that is not its other end."""
        return cls(
            socket.AddressFamily(control.family),
            control.getsockname()[0],
            peer or plain(control.getpeername()[0]),
        )
