"""COPY at the HTTPS door: third-party copies, as gfal2, davix and FTS ask for them.

What is wrong before the first byte moves is an HTTP status; from then on the answer is a stream of markers,
and its last line tells how it ended. The copy runs in a thread of its own and is cancelled when its caller
goes away: nobody is left who would learn of its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from srm_dicom.clock import Clock
from srm_dicom.errors import IntegrityError, InternalError, MdmError, NotSupported, Overloaded
from srm_dicom.identity.credential import Nobody, Shown
from srm_dicom.identity.delegation import Delegate
from srm_dicom.ids import SitePath
from srm_dicom.rights.declare import requires
from srm_dicom.telemetry import logger
from srm_dicom.transfer.copyinghere import CopiesHere
from srm_dicom.transfer.davconditions import unmet_by_change
from srm_dicom.transfer.davdestination import own_destination
from srm_dicom.transfer.davmessage import Answer, Handlers, Request
from srm_dicom.transfer.davopening import Opening
from srm_dicom.transfer.delegations import PATH as DELEGATION_PATH
from srm_dicom.transfer.delegations import Delegations
from srm_dicom.transfer.files import ServedFiles, WrittenFiles
from srm_dicom.transfer.mover import Moved, Mover, Remote
from srm_dicom.transfer.nearline import Nearline
from srm_dicom.transfer.progress import Progress
from srm_dicom.turns import Turns
from srm_dicom.web.environ import CHAIN, DELEGATED
from srm_dicom.wire.dav.methods import METHODS
from srm_dicom.wire.dav.thirdparty import CONTENT_TYPE, Copy, Credential, failure, marker, success

log = logger("transfer")


@dataclass(frozen=True, slots=True)
class CopySettings:
    """What copies may cost, and where delegations are taken.

    Attributes:
        url: ``https://host:port`` of the door.
        trust: directory of the authorities that other servers must come from.
        at_once: copies that run at the same time, half of them for one identity at most; more are told to
            come later.
        marker_s: from one marker to the next.
    """

    url: str
    trust: Path
    at_once: int = 20
    marker_s: float = 5.0


class Copies:
    """The handler of COPY."""

    def __init__(
        self,
        files: ServedFiles,
        mover: Mover,
        delegations: Delegations,
        settings: CopySettings,
        clock: Clock,
        writing: WrittenFiles | None = None,
        nearline: Nearline | None = None,
    ) -> None:
        self._opening = Opening(files, nearline)
        self._writing = writing
        self._here = CopiesHere(files, writing, self._opening) if writing is not None else None
        self._files = files
        self._mover = mover
        self._delegations = delegations
        self._settings = settings
        self._clock = clock
        self._turns = Turns(settings.at_once)
        self.handlers: Handlers = {"COPY": self.copy}

    @requires(METHODS["COPY"].right)
    def copy(self, request: Request) -> Answer:
        """Copy a file from here to another server, from there to here, or to another name here.

        Raises:
            MdmError: see `files.ServedFiles.open` and `files.WrittenFiles.create`.
            NotAuthorised: the host is not one that the caller's copies go to.
            InvalidRequest, NotSupported: the headers do not make sense.
            Overloaded: enough copies are running.
        """
        wanted = Copy.read(request.environ)
        if self._here is not None and wanted.shows_nothing and not wanted.pull:
            target = own_destination(request)
            if target is not None:
                return self._here.to(request, target)
        if wanted.pull and self._writing is None:
            raise NotSupported("this door takes no files: let the destination pull")
        shown = self._shown(request, wanted)
        if shown is None:
            return self._delegate_first(request)
        remote = Remote(request.principal, wanted.url, shown, wanted.headers)
        self._mover.check(remote)
        if self._writing is not None and wanted.pull:
            private = self._writing.private_only(request.principal, request.path)
            if private and not remote.is_encrypted:
                raise NotSupported("what is written here must not cross a network in clear: pull it by https")
            if refusal := unmet_by_change(self._files, request, overwrite=wanted.overwrite):
                return refusal
            move = self._pulling(request, remote, wanted, self._writing)
            if isinstance(move, Answer):
                return move
            return self._started(request, wanted, replace(move, path=None) if private else move)
        found = self._pushing(request, remote, wanted)
        return found if isinstance(found, Answer) else self._started(request, wanted, found)

    def _pulling(
        self, request: Request, remote: Remote, wanted: Copy, writing: WrittenFiles
    ) -> _Move | Answer:
        with ExitStack() as stack:
            file = stack.enter_context(writing.create(request.principal, request.path, resumable=False))
            # Asked once more: nobody else can write the name from here on.
            if refusal := unmet_by_change(self._files, request, overwrite=wanted.overwrite):
                return refusal

            def pull(progress: Progress) -> None:
                _check(self._mover.pull(remote, file, progress), wanted)
                file.finish()

            return _Move(pull, stack.pop_all(), request.path)

    def _pushing(self, request: Request, remote: Remote, wanted: Copy) -> _Move | Answer:
        with ExitStack() as stack:
            found = self._opening.open(request)
            if isinstance(found, Answer):
                return found
            file = stack.enter_context(found)
            file.charge(file.size_bytes)
            return _Move(
                lambda progress: _check(self._mover.push(file, remote, progress), wanted),
                stack.pop_all(),
                request.path,
            )

    def _started(self, request: Request, wanted: Copy, move: _Move) -> Answer:
        with ExitStack() as stack:
            stack.callback(move.resources.close)
            if not self._turns.take(request.principal.dn):
                raise Overloaded("enough copies are running", advice="Try again in a minute.")
            stack.callback(self._turns.release, request.principal.dn)
            running = _Running(move, wanted, request, self._clock)
            running.start(stack.pop_all())
        body = _Markers(running, self._settings.marker_s, self._clock)
        return Answer(HTTPStatus.ACCEPTED, [("Content-Type", CONTENT_TYPE)], body)

    def _shown(self, request: Request, wanted: Copy) -> Shown | None:
        """Return what is shown to the other side; None if the caller has to delegate it first.

        Certificates are shown for who came with one and for nobody else: the other side cannot know what
        a token leaves of its owner's rights.
        """
        if wanted.credential is Credential.NONE:
            return Nobody(self._settings.trust)
        if not request.environ.get(CHAIN) or request.principal.scopes is not None:
            raise NotSupported(
                "there is nothing to show to the other side",
                advice="Hand on a token with TransferHeaderAuthorization, or come with a certificate alone.",
            )
        held = request.environ.get(DELEGATED) or self._delegations.best(request.principal)
        return Delegate(held, self._settings.trust) if held is not None else None

    def _delegate_first(self, request: Request) -> Answer:
        """Point to the delegation service and back here, as davix understands it."""
        headers = [
            ("X-Delegate-To", self._settings.url + DELEGATION_PATH),
            ("Location", self._settings.url + request.path),
            ("Content-Length", "0"),
        ]
        return Answer(HTTPStatus.FOUND, headers)


@dataclass(frozen=True, slots=True)
class _Move:
    """A transfer that can begin, what is closed after it, and the path that is logged of it."""

    run: Callable[[Progress], None]
    resources: ExitStack
    path: SitePath | None


def _check(moved: Moved, wanted: Copy) -> None:
    if wanted.checksum_needed and not moved.verified:
        raise IntegrityError("the other server told no checksum, and one was needed")


class _Running:
    """A copy in its thread."""

    def __init__(self, move: _Move, wanted: Copy, request: Request, clock: Clock) -> None:
        self._move = move
        self._wanted = wanted
        self._dn = request.principal.dn
        self._path = move.path
        self._clock = clock
        self._ended = threading.Event()
        self.progress = Progress()
        self.result = b""

    def start(self, after: ExitStack) -> None:
        """Start the thread; `after` is closed when it ends.

        Raises:
            Overloaded: there is none to be had.
        """
        try:
            threading.Thread(target=self._run, args=(after,), name="copy", daemon=True).start()
        except RuntimeError as error:
            after.close()
            raise Overloaded("the machine gives no more threads", advice="Try again in a minute.") from error

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; tells whether it is there."""
        return self._ended.wait(timeout_s)

    def _run(self, after: ExitStack) -> None:
        begun_s = self._clock.monotonic_s()
        failed: MdmError | None = None
        try:
            with after:
                self._move.run(self.progress)
        except MdmError as error:
            failed = error
        except Exception as error:  # noqa: BLE001 - the edge of a worker
            log.warning("copy_failed", error=type(error).__name__)
            failed = InternalError("the copy broke off")
        self.result = failure(failed.message) if failed else success()
        self._ended.set()
        log.info(
            "file_not_copied" if failed else "file_copied",
            dn=self._dn,
            path=self._path,
            peer=urlsplit(self._wanted.url).hostname,
            bytes=self.progress.moved_bytes,
            seconds=round(self._clock.monotonic_s() - begun_s, 3),
            error=type(failed).__name__ if failed else None,  # its words may be the other server's
        )


class _Markers:
    """The body of the answer (PEP 3333)."""

    def __init__(self, running: _Running, every_s: float, clock: Clock) -> None:
        self._running = running
        self._every_s = every_s
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        yield self._marker()
        while not self._running.wait(self._every_s):
            yield self._marker()
        yield self._marker() + self._running.result

    def close(self) -> None:
        """Cancel what is not over: the caller is gone."""
        self._running.progress.cancel()

    def _marker(self) -> bytes:
        progress = self._running.progress
        return marker(self._clock.now(), progress.moved_bytes, progress.peer)
