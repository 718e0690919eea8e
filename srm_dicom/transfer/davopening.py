"""Opens the file that a request of the HTTPS door names, and has it staged first if need be."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from srm_dicom.errors import RequestExpired
from srm_dicom.transfer.davmessage import Answer, Request, told
from srm_dicom.transfer.files import OpenedFile, ServedFiles
from srm_dicom.transfer.nearline import Nearline
from srm_dicom.web.problems import Problem
from srm_dicom.wire.dav.prefer import Patience

NOT_STAGED = HTTPStatus.SERVICE_UNAVAILABLE


class Opening:
    """Opens files.

    Args:
        files: decides, audits and opens.
        nearline: brings online what is not staged; None says that it is not.
    """

    def __init__(self, files: ServedFiles, nearline: Nearline | None) -> None:
        self._files = files
        self._nearline = nearline

    def open(
        self, request: Request, known: Callable[[], Answer | None] | None = None, *, accepts: bool = False
    ) -> OpenedFile | Answer:
        """Open a file, or have it staged and wait for it; if that takes too long, say when to come back.

        Args:
            request: whose path is the file's.
            known: answers what needs no bytes, before anything is staged for it.
            accepts: whether 202 says so to clients that understand it, and not 503.

        Raises:
            RequestExpired: it is not staged, and nothing here stages.
            MdmError: see `files.ServedFiles.open` and `nearline.Nearline.bring`.
        """
        try:
            return self._files.open(request.principal, request.path)
        except RequestExpired:
            if known is not None and (answer := known()) is not None:
                return answer
            if self._nearline is None:
                raise
        patience = Patience.read(request.header("Prefer"), request.header("User-Agent"))
        again_s = self._nearline.bring(request.principal, request.path, patience.wait_s)
        if again_s is None:
            return self._files.open(request.principal, request.path)
        status = HTTPStatus.ACCEPTED if accepts and patience.accepts_later else NOT_STAGED
        answer = told(Problem(status, "the file is being staged", f"Ask again in {again_s} s."))
        answer.headers.append(("Retry-After", str(again_s)))
        return answer
