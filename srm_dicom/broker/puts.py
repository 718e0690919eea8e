"""Writing files: from prepareToPut to the moment when the inner zone has stored what came.

The front makes room and waits for nothing; a door takes the bytes in; `done` asks the inner zone to come
and store them, and waits a bounded time for that, because a client believes what srmPutDone answers. A
door that gets bytes for a plain path makes the same request by itself and finishes it when it has them.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.admission import BrokerSettings, accept, encrypted
from srm_dicom.broker.areas import UPLOADS, Area, Areas
from srm_dicom.broker.owned import Owned
from srm_dicom.broker.passing import apply_time
from srm_dicom.broker.settling import Settling
from srm_dicom.broker.spaces import SpaceAccounts
from srm_dicom.broker.states import SPACE_AVAILABLE, STORING, Event, after, before
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.verdicts import ABSENT, Verdict
from srm_dicom.broker.viewing import Viewer
from srm_dicom.broker.views import FileState, FileView, PutWish, RequestKind, RequestView
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    Aborted,
    AlreadyExists,
    Busy,
    IntegrityError,
    InvalidRequest,
    IsADirectory,
    MdmError,
    NoSpace,
    NotAuthorised,
    NotFound,
    NotSupported,
    RequestExpired,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import REPLACE, WRITE
from srm_dicom.ids import Guid, SitePath, Surl
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Received, Upload

STORE_WITHIN = timedelta(days=1)
"""For so long the inner zone may come for what is complete; the bytes are safe in scratch meanwhile."""

_LOST = IntegrityError(
    "the service that had taken the image in was started anew, and the key went with it: upload it again"
)
WRITING = timedelta(hours=1)
"""A put that a door has just begun to write lasts at least so long."""


@dataclass(frozen=True, slots=True)
class Line:
    """One file as asked for: where to, what may be done there, how large, and what of this site it copies."""

    surl: str
    answer: Verdict
    size_bytes: int = 0
    source: Entry | None = None


class Puts:
    """Puts of callers, over the rows of the store."""

    def __init__(
        self,
        settings: BrokerSettings,
        stores: Stores,
        access: FileAccess,
        areas: Areas,
        spaces: SpaceAccounts,
        surls: OwnSurls,
        clock: Clock,
    ) -> None:
        self._spaces = spaces
        self._surls = surls
        self._settings = settings
        self._stores = stores
        self._access = access
        self._areas = areas
        self._clock = clock
        self._owned = Owned(stores.requests, surls)
        self._settling = Settling(stores, clock, settings.put_done_s)
        self._viewer = Viewer(settings.nodes, stores.staged, stores.uploads, settings.poll_s)

    def submit(self, principal: Principal, wish: PutWish, *, implicit: bool = False) -> RequestView:
        """Accept a prepareToPut; there is room at once, or the file's status says why not.

        A SURL that names nothing is an invalid request, and no path that is not there: ARC makes the
        directories of such a one and asks again, for ever.

        Raises:
            InvalidRequest, TooLarge, NotSupported: as for a get; NotSupported also where images are handed in
                and the caller has no protocol that encrypts.
            NoSpace: scratch has not so much left as is announced.
        """
        request = accept(self._settings, wish, principal.dn, self._clock.now())
        surls = [self._surls.parse(text) for text in wish.surls]
        known = [surl.path for surl in surls if isinstance(surl, Surl)]
        verdicts = iter(self._access.writable(principal, known, "srmPrepareToPut"))
        answers = [next(verdicts) if isinstance(surl, Surl) else surl for surl in surls]
        if any(self._handed_in(answer) for answer in answers):
            request = replace(request, protocol=encrypted(self._settings, wish))
        announced = zip(answers, _sizes(wish), strict=True)
        self._refuse_beyond_quota(
            self._settings.node_of(request.protocol),
            sum(size for answer, size in announced if isinstance(answer, Verdict) and answer.entry),
        )
        apply_time(self._stores, self._clock.now())
        with self._stores.database.transaction():
            there = self._stores.namespace.find_many(known)
            files = [
                self.new_file(principal, request, Line(text, answer, size), there, wish, implicit=implicit)
                if isinstance(answer, Verdict)
                else RequestFile(text, None, None, FileState.FAILED, InvalidRequest(answer.message))
                for text, answer, size in zip(wish.surls, answers, _sizes(wish), strict=True)
            ]
            self._stores.requests.add(request, files)
        states = tuple(file.state for file in files)
        return self._viewer.view(request, files, states, self._clock.now())

    def done(self, principal: Principal, token: str, surls: Sequence[str] | None) -> tuple[FileView, ...]:
        """Have files stored whose bytes are all there, and wait for it; each has succeeded or a failure.

        Raises:
            RequestUnknown: no put has this token.
            NotAuthorised: it is somebody else's.
        """
        request = self._owned.request(principal, token, RequestKind.PUT)
        apply_time(self._stores, self._clock.now())
        files = self._owned.files(request, surls)
        uploads = self._stores.uploads.of_request(request.token)
        complete = {file.id for file in files if _is_complete(file, uploads)}
        self._stores.requests.move(
            list(complete),
            before(Event.PUT_DONE),
            after(SPACE_AVAILABLE, Event.PUT_DONE),
            deadline_at=self._clock.now() + STORE_WITHIN,
        )
        return self._settling.told(files, complete | {file.id for file in files if file.state is STORING})

    # --- what doors call -------------------------------------------------------------------------

    def open(
        self, principal: Principal, path: SitePath, *, size_bytes: int = 0, overwrite: bool = True
    ) -> tuple[Upload, Area]:
        """Return what is to be written at the path of a TURL, or at a plain path, and the area that it is in.

        Raises:
            NotFound: no put of this caller has this TURL, or there is no directory for the name.
            NotAuthorised, AlreadyExists, IsADirectory, Busy: the plain path may not be written; NotAuthorised
                also when who shows a TURL may hand in no images, or not with this credential or token.
            RequestExpired: the put has ended.
            NoSpace, SpaceExhausted: scratch has not so much left, or the space that the put is for.
        """
        if path.startswith(f"{UPLOADS}/"):
            upload = self._stores.uploads.find(path.removeprefix(f"{UPLOADS}/"))
            if upload is None or upload.owner != principal.dn:
                raise NotFound("no upload has this TURL")
        else:
            upload = self._begin(principal, path, size_bytes, overwrite=overwrite)
        if principal.scopes is not None or self._areas.seal(upload.path):
            self._refuse_other(principal, upload)
        self._keep_alive(upload)
        if size_bytes > upload.expected_bytes:
            self._refuse_beyond_quota(upload.node, size_bytes - upload.expected_bytes)
            self._expect(upload, size_bytes)
        return upload, self._areas.of(upload.path)

    def begin(self, upload: Upload, keep_bytes: int | None = 0, scattered: int | None = None) -> None:
        """Note that a door takes the bytes in anew, which no other can be doing now.

        What an earlier one had complete may have been asked for since the upload was opened.

        Args:
            upload: which.
            keep_bytes: how many of those that are there stay; None keeps all.
            scattered: see `transfer.files.WrittenFiles.create`.

        Raises:
            RequestExpired: the put has ended meanwhile.
            InvalidRequest: some of the bytes that shall stay have never come.
        """
        with self._stores.database.transaction():
            self._keep_alive(upload)
            now = self._stores.uploads.find(upload.name) or upload
            if keep_bytes is not None and now.in_order_bytes(keep_bytes) < keep_bytes:
                raise InvalidRequest("fewer bytes are here than the transfer shall go on from")
            self._stores.uploads.received(upload.name, None)
            if scattered is not None or (keep_bytes is not None and now.whole_bytes is not None):
                self._stores.uploads.scattered(upload.name, scattered)

    def scattered(self, upload: Upload, whole_bytes: int | None) -> None:
        """Note how many bytes there are from the first on; None: all that are there come in order."""
        self._stores.uploads.scattered(upload.name, whole_bytes)

    def sealed(self, principal: Principal, path: SitePath) -> bool:
        """Tell whether what the caller may write at a path has to be kept from the network's eyes.

        Of what somebody may not write this says no, as of what is not there: `open` refuses both.
        """
        if path.startswith(f"{UPLOADS}/"):
            upload = self._stores.uploads.find(path.removeprefix(f"{UPLOADS}/"))
            return upload is not None and upload.owner == principal.dn and self._areas.of(upload.path).sealed
        above = self._access.above(path)
        return self._areas.seal(path) and self._access.may_change_name(principal, above, path)

    def received(self, upload: Upload, received: Received) -> None:
        """Note that a door has every byte.

        Raises:
            Aborted: the put has ended meanwhile.
            SpaceExhausted: the space that it is for has not so much left.
        """
        if upload.space:
            self._expect(upload, received.size_bytes)
        if not self._stores.uploads.received(upload.name, received):
            raise Aborted("the put was ended before its bytes were there")

    def finish(self, principal: Principal, upload: Upload) -> None:
        """Have the bytes of a plain path stored, and wait for it.

        Raises:
            MdmError: why that is not done; the upload is given up unless another try may help.
        """
        (view,) = self.done(principal, upload.token, None)
        if view.failure is not None:
            raise view.failure

    def give_up(self, upload: Upload) -> None:
        """End a put; its name is free again."""
        files = self._stores.requests.some_files(upload.token, (), [upload.path])
        with self._stores.database.transaction():
            target = after(SPACE_AVAILABLE, Event.ABORT)
            self._stores.requests.move([file.id for file in files], before(Event.ABORT), target)
            self._stores.uploads.end(upload.token, [upload.path])

    def lose(self, node: str) -> int:
        """Fail the puts of images that a process took in which is no more, and their keys with it.

        Returns:
            How many.
        """
        lost = [one for one in self._stores.uploads.complete_on(node) if self._areas.seal(one.path)]
        for upload in lost:
            files = self._stores.requests.some_files(upload.token, (), [upload.path])
            with self._stores.database.transaction():
                self._stores.requests.move(
                    [file.id for file in files],
                    before(Event.REFUSE),
                    after(STORING, Event.REFUSE),
                    failure=_LOST,
                )
                self._stores.uploads.end(upload.token, [upload.path])
        return len(lost)

    def _expect(self, upload: Upload, size_bytes: int) -> None:
        """Let an upload count with the bytes that it turns out to have."""
        with self._stores.database.transaction():
            now = self._stores.uploads.find(upload.name)
            more_bytes = size_bytes - now.expected_bytes if now else 0
            if more_bytes <= 0:
                return
            if upload.space:
                self._spaces.refuse_beyond(upload.space, more_bytes)
            self._stores.uploads.expect(upload.name, size_bytes)

    def _refuse_beyond_quota(self, node: str, more_bytes: int) -> None:
        quota = self._settings.quota_bytes
        if quota and more_bytes and self._stores.lying(node)[0] + more_bytes > quota:
            raise NoSpace("scratch has not so much room left", advice="Try again later.")

    def _handed_in(self, answer: Verdict | MdmError) -> bool:
        """Tell whether an image is handed in, by somebody who may."""
        return isinstance(answer, Verdict) and answer.entry is not None and self._areas.seal(answer.path)

    def _refuse_other(self, principal: Principal, upload: Upload) -> None:
        """Decide anew, for a connection that may show another credential than the request did."""
        scope = WRITE if self._stores.namespace.find(upload.path) is None else REPLACE
        (verdict,) = self._access.writable(principal, [upload.path], "upload", scope)
        if verdict.error is not None:
            raise verdict.error

    def _begin(self, principal: Principal, path: SitePath, size_bytes: int, *, overwrite: bool) -> Upload:
        """Return the upload of a plain path: the caller's own that was broken off, or a new one."""
        there = self._stores.uploads.find_path(path)
        if there is not None and there.implicit and there.owner == principal.dn:
            return there
        surl = f"srm://{self._settings.host}{path}"
        wish = PutWish(RequestKind.PUT, (surl,), sizes=(size_bytes,), overwrite=overwrite)
        (view,) = self.submit(principal, wish, implicit=True).files
        if view.failure is not None:
            raise view.failure
        made = self._stores.uploads.find_path(path)
        if made is None:
            raise Aborted("the put was ended at once")
        return made

    def _keep_alive(self, upload: Upload) -> None:
        files = self._stores.requests.some_files(upload.token, (), [upload.path])
        if not any(file.state is SPACE_AVAILABLE for file in files):
            raise RequestExpired("this put takes no more bytes", advice="Begin another.")
        request = self._stores.requests.find(upload.token)
        if request is not None and request.kind is RequestKind.PUT:  # of a copy nobody waits for longer
            self._stores.requests.prolong([file.id for file in files], self._clock.now() + WRITING)

    # --- one file --------------------------------------------------------------------------------

    def new_file(
        self,
        principal: Principal,
        request: Request,
        line: Line,
        there: Mapping[SitePath, Entry],
        wish: PutWish,
        *,
        implicit: bool = False,
    ) -> RequestFile:
        """Make room for a file, or tell in it why there is none; joins the caller's transaction."""
        try:
            area = self._room(principal, line.answer, there.get(line.answer.path), line.size_bytes, wish)
            upload = Upload(
                path=line.answer.path,
                name=secrets.token_hex(16),
                token=request.token,
                owner=principal.dn,
                node=self._settings.node_of(request.protocol),
                guid=Guid(str(uuid.uuid4())),
                overwrite=wish.overwrite and principal.in_scope(REPLACE, line.answer.path),
                expected_bytes=min(line.size_bytes, area.max_file_bytes),
                implicit=implicit,
                space=wish.space,
                source=line.source.guid or "" if line.source else "",
            )
            self._stores.uploads.add(upload)
        except MdmError as error:
            return RequestFile(line.surl, line.answer.path, None, FileState.FAILED, error)
        # A copy of what is here has its bytes already: the inner zone may come at once.
        state = STORING if line.source else SPACE_AVAILABLE
        return RequestFile(line.surl, line.answer.path, upload.guid, state, deadline_at=request.deadline_at)

    def _room(
        self,
        principal: Principal,
        answer: Verdict,
        there: Entry | None,
        size_bytes: int,
        wish: PutWish,
    ) -> Area:
        """Return the area of a name that may be written now."""
        if there is not None and there.is_directory and self._access.may_see(principal, there):
            raise IsADirectory("this is a directory")
        if answer.entry is None:
            raise answer.error or NotFound(ABSENT)
        if there is not None and there.is_directory:
            raise NotAuthorised("you may not replace this directory")
        area = self._areas.of(answer.path)
        if area.sealed and wish.kind is RequestKind.COPY:
            raise NotSupported("images are uploaded to this directory, not copied", advice="Use a put.")
        if there is not None and not wish.overwrite:
            raise AlreadyExists("the file exists", advice="Ask for it to be overwritten.")
        if there is not None:
            self._access.cover(principal, [there.path], "srmPrepareToPut", REPLACE)
            self._access.require_writable(
                principal, there, "srmPrepareToPut", "you may not replace this file"
            )
        if size_bytes > area.max_file_bytes:
            raise TooLarge(f"a file has at most {area.max_file_bytes} bytes here")
        if wish.space:
            self._spaces.room(principal, wish.space, size_bytes)
        self._take_over(principal, answer.path)
        return area

    def _take_over(self, principal: Principal, path: SitePath) -> None:
        """End what the caller began at a door and broke off; whatever else is written is not touched."""
        upload = self._stores.uploads.find_path(path)
        if upload is None:
            return
        if not upload.implicit or upload.owner != principal.dn:
            raise Busy("this name is being written")
        self.give_up(upload)


def _sizes(wish: PutWish) -> Sequence[int]:
    return wish.sizes or (0,) * len(wish.surls)


def _is_complete(file: RequestFile, uploads: Mapping[SitePath, Upload]) -> bool:
    upload = uploads.get(file.path) if file.path else None
    return file.state is SPACE_AVAILABLE and upload is not None and upload.received is not None
