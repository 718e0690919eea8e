"""One association of the receiver: reads PDUs from a socket, feeds objects to a handler, answers.

Two habits make it fast without touching the PACS. The socket has TCP_NODELAY, and TCP_QUICKACK is
armed again after every receive: a sender with Nagle's algorithm on (dcmtk, Orthanc) waits for the ACK
of each fragment, and a delayed ACK costs 40 ms an image. And nothing is decoded: fragments go to the
handler as views of the receive buffer. A C-STORE is answered when the handler's `finish` returned.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError
from srm_dicom.telemetry import logger
from srm_plugin_dicom import dimse, negotiation, pdu
from srm_plugin_dicom.dimse import Command, CommandField, Status
from srm_plugin_dicom.pdu import PduError, PduType
from srm_plugin_dicom.status import STORE_STATUS

log = logger("dicom")

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an arriving object before its first byte; never to be logged.

    Attributes:
        calling: AE title of the sender.
        address: IP address of the sender.
    """

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling: str
    address: str


class ObjectSink(Protocol):
    """Takes one object; methods may raise errors of the tree, which become the C-STORE status."""

    def write(self, chunk: memoryview) -> None:
        """Take the next bytes of the data set; the view is valid during the call only."""
        ...

    def finish(self) -> None:
        """Return when the object is durable."""
        ...

    def abandon(self) -> None:
        """The rest will not come."""
        ...


class Handler(Protocol):
    """Decides about arriving objects."""

    def begin(self, info: ObjectInfo) -> ObjectSink:
        """Open a sink for an object, or raise an error of the tree to refuse it."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a receiver.

    Attributes:
        max_associations: one more is rejected as "local limit exceeded".
        negotiate_s: how long a connection may take to ask for its association.
        idle_s: how long an association may be silent, and how long one PDU may take.
        close_s: how long a peer may take to close after our last word (the ARTIM timer).
        max_pdu_bytes: what we ask senders for; a longer PDU ends the association.
    """

    max_associations: int = 64
    negotiate_s: float = 10.0
    idle_s: float = 60.0
    close_s: float = 2.0
    max_pdu_bytes: int = 262_144


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

    def read(self, timeout_s: float) -> tuple[int, memoryview]:
        """Return type and body of the next PDU; the body is valid until the next call.

        Raises:
            TimeoutError: not within `timeout_s` after the silence before it, itself bounded by the same.
            ConnectionClosed: the peer went away.
            PduError: the PDU is longer than we said we would take.
        """
        self._connection.settimeout(timeout_s)
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
            received = self._connection.recv_into(self._view[self._end :])
            if not received:
                raise ConnectionClosed
            self._end += received
            if _QUICKACK is not None:
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            if self._end - self._start < count and self._clock.monotonic_s() > deadline_s:
                raise TimeoutError


class _Refused:
    """Swallows a data set whose command was refused, and answers the status at its end."""

    def __init__(self, error: MdmError) -> None:
        self._error = error

    def write(self, chunk: memoryview) -> None:
        """Drop it."""

    def finish(self) -> None:
        """Say what `begin` said."""
        raise self._error

    def abandon(self) -> None:
        """Do nothing."""


Admission = Callable[[str, str, str], "pdu.Rejection | None"]
"""(called title, calling title, address) to the reason of a rejection; None lets it in."""


