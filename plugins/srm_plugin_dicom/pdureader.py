"""Reads PDUs from a socket, fast without touching the PACS.

TCP_QUICKACK is armed again after a receive: a sender with Nagle's algorithm on (dcmtk, Orthanc) waits for
the ACK of each fragment, and a delayed ACK costs 40 ms an image. But not after the end of an object: the
packet of our answer bears that ACK.
"""

from __future__ import annotations

import socket
import ssl

from srm_dicom.clock import Clock
from srm_dicom.waits import bound_waits
from srm_plugin_dicom import pdu
from srm_plugin_dicom.pdu import PduError, PduType

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_SLACK = 1.02
"""A receive may take so much longer than it should: who waits until a fixed time would tell the kernel of
every one otherwise, by two calls."""

_CONTROL = 5
"""Where in the body of a P-DATA-TF the control header of its first fragment is (PS3.8, 9.3.5.1)."""


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
        self._wanted_s = self._bound_s = -1.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived behind the last PDU, as far as that is known."""
        return self._start == self._end

    def read(self, timeout_s: float) -> tuple[int, memoryview]:
        """Return type and body of the next PDU; the body is valid until the next call.

        Raises:
            TimeoutError: not within `timeout_s` after the silence before it, itself bounded by the same.
            ConnectionClosed: the peer went away.
            PduError: the PDU is longer than we said we would take.
        """
        self._wanted_s = timeout_s
        self._fill(1, self._clock.monotonic_s() + timeout_s)
        deadline_s = self._clock.monotonic_s() + timeout_s
        self._fill(pdu.HEADER_BYTES, deadline_s)
        kind, length = pdu.parse_header(self._take(pdu.HEADER_BYTES))
        if length > self._max_pdu_bytes:
            raise PduError("a PDU is longer than was agreed")
        self._fill(length, deadline_s, body_of=kind)
        return kind, self._take(length)

    def _take(self, count: int) -> memoryview:
        self._start += count
        return self._view[self._start - count : self._start]

    def _fill(self, count: int, deadline_s: float, *, body_of: int | None = None) -> None:
        if self._end - self._start >= count:
            return
        if len(self._view) - self._start < count or self._start == self._end:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        if not self._wanted_s <= self._bound_s <= _SLACK * self._wanted_s:
            _bound(self._connection, self._wanted_s)
            self._bound_s = self._wanted_s
        while self._end - self._start < count:
            try:
                received = self._connection.recv_into(self._view[self._end :])
            except BlockingIOError:
                raise TimeoutError from None
            if not received:
                raise ConnectionClosed
            self._end += received
            if _QUICKACK is not None and not self._is_end_of_object(count, body_of):
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            if self._end - self._start < count and self._clock.monotonic_s() > deadline_s:
                raise TimeoutError

    def _is_end_of_object(self, length: int, kind: int | None) -> bool:
        """Tell whether what is there ends with an object's last fragment; of PDUs with several it is unknown.

        Args:
            length: of the body that is being read.
            kind: of its PDU; None while that begins with its header.
        """
        at = self._start
        while True:
            if kind is None:
                if self._end - at < pdu.HEADER_BYTES:
                    return False
                kind, length = pdu.parse_header(self._view[at : at + pdu.HEADER_BYTES])
                at += pdu.HEADER_BYTES
            if self._end - at <= length:
                break
            at, kind = at + length, None
        if kind != PduType.DATA or self._end - at < length or length <= _CONTROL:
            return False
        return self._view[at + _CONTROL] & (pdu.COMMAND | pdu.LAST) == pdu.LAST


def _bound(connection: socket.socket, timeout_s: float) -> None:
    """Let no receive and no send take longer."""
    if isinstance(connection, ssl.SSLSocket):  # it has to know why nothing comes
        connection.settimeout(timeout_s)
    else:
        bound_waits(connection, timeout_s)
