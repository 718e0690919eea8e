"""The C-STOREs of an association, whichever side opened it: fragments go to a sink, the sink's word back.

Nothing is decoded and nothing is held: a fragment is a view of the receive buffer. A C-STORE is answered
when the sink's `finish` returned. What is no C-STORE goes to whoever opened or accepted the association.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from srm_dicom.errors import MdmError
from srm_dicom.plugin.attending import Taking
from srm_plugin_dicom import dimse, pdu
from srm_plugin_dicom.dimse import Command, CommandField, Status
from srm_plugin_dicom.pdu import PduError
from srm_plugin_dicom.status import store_status

MAX_HEARD_BYTES = 64 << 20
"""Of all answers to one question: what a series has is told in far less."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an arriving object before its first byte; never to be logged.

    Attributes:
        calling: AE title of the sender.
        address: IP address of the sender.
        move_id: message id of the C-MOVE that it is sent for; 0 if the sender does not tell.
    """

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling: str
    address: str
    move_id: int = 0


ObjectSink = Taking
"""Takes one object; the errors of the tree that it raises become the C-STORE status."""


class Handler(Protocol):
    """Decides about arriving objects."""

    def begin(self, info: ObjectInfo) -> ObjectSink:
        """Open a sink for an object, or raise an error of the tree to refuse it."""
        ...


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


Other = Callable[[Command], "Status | None"]
"""Takes a message that is no C-STORE, after its data set, and tells what to answer, if anything."""


class StoreService:
    """What is done with the P-DATA of one association."""

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        calling: str,
        contexts: Iterable[pdu.AnsweredContext],
        handler: Handler,
        other: Other,
    ) -> None:
        """Take the accepted contexts, and who sends (`address`, `calling`)."""
        self._connection = connection
        self._address = address
        self._calling = calling
        self._contexts = {context.id: context for context in contexts}
        self._handler = handler
        self._other = other
        self._command_bytes = bytearray()
        self._command: Command | None = None
        self._context_id = 0
        self._sink: ObjectSink | None = None
        self._answers: list[bytes] | None = None
        self._answer_bytes = bytearray()
        self._heard_bytes = 0

    def hand_to(self, handler: Handler, answers: list[bytes] | None = None) -> None:
        """Give what comes from now on to another handler, and data sets that are no objects to a list."""
        self._handler, self._answers = handler, answers
        self._answer_bytes.clear()
        self._heard_bytes = 0

    def agree(self, contexts: Iterable[pdu.AnsweredContext]) -> None:
        """Take the accepted contexts, where they are known later than the rest."""
        self._contexts = {context.id: context for context in contexts}

    def receive(self, body: memoryview) -> None:
        """Take the body of a P-DATA-TF.

        Raises:
            PduError: it breaks a rule.
        """
        for context_id, control, fragment in pdu.pdvs(body):
            self._receive(context_id, control, fragment)

    def abandon(self) -> None:
        """Let go of an object whose rest will not come."""
        if self._sink is not None:
            self._sink.abandon()
            self._sink = None

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
        else:
            self._pass_on(command)

    def _receive_data(self, command: Command, fragment: memoryview, *, last: bool) -> None:
        if command.field == CommandField.C_STORE:
            self._store(command, fragment, last=last)
            return
        if self._answers is not None:
            self._hear(self._answers, fragment, last=last)
        if last:
            self._command = None
            self._pass_on(command)

    def _hear(self, answers: list[bytes], fragment: memoryview, *, last: bool) -> None:
        """Hold an identifier that answers a question."""
        self._heard_bytes += len(fragment)
        if self._heard_bytes > MAX_HEARD_BYTES:
            raise PduError("more is answered than anybody asks for")
        self._answer_bytes += fragment
        if last:
            answers.append(bytes(self._answer_bytes))
            self._answer_bytes.clear()

    def _pass_on(self, command: Command) -> None:
        status = self._other(command)
        if status is not None:
            self._answer(command, status)

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
            status = store_status(error)
        self._answer(command, status)

    def _begin(self, command: Command) -> ObjectSink:
        if not command.sop_class or not command.sop_instance:
            raise PduError("a C-STORE that names no object")
        syntax = self._contexts[self._context_id].transfer_syntax
        info = ObjectInfo(
            command.sop_class, command.sop_instance, syntax, self._calling, self._address, command.move_id
        )
        try:
            return self._handler.begin(info)
        except MdmError as error:
            return _Refused(error)

    def _answer(self, command: Command, status: int) -> None:
        response = dimse.encode_response(command, status)
        self._connection.sendall(pdu.encode_command(self._context_id, response))
