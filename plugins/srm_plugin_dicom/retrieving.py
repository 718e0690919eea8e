"""An association that we opened: to have images sent, by C-GET on itself or by C-MOVE to an AE, or to store.

What comes on it goes through `stores`, as at the receiver: undecoded, and answered by the handler's word.
An association bears one request after the other, so it can be kept for the next one (`Associations`).
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf

from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthorised, NotDelivered, SourceRefused, SourceSlow, SourceUnavailable
from srm_plugin_dicom import dimse, pdu
from srm_plugin_dicom.archive import nobody_waits
from srm_plugin_dicom.dimse import Command, Status
from srm_plugin_dicom.kept import KEEP_S, Kept
from srm_plugin_dicom.pacs import PacsSettings
from srm_plugin_dicom.pdu import PduError, PduType, ProposedContext
from srm_plugin_dicom.pdureader import ConnectionClosed, PduReader
from srm_plugin_dicom.proposals import Pair
from srm_plugin_dicom.stores import Handler, ObjectInfo, ObjectSink, StoreService
from srm_plugin_dicom.tls import client_context

MAX_PDU_BYTES = 262_144
RELEASE_S = 2.0
CONTEXT, ASKING, FIRST_STORED = 1, 3, 5
"""The presentation contexts of the request itself, of questions where these are asked too, and of what is
stored to us."""

Content = bytes | memoryview
"""The data set of a request in the transfer syntax of its context: an identifier, or an object."""

WORTH_HEARING, HEARD_EVERY_S, RESTED_S = 8, 0.01, 0.1
"""After so many pending responses an archive is heard less often: it sends one for each image, which arrive
by another association, and to wake for each takes as long as to receive a small one. Where it is known when
the last image has come, it is heard then, and before that as often as it takes to let it go on talking."""

LOOK_S = 0.25
"""What is stored to us may come by another association: so often it is asked whether it has begun, or whether
anybody still waits for it."""

CANCEL_S = 5.0
"""How long an archive may take to heed a C-CANCEL; then its association is aborted."""

_PENDING = 0xFF00


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the first of what a request is for may take, whether it has come, and anybody still waits.

    Attributes:
        rest: returns when the last of it has come, or after so many seconds.
    """

    first_s: float = inf
    has_begun: Callable[[], bool] = lambda: False
    is_wanted: Callable[[], bool] = lambda: True
    rest: Callable[[float], object] | None = None


ENDLESS = Patience()


