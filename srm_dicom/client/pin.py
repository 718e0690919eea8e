"""One file that is kept staged as long as somebody reads it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from srm_dicom.client.srm import SrmClient
from srm_dicom.client.srm_views import FileStatus
from srm_dicom.errors import MdmError


class Pin:
    """A file, asked for and waited for; `turl` is where it is.

    Args:
        srm: whom to ask.
        surl: the file.
        protocols: of the TURL, the preferred one first.
        wait_s: how long the server may stage.

    Raises:
        MdmError: the file cannot be had, for the reason that the server tells.
    """

    def __init__(self, srm: SrmClient, surl: str, protocols: Sequence[str], wait_s: float) -> None:
        self._srm = srm
        self._surl = surl
        self._protocols = protocols
        self._wait_s = wait_s
        self._token: str | None = None
        self.turl = self._ask()

    def renew(self) -> None:
        """Ask again after the pin has run out.

        Raises:
            MdmError: as for a new pin.
        """
        self.release()
        self.turl = self._ask()

    def release(self) -> None:
        """Give the file back; nobody is told if that fails, as pins end by themselves."""
        token, self._token = self._token, None
        if token is not None:
            with suppress(MdmError):
                self._srm.release(token)

    def _ask(self) -> str:
        request = self._srm.prepare_to_get([self._surl], self._protocols, total_s=int(self._wait_s))
        self._token = request.token
        try:
            return turl_of(self._srm.wait(request, self._wait_s).files[0])
        except BaseException:
            with suppress(MdmError):
                self._srm.abort(request.token)
            self.release()
            raise


def turl_of(file: FileStatus) -> str:
    """Return where a file of a request is.

    Raises:
        MdmError: it is not there, for the reason that its status tells.
    """
    if file.turl is None:
        raise file.status.error()
    return file.turl
