"""The HTTPS/WebDAV door: a WSGI application over `files.ServedFiles`; what it does for readers.

It knows HTTP and nothing of the namespace: every right is decided, and every release of bytes audited, by
the files behind it. An absent name and one that the caller may not learn of are one answer, and so is
every name that no file here could have. A file that is not staged is brought online while the client waits;
if that takes too long the answer is 503, or 202 for clients that come back: they take 404 and 410 for
a missing file, 423 for a missing right, and gfal2 repeats a copy without end after 409.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from email.utils import format_datetime
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

from srm_dicom.errors import IsADirectory, MdmError, NotFound, RequestExpired, TooLarge
from srm_dicom.ids import name
from srm_dicom.rights.declare import requires
from srm_dicom.transfer.body import FileBody, Plan
from srm_dicom.transfer.davconditions import of_tag, unmet_by_reading
from srm_dicom.transfer.davmessage import ABSENT, Answer, Handlers, Headers, Request, told
from srm_dicom.transfer.davopening import NOT_STAGED, Opening
from srm_dicom.transfer.digests import Digests, DigestSettings
from srm_dicom.transfer.files import FileInfo, OpenedFile, ServedFiles
from srm_dicom.transfer.nearline import Nearline
from srm_dicom.transfer.pieces import joined
from srm_dicom.web.problems import Problem
from srm_dicom.wire.dav.conditions import entity_tag, meets_if_range
from srm_dicom.wire.dav.methods import METHODS
from srm_dicom.wire.dav.multistatus import MAX_BODY_BYTES, href, multistatus, wanted_properties
from srm_dicom.wire.dav.ranges import ByteRange, Multipart, Unsatisfiable, ranges_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONTENT_TYPE = "application/octet-stream"
READING = frozenset({"GET", "HEAD", "COPY"})
"""Methods that a file which is not staged is no wrong name for, but a matter of time."""

FINITE_DEPTH = b'<?xml version="1.0"?><D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>\n'
_XML = "application/xml; charset=utf-8"
_HTML = "text/html; charset=utf-8"


class WebDavDoor:
    """The WSGI application.

    Args:
        files: decides, audits and opens.
        digests: bounds of the checksums that are computed on request.
        boundary: draws what parts the ranges of an answer.
        more: handlers of methods that not every site has.
        nearline: brings online what is not staged; None answers that it is not.
    """

    def __init__(
        self,
        files: ServedFiles,
        digests: DigestSettings | None = None,
        boundary: Callable[[], str] = lambda: secrets.token_hex(16),
        more: Handlers | None = None,
        nearline: Nearline | None = None,
    ) -> None:
        self._files = files
        self._opening = Opening(files, nearline)
        self._digests = Digests(digests or DigestSettings())
        self._boundary = boundary
        self.handlers: Handlers = {
            "OPTIONS": self.options,
            "GET": self.get,
            "HEAD": self.head,
            "PROPFIND": self.propfind,
            **(more or {}),
        }
        self._allow = ", ".join(method for method in METHODS if method in self.handlers)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        method = environ["REQUEST_METHOD"]
        handler = self.handlers.get(method)
        try:
            answer = handler(Request.of(environ)) if handler else self._refused(method)
        except NotFound:
            answer = told(Problem.of(NotFound(ABSENT)))
        except MdmError as error:
            answer = told(Problem.of(error))
            if isinstance(error, RequestExpired) and method in READING:
                answer = told(replace(Problem.of(error), status=NOT_STAGED))
        start_response(f"{answer.status.value} {answer.status.phrase}", answer.headers)
        return answer.body

    def _refused(self, method: str) -> Answer:
        if method not in METHODS:
            return told(Problem(HTTPStatus.NOT_IMPLEMENTED, "this method is not known here"))
        answer = told(Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"not at this door: {METHODS[method].how}"))
        answer.headers.append(("Allow", self._allow))
        return answer

    @requires(METHODS["OPTIONS"].right)
    def options(self, request: Request) -> Answer:  # noqa: ARG002 - one answer for every name
        """Tell what can be done here."""
        headers = [("Allow", self._allow), ("DAV", "1"), ("Accept-Ranges", "bytes"), ("Content-Length", "0")]
        return Answer(HTTPStatus.OK, headers)

    @requires(METHODS["GET"].right)
    def get(self, request: Request) -> Answer:
        """Send a file, or parts of it; of a directory a page of links.

        Raises:
            NotFound, NotAuthorised, RequestExpired: see `files.ServedFiles.open`.
        """
        with ExitStack() as stack:
            try:
                found = self._opening.open(request, lambda: self._known(request), accepts=True)
            except IsADirectory:
                return self._index(request)
            if isinstance(found, Answer):
                return found
            file = stack.enter_context(found)
            tag = entity_tag(file.adler32, file.size_bytes)
            if refusal := unmet_by_reading(request, tag):
                return refusal
            headers = [*of_tag(tag), *self._digest(request, file)]
            try:
                answer, plan = self._plan(request, tag, file.size_bytes)
            except Unsatisfiable:
                return _unsatisfiable(file.size_bytes)
            file.charge(sum(part.size_bytes for part in plan if isinstance(part, ByteRange)))
            body = FileBody(file, plan, stack.pop_all().close)
            return Answer(answer.status, [*answer.headers, *headers], body)

    @requires(METHODS["HEAD"].right)
    def head(self, request: Request) -> Answer:
        """Tell what GET would send, from the names alone: the file need not be staged.

        Raises:
            NotFound: see `files.ServedFiles.stat`.
        """
        info = self._files.stat(request.principal, request.path)
        if info.is_directory:
            return Answer(HTTPStatus.OK, [("Content-Type", _HTML)])
        tag = entity_tag(info.adler32, info.size_bytes)
        if refusal := unmet_by_reading(request, tag):
            return refusal
        size = [] if info.size_bytes is None else [("Content-Length", str(info.size_bytes))]
        headers = [
            ("Content-Type", CONTENT_TYPE),
            ("Last-Modified", format_datetime(info.shown_at, usegmt=True)),
            *size,
            *of_tag(tag),
            *self._digest(request, info),
        ]
        return Answer(HTTPStatus.OK, headers)

    @requires(METHODS["PROPFIND"].right)
    def propfind(self, request: Request) -> Answer:
        """Tell properties of a name and, at depth 1, of what the caller may see in it.

        Raises:
            NotFound: see `files.ServedFiles.stat`.
            InvalidRequest, TooLarge: the body is not acceptable.
        """
        depth = request.header("Depth")
        if depth not in ("0", "1"):
            return Answer(HTTPStatus.FORBIDDEN, [("Content-Type", _XML)], [FINITE_DEPTH])
        body = request.body.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"the body of a PROPFIND has at most {MAX_BODY_BYTES} bytes")
        wanted = wanted_properties(body)
        itself = self._files.stat(request.principal, request.path)
        entries: Iterable[FileInfo] = (itself,)
        if depth == "1" and itself.is_directory:
            entries = chain(entries, self._files.listdir(request.principal, request.path))
        pieces = multistatus(entries, wanted)
        return Answer(HTTPStatus.MULTI_STATUS, [("Content-Type", _XML)], joined(pieces))

    def _known(self, request: Request) -> Answer | None:
        """Answer a GET that needs no bytes of its file, where the names tell enough."""
        info = self._files.stat(request.principal, request.path)
        tag = entity_tag(info.adler32, info.size_bytes)
        if info.size_bytes is None or tag is None:
            return None
        if refusal := unmet_by_reading(request, tag):
            return refusal
        try:
            _ranges(request, tag, info.size_bytes)
        except Unsatisfiable:
            return _unsatisfiable(info.size_bytes)
        return None

    def _plan(self, request: Request, tag: str | None, size_bytes: int) -> tuple[Answer, Plan]:
        """Decide between the whole file, one range and several."""
        ranges = _ranges(request, tag, size_bytes)
        if not ranges:
            return _sized(HTTPStatus.OK, CONTENT_TYPE, size_bytes), [ByteRange(0, size_bytes)]
        if len(ranges) == 1:
            answer = _sized(HTTPStatus.PARTIAL_CONTENT, CONTENT_TYPE, ranges[0].size_bytes)
            answer.headers.append(("Content-Range", ranges[0].of(size_bytes)))
            return answer, ranges
        parts = Multipart(ranges, size_bytes, CONTENT_TYPE, self._boundary())
        plan = [piece for part in ranges for piece in (parts.head(part), part)]
        return _sized(HTTPStatus.PARTIAL_CONTENT, parts.media_type, parts.length), [*plan, parts.tail]

    def _digest(self, request: Request, known: FileInfo | OpenedFile) -> Headers:
        def opening() -> AbstractContextManager[OpenedFile]:
            if isinstance(known, FileInfo):
                return self._files.open(request.principal, request.path)
            return nullcontext(known)

        return self._digests.headers(request.principal.dn, request.header, known.adler32, opening)

    def _index(self, request: Request) -> Answer:
        entries = self._files.listdir(request.principal, request.path)
        lines = (f'<li><a href="{href(entry)}">{name(entry.path)}</a></li>\n' for entry in entries)
        page = chain((f"<!doctype html>\n<title>{request.path}</title>\n<ul>\n",), lines, ("</ul>\n",))
        pieces = joined(line.encode("ascii") for line in page)
        return Answer(HTTPStatus.OK, [("Content-Type", _HTML)], pieces)


def _sized(status: HTTPStatus, content_type: str, size_bytes: int) -> Answer:
    return Answer(status, [("Content-Type", content_type), ("Content-Length", str(size_bytes))])


def _ranges(request: Request, tag: str | None, size_bytes: int) -> Sequence[ByteRange]:
    """Return what parts of the file are wanted; none for all of it.

    Raises:
        Unsatisfiable: it has none of them.
    """
    wanted = request.header("Range") if meets_if_range(request.header("If-Range"), tag) else None
    return ranges_of(wanted or "", size_bytes)


def _unsatisfiable(size_bytes: int) -> Answer:
    problem = Problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "the file has no such bytes")
    answer = told(problem)
    answer.headers.append(("Content-Range", f"bytes */{size_bytes}"))
    return answer
