"""An archive that sends to our own AE when asked by C-MOVE."""

from __future__ import annotations

from collections.abc import Callable

from srm_dicom.clock import Clock
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.moves import Deliver, MoveDesk, Visit
from srm_plugin_dicom.pacs import AskedByDimse, Pacs


class MoveArchive(AskedByDimse):
    """See the module; `listen` opens the AE when it is not open yet."""

    def __init__(
        self,
        pacs: Pacs,
        *,
        senders: frozenset[str],
        destination: str,
        desk: MoveDesk,
        listen: Callable[[], None],
        settle_s: float,
        clock: Clock,
    ) -> None:
        super().__init__(pacs)
        self._senders = senders
        self._destination = destination
        self._desk = desk
        self._listen = listen
        self._settle_s = settle_s
        self._clock = clock

    def fetch(self, wanted: Wanted, deliver: Deliver, deadline_s: float) -> None:
        """Fetch by one C-MOVE; see `archive.Archive`."""
        self._listen()
        end_s = self._clock.monotonic_s() + deadline_s
        visit = Visit(self._senders, wanted.instances, deliver, self._clock)
        with self._desk.expecting(visit), self._pacs.session() as session:
            claim = session.move(wanted.study, wanted.series, wanted.instances, self._destination, deadline_s)
            visit.wait(end_s, self._settle_s if claim.complete else 0.0)
