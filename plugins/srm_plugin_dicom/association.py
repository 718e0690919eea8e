"""One association of the receiver: reads PDUs from a socket, feeds objects to a handler, answers.

The objects themselves are the matter of `stores`, the speed that of `pdureader`.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass

from srm_dicom.clock import Clock
from srm_dicom.telemetry import logger
from srm_plugin_dicom import negotiation, pdu
from srm_plugin_dicom.admission import Admit
from srm_plugin_dicom.dimse import Command, CommandField, Status
from srm_plugin_dicom.pdu import PduError, PduType
from srm_plugin_dicom.pdureader import ConnectionClosed, PduReader
from srm_plugin_dicom.stores import Handler, StoreService

log = logger("dicom")


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


class Association:
    """The acceptor's side, from the first byte to the close."""

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        *,
        admit: Admit,
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
        self._stores: StoreService | None = None

    def run(self) -> None:
        """Serve until the peer releases, breaks a rule, goes silent or goes away."""
        try:
            self._stores = self._negotiate()
            while self._stores is not None and self._step(self._stores):
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
            if self._stores is not None:
                self._stores.abandon()

    def _negotiate(self) -> StoreService | None:
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
            return None
        answers = [negotiation.answer(context) for context in request.contexts]
        self._connection.sendall(pdu.encode_associate_accept(request, answers, self._limits.max_pdu_bytes))
        accepted = [each for each in answers if each.answer == pdu.ContextAnswer.ACCEPTED]
        return StoreService(
            self._connection, self._address, request.calling, accepted, self._handler, self._answer_other
        )

    def _answer_other(self, command: Command) -> Status | None:
        if command.field == CommandField.C_CANCEL:
            return None
        known = command.field == CommandField.C_ECHO
        return Status.SUCCESS if known else Status.UNRECOGNISED_OPERATION

    def _step(self, stores: StoreService) -> bool:
        kind, body = self._reader.read(self._limits.idle_s)
        if kind == PduType.DATA:
            stores.receive(body)
            return True
        if kind == PduType.RELEASE_RQ:
            self._send_last(pdu.encode_release_reply())
            return False
        if kind == PduType.ABORT:
            return False
        raise PduError("a PDU that nobody expected", pdu.AbortReason.UNEXPECTED_PDU)

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