class Retrieving:
    """One association; for one thread at a time. What fails on it ends it.

    Attributes:
        answered: whether the archive has begun to answer the last request.
    """

    def __init__(
        self,
        settings: PacsSettings,
        own_title: str,
        contexts: Sequence[ProposedContext],
        clock: Clock,
        *,
        timeout_s: float,
        asks: str = "what it asks for",
    ) -> None:
        """Connect and associate.

        Args:
            settings: where the archive is.
            own_title: our AE title.
            contexts: the first is that of the request, with the id `CONTEXT`; perhaps `ASKING` follows.
            clock: for deadlines.
            timeout_s: for the connection and for the answer, each.
            asks: what the first context is for, in words for people.

        Raises:
            SourceUnavailable, SourceRefused: it does not answer, or not to us.
        """
        self.answered = False
        self._settings = settings
        self._own_title = own_title
        self._clock = clock
        self._asks = asks
        self._connection, address = _connect(settings, timeout_s)
        self._poll = select.poll()  # select() bears no descriptor above 1023
        self._poll.register(self._connection, select.POLLIN)
        self._reader = PduReader(self._connection, clock, MAX_PDU_BYTES)
        self._final: Command | None = None
        self._told = 0
        self._is_stored_to = False
        self._message_id = self._asked = 0
        self._context = CONTEXT
        self._stores = StoreService(
            self._connection,
            address,
            settings.ae_title,
            (),
            _Nothing(),
            self._take,
        )
        with self._translated():
            accepted = self._associate(contexts, timeout_s)
        self._max_pdu_bytes = accepted.max_pdu_bytes
        self._stores.agree(accepted.contexts)

    def retrieve(
        self,
        request: Callable[[int], bytes],
        content: Content,
        end_s: float,
        patience: Patience = ENDLESS,
        handler: Handler | None = None,
        answers: list[bytes] | None = None,
    ) -> Command:
        """Send a request and deal with what comes until its final response, which is returned.

        Args:
            request: gives the command set for a message id.
            content: its data set.
            end_s: monotonic time at which it has to be over.
            patience: until it has to have begun, and whether it is still wanted: where not, it is cancelled,
                and the final response says so (PS3.4, C.4.2.3.1), or another thing if it was too late.
            handler: takes what is stored to us meanwhile; None when nothing is.
            answers: takes the identifiers of the answers to a question, which has the context `ASKING`.

        Raises:
            NotDelivered: it was not.
            SourceSlow: it had not begun.
            Aborted: nobody waits any more, and the archive did not heed that.
            SourceUnavailable: the archive broke off.
        """
        self._is_stored_to = handler is not None
        self._stores.hand_to(handler or _Nothing(), answers)
        self._context = CONTEXT if answers is None else ASKING
        with self._translated():
            self._ask(request, content, end_s)
            first_end_s = self._clock.monotonic_s() + patience.first_s
            while self._final is None:
                if not patience.is_wanted():
                    return self._cancelled(end_s)
                self._wait(first_end_s, end_s, patience)
                if self._told > WORTH_HEARING and not self._is_stored_to and self._reader.is_empty:
                    if patience.rest is None:
                        self._clock.sleep(HEARD_EVERY_S)
                    else:
                        patience.rest(RESTED_S)
                body = self._expect(PduType.DATA, end_s - self._clock.monotonic_s())
                self._stores.receive(body)
            return self._final

    def _wait(self, first_end_s: float, end_s: float, patience: Patience) -> None:
        """Wait until something comes here, or nobody waits for it any more.

        What it is for has to have begun, which no pending response says. What is stored to us on this
        association comes steadily then: to ask whether something is there would cost as much as to take it.
        """
        while patience.is_wanted():
            is_late = first_end_s < inf and not patience.has_begun()
            if self._is_stored_to and not is_late:
                return
            left_s = (first_end_s if is_late else end_s) - self._clock.monotonic_s()
            if left_s <= 0 and is_late:
                raise SourceSlow(f"{self._settings.name} has not begun to send: it may be fetching the study")
            if left_s <= 0 or not self._reader.is_empty or self._is_readable(min(left_s, LOOK_S)):
                return

    def _cancelled(self, end_s: float) -> Command:
        """Tell the archive to leave what it was asked for, and hear its last word about it."""
        cancel = dimse.encode_cancel_request(self._asked)
        self._connection.sendall(pdu.encode_command(self._context, cancel))
        end_s = min(end_s, self._clock.monotonic_s() + CANCEL_S)
        try:
            while self._final is None:
                self._stores.receive(self._expect(PduType.DATA, end_s - self._clock.monotonic_s()))
        except TimeoutError:
            raise nobody_waits() from None
        return self._final

    def _is_readable(self, timeout_s: float) -> bool:
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        return bool(self._poll.poll(1e3 * timeout_s))

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since the last request: an archive that goes says so, or closes."""
        return not self._is_readable(0.0)

    def release(self) -> None:
        """Take leave, and close."""
        with suppress(OSError, ConnectionClosed, PduError):
            self._connection.sendall(pdu.encode_release_request())
            self._expect(PduType.RELEASE_RP, RELEASE_S)
        self._connection.close()

    def _associate(self, contexts: Sequence[ProposedContext], timeout_s: float) -> pdu.AssociateAccept:
        stored_to_us = dict.fromkeys(each.abstract_syntax for each in contexts if each.id >= FIRST_STORED)
        self._connection.sendall(
            pdu.encode_associate_request(
                self._settings.ae_title, self._own_title, contexts, stored_to_us, MAX_PDU_BYTES
            )
        )
        kind, body = self._reader.read(timeout_s)
        if kind == PduType.ASSOCIATE_RJ:
            raise SourceRefused(f"{self._settings.name} rejected the association of {self._own_title}")
        if kind != PduType.ASSOCIATE_AC:
            raise PduError("the answer to an association request was expected")
        accepted = pdu.parse_associate_accept(body)
        needed = {each.id for each in contexts if each.id < FIRST_STORED}
        if not needed <= {context.id for context in accepted.contexts}:
            raise SourceRefused(f"{self._settings.name} does not offer to {self._own_title} {self._asks}")
        return accepted

    def _ask(self, request: Callable[[int], bytes], content: Content, end_s: float) -> None:
        self._final, self.answered, self._told = None, False, 0
        self._message_id = self._message_id % 0xFFFF + 1
        command = request(self._message_id)
        self._asked = dimse.parse_command(command).message_id
        self._connection.sendall(pdu.encode_command(self._context, command))
        for part in pdu.encode_dataset(self._context, content, self._max_pdu_bytes or MAX_PDU_BYTES):
            if self._clock.monotonic_s() > end_s:
                raise TimeoutError
            self._connection.sendall(part)  # the reader has bounded how long one may take

    def _take(self, command: Command) -> Status | None:
        if not command.field & dimse.RESPONSE:
            return Status.UNRECOGNISED_OPERATION
        if command.message_id != self._asked:
            return None  # a last word on what was asked before, said once more or late
        self.answered = True
        self._told += 1
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

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Break off when anything goes wrong, and tell it in errors of the tree."""
        try:
            yield
        except TimeoutError:
            self._break_off()
            raise NotDelivered(f"{self._settings.name} was not done at the deadline") from None
        except (OSError, ConnectionClosed, PduError):
            self._break_off()
            raise SourceUnavailable(f"{self._settings.name} broke off") from None
        except BaseException:
            self._break_off()
            raise

    def _break_off(self) -> None:
        self._stores.abandon()
        with suppress(OSError):
            self._connection.sendall(pdu.encode_abort(pdu.AbortReason.NOT_SPECIFIED))
        self._connection.close()


