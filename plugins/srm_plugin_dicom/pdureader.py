"""Reads PDUs from a socket, fast without touching the PACS.

TCP_QUICKACK is armed again after every receive: a sender with Nagle's algorithm on (dcmtk, Orthanc)
waits for the ACK of each fragment, and a delayed ACK costs 40 ms an image. The kernel keeps the time of a
receive, not Python: that would ask before each one whether something is there, and let go of the
interpreter twice.
"""

from __future__ import annotations

import socket
import ssl
import struct

from srm_dicom.clock import Clock
from srm_plugin_dicom import pdu
from srm_plugin_dicom.pdu import PduError

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class ConnectionClosed(Exception):
    """The peer went away."""


class PduReader:
    """Reads whole PDUs into one buffer that is used again and again."""

    def __init__(self, connection: socket.socket, clock: Clock, max_pdu_bytes: int) -> None:
        self._connection = connection
        self._clock = clock
        self._max_pdu_bytes = max_pdu_bytes
        self._view = memoryview(bytearray(2 * (max_pdu_bytes + pdu.HEADER_BYTES)))
        self._start = self._end = 0
        self._timeout_s = -1.0

    def read(self, timeout_s: float) -> tuple[int, memoryview]:
        """Return type and body of the next PDU; the body is valid until the next call.

        Raises:
            TimeoutError: not within `timeout_s` after the silence before it, itself bounded by the same.
            ConnectionClosed: the peer went away.
            PduError: the PDU is longer than we said we would take.
        """
        if timeout_s != self._timeout_s:
            _bound(self._connection, timeout_s)
            self._timeout_s = timeout_s
        self._fill(1, self._clock.monotonic_s() + timeout_s)
        deadline_s = self._clock.monotonic_s() + timeout_s
        self._fill(pdu.HEADER_BYTES, deadline_s)
        kind, length = pdu.parse_header(self._take(pdu.HEADER_BYTES))
        if length > self._max_pdu_bytes:
            raise PduError("a PDU is longer than was agreed")
        self._fill(length, deadline_s)
        return kind, self._take(length)

    def _take(self, count: int) -> memoryview:
        self._start += count
        return self._view[self._start - count : self._start]

    def _fill(self, count: int, deadline_s: float) -> None:
        if self._end - self._start >= count:
            return
        if len(self._view) - self._start < count or self._start == self._end:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        while self._end - self._start < count:
            try:
                received = self._connection.recv_into(self._view[self._end :])
            except BlockingIOError:
                raise TimeoutError from None
            if not received:
                raise ConnectionClosed
            self._end += received
            if _QUICKACK is not None:
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            if self._end - self._start < count and self._clock.monotonic_s() > deadline_s:
                raise TimeoutError


def _bound(connection: socket.socket, timeout_s: float) -> None:
    """Let no receive and no send take longer."""
    if isinstance(connection, ssl.SSLSocket):  # it has to know why nothing comes
        connection.settimeout(timeout_s)
        return
    connection.settimeout(None)
    seconds, rest = divmod(max(timeout_s, 0.001), 1)
    interval = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)
