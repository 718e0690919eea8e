"""Bounds on waiting: for a socket, which the kernel keeps, and for a file that another process has locked.

With a timeout of Python's each receive of a socket asks first whether something is there: one more system
call, and one more time to let go of the interpreter and to come back to it.
"""

from __future__ import annotations

import fcntl
import socket
import struct

from srm_dicom.clock import Clock

_LOCK_AGAIN_S = 0.05


def bound_waits(connection: socket.socket, seconds: float) -> None:
    """Let no receive and no send take longer; what does raises `BlockingIOError`. Not for TLS."""
    connection.settimeout(None)
    whole, rest = divmod(max(seconds, 0.001), 1)
    interval = struct.pack("@ll", int(whole), int(rest * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)


def lock_file(descriptor: int, clock: Clock, until_s: float) -> None:
    """Lock an open file for this process alone, until it is closed.

    Raises:
        BlockingIOError: another has it until a monotonic time.
    """
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic_s() >= until_s:
                raise
            clock.sleep(_LOCK_AGAIN_S)
        else:
            return
