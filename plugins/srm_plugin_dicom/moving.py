"""An archive that sends to our own AE when asked by C-MOVE, on associations that are kept.

Images of several series are asked for at once, by lists of both UIDs. PS3.4, C.4.2.2.1 has lists at the level
of what is asked for alone; Orthanc and dcmqrscp take them. What an archive does not send then is asked for
series by series, and one that turns out not to take such lists is not given any more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import SourceRefused
from srm_dicom.telemetry import logger
from srm_plugin_dicom import dimse
from srm_plugin_dicom.archive import Wanted, nobody_waits, only
from srm_plugin_dicom.moves import Deliver, MoveDesk, Visit
from srm_plugin_dicom.negotiation import IMPLICIT_LITTLE_ENDIAN
from srm_plugin_dicom.pacs import PARTLY, AskedByDimse, Pacs, images, refusal
from srm_plugin_dicom.pdu import ProposedContext
from srm_plugin_dicom.proposals import Pair
from srm_plugin_dicom.retrieving import CONTEXT, Associations, Patience, Retrieving

log = logger("dicom")

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"


class MoveArchive(AskedByDimse):
    """See the module; `listen` opens the AE when it is not open yet."""

    def __init__(
        self,
        pacs: Pacs,
        own_title: str,
        *,
        senders: frozenset[str],
        destination: str,
        desk: MoveDesk,
        listen: Callable[[], None],
        settle_s: float,
        clock: Clock,
    ) -> None:
        super().__init__(pacs)
        self._own_title = own_title
        self._senders = senders
        self._destination = destination
        self._desk = desk
        self._listen = listen
        self._settle_s = settle_s
        self._clock = clock
        self._associations = Associations(self._associate, clock)
        self._takes_lists = True

    def fetch(self, wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        """Fetch by one C-MOVE, where the archive takes it; see `archive.Archive`."""
        self._listen()
        end_s = self._clock.monotonic_s() + deadline_s
        together = self._takes_lists and len(wanted) > 1
        rest = self._try(wanted, deliver, end_s) if together else wanted
        failure: SourceRefused | None = None
        for each in rest:
            visit = self._visit([each], deliver)
            try:
                self._move([each], visit, end_s)
            except SourceRefused as error:
                failure = error
            if together and self._takes_lists and len(visit.missing()) < len(each.instances):
                self._takes_lists = False
                log.info("series_apart", source=self.name)
        if failure is not None:
            raise failure

    def _try(self, wanted: Sequence[Wanted], deliver: Deliver, end_s: float) -> list[Wanted]:
        """Ask for several series at once; returns what did not come."""
        visit = self._visit(wanted, deliver)
        with suppress(SourceRefused):
            self._move(wanted, visit, end_s)
        return only(wanted, frozenset(visit.missing()))

    def _visit(self, wanted: Sequence[Wanted], deliver: Deliver) -> Visit:
        instances = [instance for each in wanted for instance in each.instances]
        return Visit(self._senders, instances, deliver, self._clock, wanted[0].by_workers, wanted[0].not_held)

    def _move(self, wanted: Sequence[Wanted], visit: Visit, end_s: float) -> None:
        """Have what is missing of a visit sent.

        A status proves nothing: dcmqrscp reports success for objects that it does not have, others
        before the last object has left. What came is what the visit counts.
        """
        instances = [instance for each in wanted for instance in each.instances]
        identifier = images(wanted[0].study, [each.series for each in wanted], instances)
        with self._desk.expecting(visit):
            is_wanted = wanted[0].is_wanted
            patience = Patience(wanted[0].first_s, lambda: visit.has_begun, is_wanted, visit.rest)
            final = self._associations.retrieve(partial(self._request, visit), identifier, end_s, patience)
            if not is_wanted():
                raise nobody_waits()
            if final.status not in {0, PARTLY} and not final.completed:
                raise refusal(self.name, final.status)
            claims_all = final.status == 0 and not final.failed
            self._desk.catch_up()  # a worker has told of what it was sent before the archive had our answer
            visit.wait(end_s, self._settle_s if claims_all else 0.0)

    def close(self) -> None:
        """Release the associations that are kept."""
        self._associations.close()

    def _request(self, visit: Visit, _message_id: int) -> bytes:
        """Ask under the visit's number: the archive sends it with each object (PS3.7, 9.1.1.1)."""
        return dimse.encode_move_request(MOVE, visit.number, self._destination)

    def _associate(self, timeout_s: float, _kinds: tuple[Pair, ...]) -> Retrieving:
        settings = self._pacs.settings
        context = ProposedContext(CONTEXT, MOVE, (IMPLICIT_LITTLE_ENDIAN,))
        return Retrieving(
            settings, self._own_title, [context], self._clock, timeout_s=min(timeout_s, settings.connect_s)
        )
