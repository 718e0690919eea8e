"""Files of this machine to a site: one srmPrepareToPut for many, https for the bytes, one srmPutDone.

A file counts as sent when srmPutDone has said so. Whatever ends it before, the request is withdrawn, so that
nothing that is half there waits at the site. Each file is read twice: its checksum goes ahead of its bytes,
and the door refuses what arrives otherwise.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from srm_dicom.client.doors import Doors
from srm_dicom.client.http import HttpClient, Response
from srm_dicom.client.srm import SrmClient
from srm_dicom.client.srm_views import FileStatus, GetRequest
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.crypto.digest import Sum
from srm_dicom.errors import (
    AlreadyExists,
    InvalidRequest,
    MdmError,
    NotDelivered,
    NotFound,
    Overloaded,
)

FILES_PER_REQUEST = 100
PROTOCOLS = ("https",)
_PIECE_BYTES = 1024 * 1024
_ASK_AGAIN_S = 0.5
_INVITATION_S = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file; `error` is None when the site has it."""

    path: Path
    surl: str
    size_bytes: int = 0
    error: MdmError | None = None


Sending = Callable[[Path, int, int], None]
"""Told of a file, how many of its bytes have gone and how many it has."""


def targets(sources: Iterable[Path], directory: str, *, unnamed: bool = False) -> dict[Path, str]:
    """Return the SURL that each file will have: those of directories keep their names below these.

    Args:
        sources: files and directories; what begins with a dot in these is left out.
        directory: SURL of the site's directory that they go to.
        unnamed: give each a name by chance, and only its ending of its own.

    Raises:
        NotFound: a source is not there.
        InvalidRequest: two files would have one name.
    """
    found: dict[Path, str] = {}
    for source in sources:
        if not source.exists():
            raise NotFound(f"{source}: no such file or directory")
        for path in _files(source) if source.is_dir() else [source]:
            below = path.relative_to(source).as_posix() if source.is_dir() else path.name
            called = f"{uuid.uuid4().hex}{path.suffix}" if unnamed else below
            found[path] = f"{directory.rstrip('/')}/{called}"
    if len(set(found.values())) < len(found):
        raise InvalidRequest("two of these files have the same name", advice="Send them one after the other.")
    return found


def _files(directory: Path) -> list[Path]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return sorted(
        path for path in paths if not any(part[0] == "." for part in path.relative_to(directory).parts)
    )


class Sender:
    """Sends files to a site, by its doors."""

    def __init__(
        self,
        srm: SrmClient,
        doors: Doors,
        *,
        wait_s: float,
        overwrite: bool = False,
        watcher: Sending = lambda _path, _done, _size: None,
        clock: Clock | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            srm: the site's storage server.
            doors: connections to its doors.
            wait_s: how long the site may take to make room for the files of a request, and to store them.
            overwrite: replace files that are there.
            watcher: is told of every piece.
            clock: measures the waits.
        """
        self._srm = srm
        self._doors = doors
        self._wait_s = wait_s
        self._overwrite = overwrite
        self._watcher = watcher
        self._clock = clock or SystemClock()

    def make_directories(self, surls: Iterable[str], top: str) -> None:
        """Make what is missing of the directories between `top`, which is there, and files.

        Raises:
            MdmError: the site refuses.
        """
        top = top.rstrip("/")
        wanted: set[str] = set()
        for surl in surls:
            while (surl := surl.rpartition("/")[0]) != top:
                wanted.add(surl)
        for directory in sorted(wanted, key=len):
            with suppress(AlreadyExists):
                self._srm.make_directory(directory)

    def send(self, files: Mapping[Path, str]) -> Generator[Sent, None, None]:
        """Send files to their SURLs and yield what became of each, as many as one request has at a time."""
        rest = list(files.items())
        for start in range(0, len(rest), FILES_PER_REQUEST):
            yield from self._request({surl: path for path, surl in rest[start : start + FILES_PER_REQUEST]})

    def _request(self, paths: Mapping[str, Path]) -> Iterator[Sent]:
        sizes = {surl: path.stat().st_size if path.exists() else 0 for surl, path in paths.items()}
        try:
            request = self._srm.prepare_to_put(sizes, PROTOCOLS, overwrite=self._overwrite)
        except MdmError as error:
            yield from (Sent(path, surl, error=error) for surl, path in paths.items())
            return
        failed: dict[str, MdmError] = {}
        is_over = False
        try:
            for file in self._ready(request):
                failed |= self._tried(file, paths[file.surl])
            whole = [surl for surl in paths if surl not in failed]
            failed |= self._stored(request.token, whole) if whole else {}
            is_over = not failed
        finally:
            if not is_over:
                self._withdraw(request.token)
        for surl, path in paths.items():
            yield Sent(path, surl, sizes[surl], failed.get(surl))

    def _ready(self, request: GetRequest) -> Sequence[FileStatus]:
        """Return the files once the site has made room for all of them, or refused."""
        for latest in self._srm.follow_put(request, self._wait_s):
            request = latest
        return request.files

    def _tried(self, file: FileStatus, path: Path) -> dict[str, MdmError]:
        """Upload a file; returns why that failed, by its SURL."""
        try:
            file.status.check()
            self._upload(file.turl or "", path)
        except MdmError as error:
            return {file.surl: error}
        except OSError as error:
            return {file.surl: InvalidRequest(f"it cannot be read: {error.strerror}")}
        return {}

    def _upload(self, turl: str, path: Path) -> None:
        if not turl.startswith("https://"):
            raise NotDelivered("the site names no https door to write to")
        door, target = self._doors.https(turl)
        with path.open("rb") as file:
            self._put(door, target, file, path).raise_for_problem()

    def _put(self, door: HttpClient, target: str, file: BinaryIO, path: Path) -> Response:
        found = _summed(file)
        headers = (("Expect", "100-continue"), ("Digest", f"adler32={found.adler32}"))
        upload = door.upload(target, headers, method="PUT", size_bytes=found.size_bytes)
        try:
            gone = 0
            for piece in _pieces(file) if upload.invited(_INVITATION_S) else ():
                upload.write(piece)
                gone += len(piece)
                self._watcher(path, gone, found.size_bytes)
            return upload.finish()
        except BaseException:
            upload.abort()
            raise

    def _stored(self, token: str, surls: Sequence[str]) -> dict[str, MdmError]:
        """Have files stored; returns why some are not, by SURL."""
        until_s = self._clock.monotonic_s() + self._wait_s
        while True:
            try:
                files = self._srm.put_done(token, surls)
            except MdmError as error:
                return dict.fromkeys(surls, error)
            failed = {file.surl: file.status.error() for file in files if not file.status.is_success}
            late = any(isinstance(error, Overloaded) for error in failed.values())
            if not late or self._clock.monotonic_s() > until_s:
                return failed
            self._clock.sleep(_ASK_AGAIN_S)

    def _withdraw(self, token: str) -> None:
        """Withdraw what is not stored; what the site does not hear of ends by itself."""
        with suppress(MdmError):
            self._srm.abort(token)


def _summed(file: BinaryIO) -> Sum:
    """Sum a file, and go back to its beginning."""
    found = Sum()
    for piece in _pieces(file):
        found.update(piece)
    file.seek(0)
    return found


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
