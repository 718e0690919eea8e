"""The wait of srmPutDone: until the inner zone has decided about files, and what their owner hears then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from srm_dicom.broker.states import SPACE_AVAILABLE, STORED, STORING
from srm_dicom.broker.views import FileState, FileView
from srm_dicom.clock import Clock
from srm_dicom.errors import Aborted, AlreadyExists, MdmError, NotFound, Overloaded, RequestExpired
from srm_dicom.store.requests import RequestFile
from srm_dicom.store.stores import Stores

ASK_EVERY_S = 0.05
_ASKED = 500
"""So many of the files that wait are looked at each time, the oldest first: that is how they are stored."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Waits; `within_s` is as long as a call may take."""

    stores: Stores
    clock: Clock
    within_s: float

    def told(self, files: Sequence[RequestFile], storing: Set[int]) -> tuple[FileView, ...]:
        """Wait for the files whose rows are `storing`, and tell of all: each has succeeded or a failure.

        Where one needs more time, its owner has to ask again, and nothing of that answer counts: a file
        succeeds until it was told of beside none that is late.
        """
        settled = self._settled(storing)
        files = [replace(settled.get(file.id, file), surl=file.surl) for file in files]
        views = tuple(map(_outcome, files))
        stored = [file.id for file in files if file.state is STORED and not file.told]
        if stored and not any(isinstance(view.failure, Overloaded) for view in views):
            with self.stores.database.transaction(lasting=False):  # who does not hear it asks again
                self.stores.requests.move(stored, [STORED], STORED, told=True)
        return views

    def _settled(self, storing: Set[int]) -> dict[int, RequestFile]:
        """Wait until the inner zone has decided about files, or the time for it is up."""
        until_s = self.clock.monotonic_s() + self.within_s
        settled: dict[int, RequestFile] = {}
        waiting = sorted(storing)
        while waiting:
            is_late = self.clock.monotonic_s() >= until_s
            asked = waiting if is_late else waiting[:_ASKED]
            found = self.stores.requests.find_files(asked)
            settled.update((file.id, file) for file in found)
            if is_late:
                break
            # What has its name is in hand until it can be read: who hears of it may ask for it at once.
            unsettled = [file.id for file in found if file.state is STORING or file.leased]
            waiting = [*unsettled, *waiting[len(asked) :]]
            if unsettled:
                self.clock.sleep(ASK_EVERY_S)
        return settled


def _outcome(file: RequestFile) -> FileView:
    """Tell what became of a file that was to be stored, or why srmPutDone has nothing to do for it."""
    if file.state is STORED and not file.told:
        return FileView(file.surl, file.state)
    if file.state is STORING:
        waiting = Overloaded("the file is complete here and is still being stored; ask again")
        return FileView(file.surl, file.state, waiting, file.explanation)
    reasons: Mapping[FileState, MdmError] = {
        SPACE_AVAILABLE: NotFound("its bytes have not been uploaded, or not all of them"),
        STORED: AlreadyExists("the put of this file is done already"),
        FileState.ABORTED: Aborted("the put was aborted"),
        FileState.TIMED_OUT: RequestExpired("the time of the put is over"),
    }
    failure = file.failure or reasons.get(file.state) or NotFound("this file is not being put")
    return FileView(file.surl, file.state, failure)
