"""One exchange after the other on a client's connection: requests out, answers in, over h11.

Of an exchange that is begun and taken, h11 hears only when its answer is not a plain one (`whole`).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from srm_dicom.client import whole
from srm_dicom.errors import TooLarge
from srm_dicom.web.problems import error_of
from srm_dicom.web.stream import Budget, PeerGone, Stalled, Stream

_SLOWEST_BYTES_PER_S = 16 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: status, headers (names in lower case) and the whole body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of this name, in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def raise_for_problem(self) -> None:
        """Raise what the server reported, as the same leaf of the error tree, if it reported an error."""
        if self.status >= 400:
            raise error_of(self.status, self.body)


class BrokenOff(Exception):
    """The connection broke when a part of the answer had arrived."""


class Guarded:
    """A block that is an exchange, or a part of one.

    Args:
        failed: is told of whatever the block raises; returns what is raised instead, if anything is.
    """

    __slots__ = ("_failed",)

    def __init__(self, failed: Callable[[BaseException], Exception | None]) -> None:
        self._failed = failed

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """End."""
        if error is not None and (instead := self._failed(error)):
            raise instead from error


class Exchange:
    """One connection of a client, and the exchange that is going on upon it."""

    def __init__(self, stream: Stream, sock: socket.socket, timeout_s: float, max_answer_bytes: int) -> None:
        self._stream = stream
        self._socket = sock
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._http = h11.Connection(h11.CLIENT)
        self._early: object = None
        self._untold: tuple[h11.Request, bytes] | None = None
        self._head: tuple[h11.Request | None, bytes] = (None, b"")
        self._arrived = select.poll()
        self._arrived.register(sock, select.POLLIN)

    @property
    def reusable(self) -> bool:
        """True when both sides are ready for another request; starts the next cycle."""
        if self._http.our_state is h11.IDLE and self._http.their_state is h11.IDLE:
            return True
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._socket.fileno()

    def dead(self) -> bool:
        """Tell whether anything has arrived on the idle connection: it can only be its end."""
        return bool(self._arrived.poll(0))

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def send_flag(self, flag: bytes) -> None:
        """Send the flag of httpg, a record of its own."""
        self._stream.send(flag, Budget(self._timeout_s))

    def send(self, request: h11.Request, body: bytes) -> None:
        """Send a whole request."""
        self._stream.send(self._tell(request, body), self._budget())

    def begin(self, request: h11.Request, body: bytes) -> None:
        """Send a whole request whose answer is taken with `receive_now`."""
        if self._head[0] is not request:
            self._head = request, h11.Connection(h11.CLIENT).send(request) or b""
        self._untold = request, body
        data = self._head[1] + body
        sent_bytes = self._stream.send_now(data)
        if sent_bytes < len(data):
            self._stream.send(data[sent_bytes:], self._budget())

    def send_piece(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Send a part of a request that is told piece by piece."""
        self._stream.send(self._http.send(event) or b"", self._budget())

    def invited(self, wait_s: float) -> bool:
        """Wait for the answer to ``Expect: 100-continue``; False when the final one is there instead.

        Who does not answer in `wait_s` may not know the header: then too the body may be sent.

        Raises:
            PeerGone, BrokenOff: as `receive`.
        """
        budget = Budget(wait_s)
        try:
            event = self._next_event(budget)
        except Stalled:
            return True
        if isinstance(event, h11.InformationalResponse):
            return True
        self._early = event
        return False

    def receive(self, into: Callable[[bytes], object] | None) -> Response:
        """Read a whole answer.

        Raises:
            PeerGone: the connection ended before any of it.
            BrokenOff: the connection ended in the middle.
            TooLarge: the body exceeds the bound.
        """
        budget, answer = self._budget(), _Answer(self._max_answer_bytes, into)
        while True:
            event, self._early = self._early or self._next_event(budget), None
            if response := answer.take(event):
                return response

    def receive_now(self, answer: _Answer) -> Response | None:
        """Take what has arrived of an answer, without waiting; None as long as it is not whole.

        Raises:
            PeerGone, BrokenOff, TooLarge: as `receive`.
        """
        if self._untold is not None:
            data = self._stream.receive_now()
            if data is None:
                return None
            if not data:
                raise PeerGone
            plain = whole.read(data, self._max_answer_bytes)
            if plain is not None:
                self._untold = None
                return Response(HTTPStatus.OK, *plain)
            self._tell(*self._untold)
            self._untold = None
            self._http.receive_data(data)
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                if response := answer.take(_of_answer(event)):
                    return response
            elif not self._feed(self._stream.receive_now):
                return None

    def answer(self) -> _Answer:
        """Return where an answer is collected that `receive_now` takes in pieces."""
        return _Answer(self._max_answer_bytes, None)

    def _tell(self, request: h11.Request, body: bytes) -> bytes:
        """Tell the protocol of a whole request; returns what is sent."""
        data = self._http.send(request) or b""
        if body:
            data += self._http.send(h11.Data(body)) or b""
        return data + (self._http.send(h11.EndOfMessage()) or b"")

    def _next_event(self, budget: Budget) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._feed(lambda: self._stream.receive(budget))
        return _of_answer(event)

    def _feed(self, receive: Callable[[], bytes | None]) -> bool:
        """Give what arrives to the protocol; False when that is nothing yet."""
        begun = self._http.their_state is not h11.SEND_RESPONSE or bool(self._http.trailing_data[0])
        try:
            data = receive()
        except PeerGone as error:
            raise (BrokenOff if begun else PeerGone) from error.__cause__
        if data is None:
            return False
        if not data and not begun:
            raise PeerGone
        self._http.receive_data(data)
        return True

    def _budget(self) -> Budget:
        return Budget(self._timeout_s, bytes_per_s=_SLOWEST_BYTES_PER_S)


class _Answer:
    """An answer as its events come."""

    def __init__(self, max_bytes: int, into: Callable[[bytes], object] | None) -> None:
        self._max_bytes = max_bytes
        self._into = into
        self._head: h11.Response | None = None
        self._body = bytearray()

    def take(self, event: object) -> Response | None:
        """Add an event; returns the answer when that was its last one.

        Raises:
            TooLarge: the body exceeds the bound.
        """
        if isinstance(event, h11.Response):
            self._head = event
        elif isinstance(event, h11.Data):
            if self._into is not None and self._head is not None and self._head.status_code < 300:
                self._into(bytes(event.data))
            else:
                self._add(event.data)
        elif self._head is not None and isinstance(event, h11.EndOfMessage):
            head = self._head
            headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
            return Response(head.status_code, headers, bytes(self._body))
        return None

    def _add(self, data: bytes | bytearray) -> None:
        self._body += data
        if len(self._body) > self._max_bytes:
            raise TooLarge(f"the answer is larger than {self._max_bytes} bytes")


def _of_answer(event: object) -> object:
    """Return an event if an answer may have it.

    Raises:
        BrokenOff: the peer has ended, or says something that is no answer.
    """
    if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
        raise BrokenOff
    return event
