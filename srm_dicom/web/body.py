"""The body of a request as a file: read from the wire as the application reads it, within its limits."""

from __future__ import annotations

import io
from contextlib import suppress
from http import HTTPStatus

import h11

from srm_dicom.errors import InvalidRequest, TooLarge
from srm_dicom.web.limits import Limits
from srm_dicom.web.stream import Budget, PeerGone, Stream

_FEW_PIECES = 4096
_SMALL_PIECE_BYTES = 64
"""Pieces smaller than this on average, beyond the few, cost more time than they can be worth."""


class RequestBody(io.RawIOBase):
    """The body of the current request.

    Args:
        http: protocol state of the connection; the head of the request has been read.
        stream: where the bytes come from.
        limits: bounds of size and time.

    Raises:
        TooLarge: the declared length is above the limit; no byte of the body has been read.
    """

    def __init__(
        self, http: h11.Connection, stream: Stream, limits: Limits, declared_bytes: int | None
    ) -> None:
        super().__init__()
        self._http = http
        self._stream = stream
        self._limits = limits
        self._budget = Budget(limits.transfer_s, bytes_per_s=limits.slowest_bytes_per_s)
        self._declared_bytes = declared_bytes
        self._pending = memoryview(b"")
        self._received_bytes = 0
        self._pieces = 0
        self._check(declared_bytes or 0)

    def readable(self) -> bool:
        """Return True: that is all that it can do."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` with what comes next; 0 at the end.

        Raises:
            TooLarge: a chunked body exceeds the limit.
            InvalidRequest: its chunks are malformed.
            PeerGone: the peer left in the middle of it.
            Stalled: the peer was too slow.
        """
        if not self._pending:
            self._pending = memoryview(self._next())
        size_bytes = min(len(buffer), len(self._pending))
        buffer[:size_bytes] = self._pending[:size_bytes]
        self._pending = self._pending[size_bytes:]
        return size_bytes

    def exceeds(self, limit_bytes: int) -> bool:
        """Tell whether more than `limit_bytes` may still come; of a chunked body nobody knows.

        Nor does anybody know whether a body comes at all that has not been invited (RFC 9110, 10.1.1).
        """
        if self._http.their_state is not h11.SEND_BODY:
            return False
        if self._http.they_are_waiting_for_100_continue:
            return True
        return self._declared_bytes is None or self._declared_bytes - self._received_bytes > limit_bytes

    def drain(self, limit_bytes: int) -> None:
        """Read and forget up to `limit_bytes` that the application left."""
        with suppress(TooLarge, InvalidRequest):
            while limit_bytes > 0 and (data := self._next()):
                limit_bytes -= len(data)

    def _next(self) -> bytes:
        while self._http.their_state is h11.SEND_BODY:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise InvalidRequest("the request body is malformed") from error
            if isinstance(event, h11.Data):
                self._received_bytes += len(event.data)
                self._pieces += 1
                self._check(self._received_bytes)
                return bytes(event.data)
            if event is h11.NEED_DATA:
                self._receive()
        return b""

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._limits.body_bytes:
            raise TooLarge(f"a request body has at most {self._limits.body_bytes} bytes")
        if self._pieces > _FEW_PIECES + self._received_bytes // _SMALL_PIECE_BYTES:
            raise TooLarge("the request body comes in too many small pieces")

    def _receive(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[], reason=b"Continue")
            self._stream.send(self._http.send(go_on) or b"", self._budget)
        data = self._stream.receive(self._budget)
        if not data:
            raise PeerGone
        self._http.receive_data(data)


class BodyReader(io.BufferedReader):
    """A request's body for the application, which reads it with the bound that it sets for a body.

    A buffered reader makes room for as much as it is asked for, and gives it back to the system afterwards:
    with a bound of 32 MiB that took longer than a small call. There is no more to come than was declared.

    Args:
        body: the body.
        declared_bytes: its length; None when that is not known.
    """

    def __init__(self, body: RequestBody, declared_bytes: int | None) -> None:
        super().__init__(body)
        self._declared_bytes = declared_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end; all that is left without a size."""
        if size is not None and size > 0 and self._declared_bytes is not None:
            size = min(size, self._declared_bytes + 1)  # one more, so that the end is seen as ever
        return super().read(size)


def declared_bytes(request: h11.Request) -> int | None:
    """Return how long the body of a request is; None when that is not known before its end (chunked)."""
    for name, value in request.headers:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0
