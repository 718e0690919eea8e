"""An archive that sends on the association that we opened (C-GET): it need not reach us.

Objects come in as at the receiver, undecoded and as the archive holds them (see `proposals`). What a
series has, and of which kinds, is asked on the same association: a visit needs no other. Other questions,
and whether it is there, go by pynetdicom, as with C-MOVE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import InvalidRequest, NotDelivered, SourceUnavailable
from srm_plugin_dicom import dimse, pdu
from srm_plugin_dicom.archive import Wanted, nobody_waits
from srm_plugin_dicom.header import read_header
from srm_plugin_dicom.moves import Deliver, MoveDesk, Visit
from srm_plugin_dicom.negotiation import IMPLICIT_LITTLE_ENDIAN
from srm_plugin_dicom.pacs import FIND, PARTLY, AskedByDimse, Pacs, asking_for_images, images, refusal
from srm_plugin_dicom.pdu import ProposedContext
from srm_plugin_dicom.proposals import Pair, rounds
from srm_plugin_dicom.retrieving import ASKING, CONTEXT, FIRST_STORED, Associations, Patience, Retrieving
from srm_plugin_dicom.selector import is_uid
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
        visit = Visit(sender, wanted.instances, deliver, self._clock, not_held=wanted.not_held)
        held = self._held(wanted, end_s)
        told = [] if "" in held.values() else sorted(set(held.values()))
        for pairs in rounds(told, at_once=pdu.MAX_CONTEXTS - 2):
            # Orthanc refuses the whole C-GET for one object that it does not have.
            rest = tuple(instance for instance in visit.missing() if instance in held)
            if not rest:
                return
            patience = Patience(wanted.first_s, lambda: visit.has_begun, wanted.is_wanted)
            self._get(replace(wanted, instances=rest), self._desk.only(visit), pairs, end_s, patience)
            if not wanted.is_wanted():
                raise nobody_waits()

    def _held(self, wanted: Wanted, end_s: float) -> dict[str, str]:
        """Return which of the images the archive tells of, with their SOP classes if it tells these."""
        request, answers = partial(dimse.encode_find_request, FIND), list[bytes]()
        identifier = asking_for_images(wanted.study, wanted.series)
        patience = Patience(is_wanted=wanted.is_wanted)
        until_s = min(end_s, self._clock.monotonic_s() + self._pacs.settings.answer_s)
        try:
            final = self._associations.retrieve(request, identifier, until_s, patience, answers=answers)
        except NotDelivered:
            raise SourceUnavailable(f"{self.name} did not answer in time") from None
        if not wanted.is_wanted():
            raise nobody_waits()
        if final.status:
            raise refusal(self.name, final.status)
        asked = set(wanted.instances)
        return {instance: sop_class for instance, sop_class in map(_told, answers) if instance in asked}

    def _get(
        self, wanted: Wanted, handler: Handler, pairs: Sequence[Pair], end_s: float, patience: Patience
    ) -> None:
        if end_s <= self._clock.monotonic_s():
            raise NotDelivered(f"the C-GET from {self.name} was not over at the deadline")
        identifier = images(wanted.study, [wanted.series], wanted.instances)
        request = partial(dimse.encode_get_request, GET)
        kinds = tuple(pairs)
        final = self._associations.retrieve(request, identifier, end_s, patience, handler, kinds=kinds)
        # Raise only when nothing was sent and the archive tells why; see `pacs` on what a claim is worth.
        if final.status not in {0, PARTLY} and not final.completed and not final.failed:
            raise refusal(self.name, final.status)

    def close(self) -> None:
        """Release the associations that are kept."""
        self._associations.close()

    def _associate(self, timeout_s: float, kinds: tuple[Pair, ...]) -> Retrieving:
        settings = self._pacs.settings
        contexts = [
            ProposedContext(CONTEXT, GET, (IMPLICIT_LITTLE_ENDIAN,)),
            ProposedContext(ASKING, FIND, (IMPLICIT_LITTLE_ENDIAN,)),
        ]
        contexts += [
            ProposedContext(FIRST_STORED + 2 * number, abstract, (transfer,))
            for number, (abstract, transfer) in enumerate(kinds)
        ]
        return Retrieving(
            settings, self._own_title, contexts, self._clock, timeout_s=min(timeout_s, settings.connect_s)
        )


def _told(answer: bytes) -> tuple[str, str]:
    """Return SOP instance and class of an answer, as far as it tells them and can be read."""
    try:
        header = read_header(answer, IMPLICIT_LITTLE_ENDIAN)
    except InvalidRequest:
        return "", ""
    sop_class = header.get("SOPClassUID", "")
    return header.get("SOPInstanceUID", ""), sop_class if is_uid(sop_class) else ""
