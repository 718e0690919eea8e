"""The answering half of the WSGI bridge: what an application starts, and the bytes that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Protocol, cast

import h11

from srm_dicom.web.buffers import Buffers
from srm_dicom.web.problems import Problem

BUFFER_BYTES = 256 * 1024
"""What one answer holds of a file; larger pieces made nothing faster."""

_HEAD_BYTES = 4096
_BUFFERS = Buffers(_HEAD_BYTES + BUFFER_BYTES)

_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Part(Protocol):
    """A piece of a body of any size that is read when it is sent."""

    def __len__(self) -> int:
        """Return how many bytes there are."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer with what is at an offset; tells how far, which is never 0."""


class Response:
    """One response; its head travels together with the first bytes of its body.

    A body that has a method `parts` (bytes and `Part`s, in their order) is not iterated: an extension of
    PEP 3333 for the applications of this house.

    Args:
        http: the connection's protocol state.
        send: takes bytes for the wire; they are free again when it returns.
        method: of the request; empty when it could not be read.
        date: the ``Date`` header.
    """

    def __init__(
        self, http: h11.Connection, send: Callable[[bytes | memoryview], None], method: str, date: str
    ) -> None:
        self._http = http
        self._send = send
        self._method = method
        self._date = date
        self._headers: list[tuple[bytes, bytes]] = []
        self._on_wire = False
        self._closes: Callable[[], bool] = lambda: False
        self.status: HTTPStatus | None = None
        self.body_bytes = 0

    def closes_if(self, closes: Callable[[], bool]) -> None:
        """Ask, when the head is made, whether the connection ends with this answer, and say so then."""
        self._closes = closes

    def start(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Take status line and headers: ``start_response`` of PEP 3333.

        Raises:
            RuntimeError: a response was started before.
        """
        if exc_info and self._on_wire:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.status is not None and not exc_info:
            raise RuntimeError("the application started two responses")
        self.status = HTTPStatus(int(status[:3]))
        self._headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, the head before the first one."""
        if not data:
            return
        head = self._begin()
        body = b""
        if not self._bodiless:
            self.body_bytes += len(data)
            body = self._http.send(h11.Data(data)) or b""
        if head or body:
            self._send(head + body)

    def run(self, result: Iterable[bytes]) -> None:
        """Send the body that an application returned."""
        if isinstance(result, list | tuple):
            self._set_length(sum(map(len, result)))
        parts = getattr(result, "parts", None)
        if parts is not None:
            self._run_parts(parts())
        else:
            for data in result:
                self.write(data)
        head = self._begin()
        end = self._http.send(h11.EndOfMessage()) or b""
        if head or end:
            self._send(head + end)

    def refuse(self, problem: Problem) -> bool:
        """Answer with a problem instead, and end the connection; False when it is too late for that."""
        if self._on_wire or self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        self.status = None
        body = problem.answer(self.start)
        self._headers.append((b"Connection", b"close"))
        self.run(body)
        return True

    def _run_parts(self, parts: Iterable[bytes | Part]) -> None:
        with _BUFFERS.one() as buffer:
            for part in parts:
                if isinstance(part, bytes):
                    self.write(part)
                elif len(part) and not self._bodiless:
                    self._write_part(part, buffer)

    def _write_part(self, part: Part, buffer: memoryview) -> None:
        """Send a part through a buffer; h11 counts its bytes without seeing them."""
        ahead = self._begin()
        self.body_bytes += len(part)
        framed = self._http.send_with_data_passthrough(h11.Data(cast("bytes", part))) or []
        for piece in cast("list[bytes | Part]", framed):
            if isinstance(piece, bytes):
                ahead += piece
                continue
            self._pour(piece, buffer, ahead)
            ahead = b""
        if ahead:
            self._send(ahead)

    def _pour(self, part: Part, buffer: memoryview, ahead: bytes) -> None:
        if len(ahead) > _HEAD_BYTES:
            self._send(ahead)
            ahead = b""
        buffer[: len(ahead)] = ahead
        filled, offset = len(ahead), 0
        while offset < len(part):
            count = part.read_into(buffer[filled : filled + BUFFER_BYTES], offset)
            self._send(buffer[: filled + count])
            offset += count
            filled = 0

    @property
    def _bodiless(self) -> bool:
        return self._method == "HEAD" or self.status in _BODILESS

    def _set_length(self, size_bytes: int) -> None:
        told = any(name.lower() == b"content-length" for name, _ in self._headers)
        if not told and (size_bytes or not self._bodiless):
            self._headers.append((b"Content-Length", str(size_bytes).encode()))

    def _begin(self) -> bytes:
        if self._on_wire:
            return b""
        if self.status is None:
            raise RuntimeError("the application sent a body without a status")
        headers = [*self._headers, (b"Date", self._date.encode("ascii"))]
        if self._closes():
            headers.append((b"Connection", b"close"))
        head = h11.Response(status_code=self.status, headers=headers, reason=self.status.phrase.encode())
        sent = self._http.send(head) or b""
        self._on_wire = True
        return sent
