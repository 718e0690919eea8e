"""A file of this site that is copied within it: staged for its caller, and read like at any door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import RequestKind, RequestView, Wish
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Surl
from srm_dicom.transfer.files import OpenedFile, ServedFiles
from srm_dicom.transfer.progress import Progress
from srm_dicom.transfer.tape import Broker

_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class OwnSide:
    """Lends files; the caller's own bringOnline has them staged meanwhile."""

    broker: Broker
    files: ServedFiles
    clock: Clock

    @contextmanager
    def offered(
        self, principal: Principal, surl: str, progress: Progress, total_s: int
    ) -> Iterator[OpenedFile]:
        """Lend a file for at most `total_s`.

        Raises:
            MdmError: why it cannot be had.
        """
        wish = Wish(RequestKind.BRING_ONLINE, (surl,), total_s=total_s, pin_s=total_s)
        request = self.broker.submit(principal, wish)
        try:
            self._wait(principal, request, progress)
            with self.files.open(principal, Surl.parse(surl).path) as file:
                yield file
        finally:
            with suppress(MdmError):
                self.broker.forget(principal, request.token)

    def _wait(self, principal: Principal, request: RequestView, progress: Progress) -> None:
        (file,) = request.files
        while file.state in ACTIVE:
            progress.moved(0)
            self.clock.sleep(_LOOK_S)
            (file,) = self.broker.status(principal, request.token, None).files
        if file.failure is not None:
            raise file.failure