class Association:
    """The acceptor's side, from the first byte to the close."""

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        *,
        admit: Admission,
        handler: Handler,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._connection = connection
        self._address = address
        self._admit = admit
        self._handler = handler
        self._limits = limits
        self._reader = PduReader(connection, clock, limits.max_pdu_bytes)
        self._calling = ""
        self._contexts: dict[int, pdu.AnsweredContext] = {}
        self._command_bytes = bytearray()
        self._command: Command | None = None
        self._context_id = 0
        self._sink: ObjectSink | None = None

    def run(self) -> None:
        """Serve until the peer releases, breaks a rule, goes silent or goes away."""
        try:
            if self._negotiate():
                while self._step():
                    pass
        except PduError as error:
            log.warning("association_aborted", peer=self._address, reason=str(error))
            self._send(pdu.encode_abort(error.reason))
        except TimeoutError:
            log.warning("association_timed_out", peer=self._address)
            self._send(pdu.encode_abort(pdu.AbortReason.NOT_SPECIFIED))
        except (ConnectionClosed, OSError):
            log.info("association_lost", peer=self._address)
        finally:
            if self._sink is not None:
                self._sink.abandon()

    def _negotiate(self) -> bool:
        kind, body = self._reader.read(self._limits.negotiate_s)
        if kind != PduType.ASSOCIATE_RQ:
            raise PduError("an association request was expected", pdu.AbortReason.UNEXPECTED_PDU)
        request = pdu.parse_associate_request(body)
        rejection = self._admit(request.called, request.calling, self._address)
        if not request.protocol_version & 1:
            rejection = pdu.Rejection.PROTOCOL_VERSION
        if rejection is not None:
            log.warning("association_rejected", peer=self._address, reason=rejection.name.lower())
            self._send_last(pdu.encode_associate_reject(rejection))
            return False
        answers = [negotiation.answer(context) for context in request.contexts]
        self._contexts = {each.id: each for each in answers if each.answer == pdu.ContextAnswer.ACCEPTED}
        self._calling = request.calling
        self._connection.sendall(pdu.encode_associate_accept(request, answers, self._limits.max_pdu_bytes))
        return True

    def _step(self) -> bool:
        kind, body = self._reader.read(self._limits.idle_s)
        if kind == PduType.DATA:
            for context_id, control, fragment in pdu.pdvs(body):
                self._receive(context_id, control, fragment)
            return True
        if kind == PduType.RELEASE_RQ:
            self._send_last(pdu.encode_release_reply())
            return False
        if kind == PduType.ABORT:
            return False
        raise PduError("a PDU that nobody expected", pdu.AbortReason.UNEXPECTED_PDU)

    def _receive(self, context_id: int, control: int, fragment: memoryview) -> None:
        if control & pdu.COMMAND:
            self._receive_command(context_id, fragment, last=bool(control & pdu.LAST))
            return
        if self._command is None or context_id != self._context_id:
            raise PduError("a data set without its command", pdu.AbortReason.UNEXPECTED_PDU)
        self._receive_data(self._command, fragment, last=bool(control & pdu.LAST))

    def _receive_command(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        if self._command is not None or context_id not in self._contexts:
            raise PduError("a command amid a data set or in no context", pdu.AbortReason.UNEXPECTED_PDU)
        if len(self._command_bytes) + len(fragment) > dimse.MAX_COMMAND_BYTES:
            raise PduError("a command set is too long")
        self._command_bytes += fragment
        if not last:
            return
        command = dimse.parse_command(self._command_bytes)
        self._command_bytes.clear()
        self._context_id = context_id
        if command.has_dataset:
            self._command = command
        elif command.field == CommandField.C_STORE:
            raise PduError("a C-STORE without a data set")
        elif command.field != CommandField.C_CANCEL:
            known = command.field == CommandField.C_ECHO
            self._answer(command, Status.SUCCESS if known else Status.UNRECOGNISED_OPERATION)

    def _receive_data(self, command: Command, fragment: memoryview, *, last: bool) -> None:
        if command.field == CommandField.C_STORE:
            self._store(command, fragment, last=last)
        elif last:
            self._command = None
            self._answer(command, Status.UNRECOGNISED_OPERATION)

    def _store(self, command: Command, fragment: memoryview, *, last: bool) -> None:
        if self._sink is None:
            self._sink = self._begin(command)
        try:
            self._sink.write(fragment)
        except MdmError as error:
            self._sink.abandon()
            self._sink = _Refused(error)
        if not last:
            return
        sink, self._sink, self._command = self._sink, None, None
        status = Status.SUCCESS
        try:
            sink.finish()
        except MdmError as error:
            status = STORE_STATUS[type(error)]
        self._answer(command, status)

    def _begin(self, command: Command) -> ObjectSink:
        if not command.sop_class or not command.sop_instance:
            raise PduError("a C-STORE that names no object")
        syntax = self._contexts[self._context_id].transfer_syntax
        info = ObjectInfo(command.sop_class, command.sop_instance, syntax, self._calling, self._address)
        try:
            return self._handler.begin(info)
        except MdmError as error:
            return _Refused(error)

    def _answer(self, command: Command, status: int) -> None:
        response = dimse.encode_response(command, status)
        self._connection.sendall(pdu.encode_command(self._context_id, response))

    def _send_last(self, data: bytes) -> None:
        """Answer and wait for the peer to close, which reads the answer before (PS3.8, 9.2, Sta13)."""
        self._connection.sendall(data)
        with suppress(ConnectionClosed, TimeoutError, PduError):
            self._reader.read(self._limits.close_s)

    def _send(self, data: bytes) -> None:
        """Say a last word; whether it is heard does not matter any more."""
        try:
            self._connection.sendall(data)
        except OSError:
            log.info("association_lost", peer=self._address)
