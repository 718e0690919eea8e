"""Bounds on waiting for a socket that the kernel keeps.

With a timeout of Python's each receive asks first whether something is there: one more system call, and one
more time to let go of the interpreter and to come back to it.
"""

from __future__ import annotations

import socket
import struct


def bound_waits(connection: socket.socket, seconds: float) -> None:
    """Let no receive and no send take longer; what does raises `BlockingIOError`. Not for TLS."""
    connection.settimeout(None)
    whole, rest = divmod(max(seconds, 0.001), 1)
    interval = struct.pack("@ll", int(whole), int(rest * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)
