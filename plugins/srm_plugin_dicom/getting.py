"""An archive that sends on the association that we opened (C-GET): it need not reach us.

Objects come in as at the receiver, undecoded and as the archive holds them (see `proposals`). Questions
and the test of life go by pynetdicom, as with C-MOVE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import NotDelivered
from srm_plugin_dicom import dimse, pdu
from srm_plugin_dicom.archive import Wanted, nobody_waits
from srm_plugin_dicom.moves import Deliver, MoveDesk, Visit
from srm_plugin_dicom.negotiation import IMPLICIT_LITTLE_ENDIAN
from srm_plugin_dicom.pacs import PARTLY, AskedByDimse, Pacs, images, refusal
from srm_plugin_dicom.pdu import ProposedContext
from srm_plugin_dicom.proposals import Pair, rounds
from srm_plugin_dicom.retrieving import CONTEXT, Associations, Patience, Retrieving
from srm_plugin_dicom.selector import Level
from srm_plugin_dicom.stores import Handler

GET = "1.2.840.10008.5.1.4.1.2.2.3"


class GetArchive(AskedByDimse):
    """See the module."""

    def __init__(self, pacs: Pacs, own_title: str, desk: MoveDesk, clock: Clock) -> None:
        """Take a desk for its bounds: what is asked for comes on the association that asked."""
        super().__init__(pacs)
        self._own_title = own_title
        self._desk = desk
        self._clock = clock
        self._associations = Associations(self._associate, clock)

    def fetch(self, wanted: Sequence[Wanted], deliver: Deliver, deadline_s: float) -> None:
        """Fetch each series by one C-GET, or several where the archive does not tell SOP classes.

        See `archive.Archive`.
        """
        end_s = self._clock.monotonic_s() + deadline_s
        for each in wanted:
            self._fetch(each, deliver, end_s)

    def _fetch(self, wanted: Wanted, deliver: Deliver, end_s: float) -> None:
        sender = frozenset({self._pacs.settings.ae_title})
        visit = Visit(sender, wanted.instances, deliver, self._clock)
        held = self._held(wanted)
        told = [] if "" in held.values() else sorted(set(held.values()))
        for pairs in rounds(told, at_once=pdu.MAX_CONTEXTS - 1):
            # Orthanc refuses the whole C-GET for one object that it does not have.
            rest = tuple(instance for instance in visit.missing() if instance in held)
            if not rest:
                return
            patience = Patience(wanted.first_s, lambda: visit.has_begun, wanted.is_wanted)
            self._get(replace(wanted, instances=rest), self._desk.only(visit), pairs, end_s, patience)
            if not wanted.is_wanted():
                raise nobody_waits()

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

    def _get(
        self, wanted: Wanted, handler: Handler, pairs: Sequence[Pair], end_s: float, patience: Patience
    ) -> None:
        if end_s <= self._clock.monotonic_s():
            raise NotDelivered(f"the C-GET from {self.name} was not over at the deadline")
        identifier = images(wanted.study, [wanted.series], wanted.instances)
        request = partial(dimse.encode_get_request, GET)
        final = self._associations.retrieve(request, identifier, end_s, patience, handler, tuple(pairs))
        # Raise only when nothing was sent and the archive tells why; see `pacs` on what a claim is worth.
        if final.status not in {0, PARTLY} and not final.completed and not final.failed:
            raise refusal(self.name, final.status)

    def close(self) -> None:
        """Release the associations that are kept."""
        self._associations.close()

    def _associate(self, timeout_s: float, kinds: tuple[Pair, ...]) -> Retrieving:
        settings = self._pacs.settings
        contexts = [ProposedContext(CONTEXT, GET, (IMPLICIT_LITTLE_ENDIAN,))]
        contexts += [
            ProposedContext(CONTEXT + 2 * number, abstract, (transfer,))
            for number, (abstract, transfer) in enumerate(kinds, 1)
        ]
        return Retrieving(
            settings, self._own_title, contexts, self._clock, timeout_s=min(timeout_s, settings.connect_s)
        )
