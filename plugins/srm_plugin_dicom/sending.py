"""Gives objects to an archive by C-STORE (PS3.4, annex B), byte for byte as they came.

Each kind of object has associations of its own, with one context of its own transfer syntax, so an
archive says before the object travels whether it takes it as it is. Nothing is encoded anew.
"""

from __future__ import annotations

from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import NotDelivered, SourceRefused, SourceUnavailable
from srm_plugin_dicom import dimse
from srm_plugin_dicom.pacs import PacsSettings, refusal
from srm_plugin_dicom.pdu import ProposedContext
from srm_plugin_dicom.proposals import Pair
from srm_plugin_dicom.retrieving import CONTEXT, Associations, Retrieving
from srm_plugin_dicom.uploaded import Uploaded

_WARNING = 0xB000
_EXPLICIT_LITTLE, _CT = "1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.2"


class Sender:
    """The storage SCU of one archive."""

    def __init__(self, settings: PacsSettings, own_title: str, clock: Clock) -> None:
        self._settings = settings
        self._own_title = own_title
        self._clock = clock
        self._associations = Associations(self._associate, clock)

    def send(self, upload: Uploaded, end_s: float) -> None:
        """Have an object stored; success is the archive's status, and no other one.

        Args:
            upload: the object.
            end_s: monotonic time at which it has to be over.

        Raises:
            SourceUnavailable: the archive does not answer, breaks off, is late or out of resources.
            SourceRefused: it does not take the object, or not as it is.
        """
        request = partial(dimse.encode_store_request, upload.sop_class, upload.sop_instance)
        kinds = ((upload.sop_class, upload.transfer_syntax),)
        try:
            status = self._associations.retrieve(request, upload.data, end_s, kinds=kinds).status
        except NotDelivered:
            raise SourceUnavailable(f"{self._settings.name} was late to store the object") from None
        if status & 0xF000 == _WARNING:
            raise SourceRefused(f"{self._settings.name} did not store it as it is (0x{status:04X})")
        if status:
            raise refusal(self._settings.name, status)

    def check(self) -> str:
        """Have an association for CT images agreed on and released; returns what that shows.

        Raises:
            SourceUnavailable, SourceRefused: there is none.
        """
        self._associate(self._settings.connect_s, ((_CT, _EXPLICIT_LITTLE),)).release()
        return f"it takes images from {self._own_title}"

    def close(self) -> None:
        """Release what is kept."""
        self._associations.close()

    def _associate(self, timeout_s: float, kinds: tuple[Pair, ...]) -> Retrieving:
        ((abstract, transfer),) = kinds
        return Retrieving(
            self._settings,
            self._own_title,
            [ProposedContext(CONTEXT, abstract, (transfer,))],
            self._clock,
            timeout_s=min(timeout_s, self._settings.connect_s),
            asks="to store this kind of object in this transfer syntax",
        )
