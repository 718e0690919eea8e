"""An archive that sends on the association that we opened (C-GET): it need not reach us.

Objects come in as at the receiver, undecoded and as the archive holds them (see `proposals`). Questions
and the test of life go by pynetdicom, as with C-MOVE.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from srm_dicom.clock import Clock
from srm_dicom.errors import NotDelivered, SourceRefused, SourceUnavailable
from srm_plugin_dicom import dimse, pdu
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.dimse import Command, CommandField, Status
from srm_plugin_dicom.moves import Deliver, MoveDesk, Visit
from srm_plugin_dicom.negotiation import IMPLICIT_LITTLE_ENDIAN
from srm_plugin_dicom.pacs import PARTLY, AskedByDimse, Pacs, PacsSettings, images, refusal
from srm_plugin_dicom.pdu import PduError, PduType, ProposedContext
from srm_plugin_dicom.pdureader import ConnectionClosed, PduReader
from srm_plugin_dicom.proposals import Pair, rounds
from srm_plugin_dicom.selector import Level
from srm_plugin_dicom.stores import Handler, StoreService
from srm_plugin_dicom.tls import client_context

GET = "1.2.840.10008.5.1.4.1.2.2.3"
MAX_PDU_BYTES = 262_144
RELEASE_S = 2.0
_GET_CONTEXT = 1
_PENDING = 0xFF00


class GetArchive(AskedByDimse):
    """See the module."""

    def __init__(self, pacs: Pacs, own_title: str, desk: MoveDesk, clock: Clock) -> None:
        """Take a desk of its own: what it is asked for comes by no other way."""
        super().__init__(pacs)
        self._own_title = own_title
        self._desk = desk
        self._clock = clock

    def fetch(self, wanted: Wanted, deliver: Deliver, deadline_s: float) -> None:
        """Fetch by one C-GET, or several where the archive does not tell SOP classes.

        See `archive.Archive`.
        """
        end_s = self._clock.monotonic_s() + deadline_s
        sender = frozenset({self._pacs.settings.ae_title})
        visit = Visit(sender, wanted.instances, deliver, self._clock)
        held = self._held(wanted)
        told = [] if "" in held.values() else sorted(set(held.values()))
        with self._desk.expecting(visit):
            for pairs in rounds(told, at_once=pdu.MAX_CONTEXTS - 1):
                # Orthanc refuses the whole C-GET for one object that it does not have.
                rest = tuple(instance for instance in visit.missing() if instance in held)
                if not rest:
                    return
                self._get(Wanted(wanted.study, wanted.series, rest), pairs, end_s)

    def _held(self, wanted: Wanted) -> dict[str, str]:
        """Return which of the images the archive tells of, with their SOP classes if it tells these."""
        keys = {
            "StudyInstanceUID": wanted.study,
            "SeriesInstanceUID": wanted.series,
            "SOPInstanceUID": "",
            "SOPClassUID": "",
        }
        with self.session() as session:
            answers = session.find(Level.IMAGE, keys)
        asked = set(wanted.instances)
        told = {each.get("SOPInstanceUID", ""): each.get("SOPClassUID", "") for each in answers}
        return {instance: told[instance] for instance in told.keys() & asked}

    def _get(self, wanted: Wanted, pairs: Sequence[Pair], end_s: float) -> None:
        left_s = end_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise NotDelivered(f"the C-GET from {self.name} was not over at the deadline")
        settings = self._pacs.settings
        connection = _connect(settings, min(left_s, settings.connect_s))
        try:
            getting = _Getting(connection, settings, self._own_title, self._desk, self._clock)
            getting.run(images(wanted.study, wanted.series, wanted.instances), pairs, end_s)
        except TimeoutError:
            raise NotDelivered(f"the C-GET from {self.name} was not over at the deadline") from None
        except (OSError, ConnectionClosed, PduError):
            raise SourceUnavailable(f"{self.name} broke off while it sent") from None
        finally:
            connection.close()


@dataclass
class _Getting:
    """One association with one C-GET."""

    connection: socket.socket
    settings: PacsSettings
    own_title: str
    handler: Handler
    clock: Clock

    def __post_init__(self) -> None:
        self._reader = PduReader(self.connection, self.clock, MAX_PDU_BYTES)
        self._final: Command | None = None

    def run(self, identifier: Dataset, pairs: Sequence[Pair], end_s: float) -> None:
        accepted = self._associate(pairs)
        title, address = self.settings.ae_title, self.connection.getpeername()[0]
        stores = StoreService(self.connection, address, title, accepted.contexts, self.handler, self._take)
        try:
            self._ask(identifier, accepted.max_pdu_bytes)
            while self._final is None:
                stores.receive(self._expect(PduType.DATA, end_s - self.clock.monotonic_s()))
            self._release()
        except BaseException:
            with suppress(OSError):
                self.connection.sendall(pdu.encode_abort(pdu.AbortReason.NOT_SPECIFIED))
            raise
        finally:
            stores.abandon()
        self._judge(self._final)

    def _associate(self, pairs: Sequence[Pair]) -> pdu.AssociateAccept:
        contexts = [ProposedContext(_GET_CONTEXT, GET, (IMPLICIT_LITTLE_ENDIAN,))]
        contexts += [
            ProposedContext(_GET_CONTEXT + 2 * number, abstract, (transfer,))
            for number, (abstract, transfer) in enumerate(pairs, 1)
        ]
        classes = dict.fromkeys(abstract for abstract, _ in pairs)
        called = self.settings.ae_title
        self.connection.sendall(
            pdu.encode_associate_request(called, self.own_title, contexts, classes, MAX_PDU_BYTES)
        )
        kind, body = self._reader.read(self.settings.connect_s)
        if kind == PduType.ASSOCIATE_RJ:
            raise SourceRefused(f"{self.settings.name} rejected the association of {self.own_title}")
        if kind != PduType.ASSOCIATE_AC:
            raise PduError("the answer to an association request was expected")
        accepted = pdu.parse_associate_accept(body)
        if _GET_CONTEXT not in {context.id for context in accepted.contexts}:
            raise SourceRefused(f"{self.settings.name} does not offer C-GET to {self.own_title}")
        return accepted

    def _ask(self, identifier: Dataset, max_pdu_bytes: int) -> None:
        encoded = encode(identifier, is_implicit_vr=True, is_little_endian=True)
        if encoded is None:
            raise PduError("an identifier cannot be encoded")
        command = dimse.encode_get_request(GET, message_id=1)
        self.connection.sendall(pdu.encode_command(_GET_CONTEXT, command))
        for part in pdu.encode_dataset(_GET_CONTEXT, encoded, max_pdu_bytes):
            self.connection.sendall(part)

    def _take(self, command: Command) -> Status | None:
        if command.field != CommandField.C_GET | dimse.RESPONSE:
            return Status.UNRECOGNISED_OPERATION
        if command.status != _PENDING:
            self._final = command
        return None

    def _expect(self, wanted: PduType, timeout_s: float) -> memoryview:
        if timeout_s <= 0:
            raise TimeoutError
        kind, body = self._reader.read(timeout_s)
        if kind == PduType.ABORT:
            raise ConnectionClosed
        if kind != wanted:
            raise PduError("a PDU that nobody expected", pdu.AbortReason.UNEXPECTED_PDU)
        return body

    def _release(self) -> None:
        self.connection.sendall(pdu.encode_release_request())
        with suppress(TimeoutError, ConnectionClosed, PduError):
            self._expect(PduType.RELEASE_RP, RELEASE_S)

    def _judge(self, final: Command) -> None:
        """Raise when nothing was sent and the archive tells why; see `pacs` on what a claim is worth."""
        if final.status not in {0, PARTLY} and not final.completed and not final.failed:
            raise refusal(self.settings.name, final.status)


def _connect(settings: PacsSettings, timeout_s: float) -> socket.socket:
    """Open a connection, over TLS where that is set."""
    try:
        connection = socket.create_connection((settings.host, settings.port), timeout_s)
    except OSError:
        raise SourceUnavailable(f"{settings.name} does not answer at its DICOM port") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.tls is None:
        return connection
    try:
        context = client_context(settings.tls)
        return context.wrap_socket(connection, server_hostname=settings.tls.name or settings.host)
    except OSError:
        connection.close()
        raise SourceUnavailable(f"{settings.name} and we do not agree on TLS") from None
