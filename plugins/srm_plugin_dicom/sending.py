"""Gives objects to an archive by C-STORE (PS3.4, annex B), byte for byte as they came.

Each kind of object has associations of its own, with one context of its own transfer syntax, so an
archive says before the object travels whether it takes it as it is. Nothing is encoded anew.
"""

from __future__ import annotations

import threading
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import NotDelivered, SourceRefused, SourceUnavailable
from srm_plugin_dicom import dimse
from srm_plugin_dicom.pacs import PacsSettings, refusal
from srm_plugin_dicom.pdu import ProposedContext
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
        self._kinds: dict[tuple[str, str], Associations] = {}
        self._lock = threading.Lock()

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
        associations = self._of_kind(upload.sop_class, upload.transfer_syntax)
        try:
            status = associations.retrieve(request, upload.data, end_s).status
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
        self._associate((_CT, _EXPLICIT_LITTLE), self._settings.connect_s).release()
        return f"it takes images from {self._own_title}"

    def close(self) -> None:
        """Release what is kept."""
        with self._lock:
            kinds, self._kinds = self._kinds, {}
        for associations in kinds.values():
            associations.close()

    def _of_kind(self, sop_class: str, transfer_syntax: str) -> Associations:
        kind = (sop_class, transfer_syntax)
        with self._lock:
            if kind not in self._kinds:
                self._kinds[kind] = Associations(partial(self._associate, kind), self._clock)
            return self._kinds[kind]

    def _associate(self, kind: tuple[str, str], timeout_s: float) -> Retrieving:
        abstract, transfer = kind
        return Retrieving(
            self._settings,
            self._own_title,
            [ProposedContext(CONTEXT, abstract, (transfer,))],
            self._clock,
            timeout_s=min(timeout_s, self._settings.connect_s),
            asks="to store this kind of object in this transfer syntax",
        )
