"""The other side of a copy: an SRM, which is asked where the bytes are or shall go, or a plain URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from srm_dicom.client.srm import SrmClient, endpoint_of
from srm_dicom.client.srm_views import FileInfo, FileStatus, GetRequest
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    AlreadyExists,
    IntegrityError,
    IsADirectory,
    MdmError,
    NotDelivered,
    Overloaded,
    RequestExpired,
)
from srm_dicom.transfer.mover import Moved, Mover, Remote
from srm_dicom.transfer.progress import Progress

PROTOCOLS = ("https", "gsiftp")
"""What an SRM is asked for: https first, which hides the bytes on their way and tells their checksum."""

_ASK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A file that may be fetched now, and what the other side's SRM says of it."""

    url: str
    size_bytes: int | None = None
    adler32: str | None = None

    def check(self, moved: Moved) -> None:
        """Compare what came.

        Raises:
            IntegrityError: it is something else.
        """
        others = self.size_bytes is not None and moved.size_bytes != self.size_bytes
        if others or (self.adler32 is not None and moved.adler32 != self.adler32):
            raise IntegrityError(
                "the other server sent other bytes than its SRM told", advice="Copy it again."
            )


def is_srm(url: str) -> bool:
    """Tell a SURL from other URLs."""
    return url.strip().lower().startswith("srm:")


class OtherSide:
    """One URL of another server, for one transfer.

    Args:
        mover: makes connections, and knows which there may be.
        remote: who asks, what is shown, and the URL.
        until_s: monotonic time after which nobody waits any more.
    """

    def __init__(
        self, mover: Mover, remote: Remote, progress: Progress, until_s: float, clock: Clock
    ) -> None:
        self._mover = mover
        self._remote = remote
        self._progress = progress
        self._until_s = until_s
        self._clock = clock

    @contextmanager
    def offered(self) -> Iterator[Offer]:
        """Lend a file of the other side; an SRM keeps it staged meanwhile.

        Raises:
            MdmError: what the other side refused, or that it does not answer.
        """
        if not is_srm(self._remote.url):
            yield Offer(self._remote.url)
            return
        with self._srm() as srm:
            with _told():
                info = srm.ls(self._remote.url, levels=0)
                if info.is_directory:
                    raise IsADirectory("the source is a directory")
                request = srm.prepare_to_get([self._remote.url], PROTOCOLS, total_s=int(self._left_s()))
            try:
                file = self._ready(srm.follow(request, self._left_s()))
                yield _offer(info, file)
            except BaseException:
                with suppress(MdmError):
                    srm.abort(request.token)
                raise
            with suppress(MdmError):  # the bytes are here; a pin that is left ends by itself
                srm.release(request.token, [self._remote.url])

    @contextmanager
    def room(self, size_bytes: int, *, overwrite: bool) -> Iterator[str]:
        """Lend a URL that a file of this size may be written to; leaving the context has it stored.

        Raises:
            AlreadyExists: there is a file, and it may not be overwritten.
            MdmError: what the other side refused, or that it does not answer.
        """
        if not is_srm(self._remote.url):
            if not overwrite and self._mover.exists(self._remote):
                raise AlreadyExists("the other server has a file of this name")
            yield self._remote.url
            return
        with self._srm() as srm:
            with _told():
                request = srm.prepare_to_put(
                    {self._remote.url: size_bytes},
                    PROTOCOLS,
                    overwrite=overwrite,
                    total_s=int(self._left_s()),
                )
            try:
                file = self._ready(srm.follow_put(request, self._left_s()))
                yield _turl(file)
                self._done(srm, request.token)
            except BaseException:
                with suppress(MdmError):
                    srm.abort(request.token)
                raise

    def _ready(self, polls: Iterator[GetRequest]) -> FileStatus:
        """Wait until the SRM has decided about its one file."""
        with _told():
            for request in polls:
                self._progress.moved(0)
                file = request.files[0]
            file.status.check()
            return file

    def _done(self, srm: SrmClient, token: str) -> None:
        while True:
            self._progress.moved(0)
            try:
                with _told():
                    for file in srm.put_done(token, [self._remote.url]):
                        file.status.check()
            except Overloaded:
                if self._left_s() <= 0:
                    raise
                self._clock.sleep(_ASK_AGAIN_S)
            else:
                return

    def _srm(self) -> SrmClient:
        connect = self._mover.hosts.connect_for(self._remote.principal)
        return SrmClient.connect(self._remote.url, self._remote.shown, connect=connect)

    def _left_s(self) -> float:
        return max(1.0, self._until_s - self._clock.monotonic_s())


def host_of(url: str) -> str:
    """Return the host that a SURL is served by.

    Raises:
        InvalidRequest: it names none.
    """
    base, _ = endpoint_of(url.strip())
    return urlsplit(base).hostname or ""


@contextmanager
def _told() -> Iterator[None]:
    """Say of what went wrong that the other server says so."""
    try:
        yield
    except RequestExpired:
        raise
    except MdmError as error:
        raise type(error)(f"the other server: {error.message}", advice=error.advice) from error


def _offer(info: FileInfo, file: FileStatus) -> Offer:
    algorithm, value = info.checksum or ("", "")
    adler32 = value.lower().zfill(8) if algorithm == "adler32" else None
    return Offer(_turl(file), file.size_bytes or info.size_bytes, adler32)


def _turl(file: FileStatus) -> str:
    if not file.turl:
        raise NotDelivered("the other server is ready and does not say where the bytes go")
    return file.turl