Associate = Callable[[float, tuple[Pair, ...]], Retrieving]
"""Opens an association within so many seconds, for objects of these kinds: class and transfer syntax."""


class Associations:
    """Associations to one archive, each kept for the next request for a while."""

    def __init__(self, associate: Associate, clock: Clock, keep_s: float = KEEP_S) -> None:
        """Open none yet."""
        self._associate = associate
        self._clock = clock
        self._kept = Kept(Retrieving.release, clock, keep_s)
        self._kinds: tuple[Pair, ...] = ()

    def retrieve(
        self,
        request: Callable[[int], bytes],
        content: Content,
        end_s: float,
        patience: Patience = ENDLESS,
        handler: Handler | None = None,
        answers: list[bytes] | None = None,
        kinds: tuple[Pair, ...] = (),
    ) -> Command:
        """Do as `Retrieving.retrieve`, on an association that is there, or on a new one.

        One that was idle may have died unseen: what it has not begun to answer is asked once more. The
        association is one that was opened for the same `kinds` of objects; a question may be asked on any,
        and a new one for it is as the last one was: what follows is mostly of the same kinds.
        """
        asked = (request, content, end_s, patience, handler, answers)
        kept = self._take(kinds if answers is None else None)
        if kept is not None:
            for_kinds, association = kept
            try:
                final = association.retrieve(*asked)
            except SourceUnavailable:
                if association.answered or (handler is not None and patience.has_begun()):
                    raise
            else:
                self._kept.put(association, for_kinds)
                return final
        if answers is not None:
            kinds = self._kinds
        left_s = end_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise NotDelivered("the time of a visit was over before the archive was asked")
        self._kept.close()  # those for other kinds: the archive bears so many at once
        opened, self._kinds = self._associate(left_s, kinds), kinds
        final = opened.retrieve(*asked)
        self._kept.put(opened, kinds)
        return final

    def close(self) -> None:
        """Release those that are idle."""
        self._kept.close()

    def _take(self, kinds: tuple[Pair, ...] | None) -> tuple[tuple[Pair, ...], Retrieving] | None:
        """Take one that was opened for these kinds, or for whatever."""
        while (kept := self._kept.take_where(lambda use: kinds in {None, use})) is not None:
            if kept[1].is_quiet:
                return kept
            kept[1].release()
        return None


class _Nothing:
    """Takes no object."""

    def begin(self, info: ObjectInfo) -> ObjectSink:
        """Refuse it."""
        del info
        raise NotAuthorised("an object where only answers are expected")


def _connect(settings: PacsSettings, timeout_s: float) -> tuple[socket.socket, str]:
    """Open a connection, over TLS where that is set; returns it, and the address that it goes to."""
    silent = SourceUnavailable(f"{settings.name} does not answer at its DICOM port")
    try:
        connection = socket.create_connection((settings.host, settings.port), timeout_s)
    except OSError:
        raise silent from None
    try:
        address = str(connection.getpeername()[0])  # who hangs up at once has none any more
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings.tls is not None:
            context = client_context(settings.tls)
            connection = context.wrap_socket(connection, server_hostname=settings.tls.name or settings.host)
    except OSError:
        connection.close()
        if settings.tls is None:
            raise silent from None
        raise SourceUnavailable(f"{settings.name} and we do not agree on TLS") from None
    return connection, address
