"""Every bound of the HTTP server in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost.

    Attributes:
        connections: open at once; above it the oldest peer that is not yet authenticated makes room.
        connections_per_address: of them from one address; above it only a peer of that address makes room.
        connections_per_identity: of them of one authenticated caller; who has more is answered 503. Services
            such as FTS carry many users' transfers under one name, so that both bounds leave room for others
            and are not small.
        handshake_s: from accept to a verified identity.
        head_s: from the first byte of a request to the end of its headers; also the flag of httpg.
        idle_s: between two requests of one connection.
        transfer_s: what a body may be late, in either direction, ...
        slowest_bytes_per_s: ... where every byte that moves buys time at this rate.
        head_bytes: request line and headers together (431 above).
        body_bytes: one request body (413 above).
        drain_bytes: of a body that the application did not read before the connection is closed instead.
        linger_s: that a refused peer has to read why, while its unread bytes are thrown away.
    """

    connections: int = 2000
    connections_per_address: int = 1500
    connections_per_identity: int = 1500
    handshake_s: float = 10.0
    head_s: float = 15.0
    idle_s: float = 60.0
    transfer_s: float = 30.0
    slowest_bytes_per_s: int = 16 * 1024
    head_bytes: int = 32 * 1024
    body_bytes: int = 2 * 1024 * 1024
    drain_bytes: int = 64 * 1024
    linger_s: float = 1.0
