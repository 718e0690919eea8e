"""Digest headers: adler32 as it was registered, other sums computed on request, within bounds.

A sum that costs too much is not told, which both standards allow; a caller who waits for one takes its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from srm_dicom.errors import Overloaded, RequestExpired
from srm_dicom.transfer.files import OpenedFile
from srm_dicom.transfer.summing import sum_of
from srm_dicom.turns import Turns
from srm_dicom.wire.dav.digest import DIALECTS, Algorithm
from srm_dicom.wire.gridftp.ranges import Section

_SUMS = {Algorithm.ADLER32: "ADLER32", Algorithm.MD5: "MD5", Algorithm.SHA256: "SHA256"}

Opening = Callable[[], AbstractContextManager[OpenedFile]]


@dataclass(frozen=True, slots=True)
class DigestSettings:
    """What sums on request may cost.

    Attributes:
        max_bytes: of a file that is read for it.
        at_once: sums that are computed at the same time, half of them for one identity at most.
        wait_s: for one's turn.
    """

    max_bytes: int = 4 * 1024**3
    at_once: int = 2
    wait_s: float = 30.0


class Digests:
    """Answers ``Want-Digest`` and ``Want-Repr-Digest``."""

    def __init__(self, settings: DigestSettings) -> None:
        """Take the bounds."""
        self._settings = settings
        self._turns = Turns(settings.at_once)

    def headers(
        self, asker: str, header: Callable[[str], str | None], adler32: str | None, opening: Opening
    ) -> list[tuple[str, str]]:
        """Return the headers that a request asks for.

        Args:
            asker: whose turn it takes.
            header: looks a header of the request up.
            adler32: of the file, if it is known.
            opening: opens the file, if it has to be read.

        Raises:
            NotFound, NotAuthorised: as opening does.
            Overloaded: too many sums are being computed.
        """
        told = []
        for dialect in DIALECTS:
            algorithm = dialect.wanted(header(dialect.wish) or "")
            digest = self._digest(asker, algorithm, adler32, opening) if algorithm else None
            if algorithm and digest is not None:
                told.append((dialect.answer, dialect.value(algorithm, digest)))
        return told

    def _digest(
        self, asker: str, algorithm: Algorithm, adler32: str | None, opening: Opening
    ) -> bytes | None:
        if algorithm is Algorithm.ADLER32 and adler32 is not None:
            return bytes.fromhex(adler32)
        try:
            with opening() as file, self._turn(asker):
                if file.size_bytes > self._settings.max_bytes:
                    return None
                return bytes.fromhex(sum_of(file, _SUMS[algorithm], Section(), lambda: None))
        except RequestExpired:  # it is not staged: the sum is not known, and nothing else is wrong
            return None

    @contextmanager
    def _turn(self, asker: str) -> Iterator[None]:
        if not self._turns.take(asker, self._settings.wait_s):
            raise Overloaded("too many checksums are being computed", advice="Ask for adler32.")
        try:
            yield
        finally:
            self._turns.release(asker)
