"""Parts of files by their TURL, whichever door serves it: https (Range) or gsiftp (ERET)."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from srm_dicom.client.ftp_session import Sink
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.client.http import HttpClient, Response
from srm_dicom.errors import InvalidRequest, NotDelivered, NotSupported, SourceUnavailable, TooLarge
from srm_dicom.identity.credential import Credential

PROTOCOLS = ("https", "gsiftp")
"""What `Doors` speaks, the preferred one first."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z")


class Doors:
    """One user's connections to the doors of a site, made when needed and kept. Not for several threads."""

    def __init__(self, credential: Credential, gridftp: GridFtpClient) -> None:
        self._credential = credential
        self._gridftp = gridftp
        self._https: dict[str, HttpClient] = {}

    def close(self) -> None:
        """Close the connections of https; those of gsiftp are their owner's."""
        while self._https:
            self._https.popitem()[1].close()

    def read(self, turl: str, *, limit_bytes: int = 1024 * 1024) -> bytes:
        """Return a small file.

        Raises:
            TooLarge: it has more than `limit_bytes`.
            MdmError: as `read_range`.
        """
        if not _is_https(turl):
            return self._gridftp.read(turl, limit_bytes=limit_bytes)
        body = self._get(turl).body
        if len(body) > limit_bytes:
            raise TooLarge(f"the file has more than {limit_bytes} bytes")
        return body

    def fetch(
        self, turl: str, sink: Sink, *, offset: int = 0, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write a file into `sink`, from `offset` bytes on.

        Args:
            turl: its name at its door.
            sink: gets the bytes in order.
            offset: how many bytes the caller has already.
            progress: called with the bytes received by this call so far.

        Raises:
            MdmError: as `read_range`.
        """
        if not _is_https(turl):
            self._gridftp.fetch(turl, sink, offset=offset, progress=progress)
            return
        received = 0

        def take(data: bytes) -> None:
            nonlocal received
            sink.write(memoryview(data))
            received += len(data)
            if progress is not None:
                progress(received)

        headers = (("Range", f"bytes={offset}-"),) if offset else ()
        answer = self._get(turl, headers, take)
        if offset:
            _check_part(answer, offset)

    def read_range(self, turl: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start` on.

        Raises:
            NotFound, NotAuthorised: the door says so.
            RequestExpired: the file is not staged there (any more).
            NotDelivered: the transfer broke off, or other bytes came than were asked for.
            NotSupported: the server sends whole files only.
        """
        if length <= 0:
            return b""
        if _is_https(turl):
            answer = self._get(turl, (("Range", f"bytes={start}-{start + length - 1}"),))
            _check_part(answer, start)
            data = answer.body
        else:
            data = self._gridftp.read_range(turl, start, length)
        if len(data) != length:
            raise NotDelivered(f"{len(data)} bytes came where {length} were asked for")
        return data

    def _get(
        self,
        turl: str,
        headers: tuple[tuple[str, str], ...] = (),
        into: Callable[[bytes], object] | None = None,
    ) -> Response:
        door, target = self.https(turl)
        answer = door.request("GET", target, headers=headers, into=into)
        answer.raise_for_problem()
        return answer

    def https(self, turl: str) -> tuple[HttpClient, str]:
        """Return the connection to the https door of a TURL, and what the file is called there."""
        parts = urlsplit(turl)
        base = f"{parts.scheme}://{parts.netloc}"
        if base not in self._https:
            self._https[base] = HttpClient(base, self._credential, unavailable=SourceUnavailable)
        return self._https[base], parts.path + (f"?{parts.query}" if parts.query else "")


def _is_https(turl: str) -> bool:
    scheme = urlsplit(turl).scheme.lower()
    if scheme not in PROTOCOLS:
        raise InvalidRequest("not a TURL of https or gsiftp")
    return scheme == "https"


def _check_part(answer: Response, start: int) -> None:
    """See that an answer is the part that was asked for (RFC 9110, 15.3.7)."""
    if answer.status != 206:
        raise NotSupported("the server does not send parts of files")
    told = _CONTENT_RANGE.match(answer.header("content-range") or "")
    if told is None or int(told[1]) != start:
        raise NotDelivered("another part came than was asked for")
