"""PUT, MKCOL, DELETE and MOVE at the HTTPS door.

Everything is decided before a byte of a body is read: a client that waits for ``100 Continue`` sends nothing
that will be refused. A file appears under its name when all of it is here and is what its sender says of
it, and not before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from http import HTTPStatus

from zlib_ng import zlib_ng

from srm_dicom.errors import AlreadyExists, InvalidRequest, IsADirectory, NotFound
from srm_dicom.rights.declare import requires
from srm_dicom.transfer.davconditions import is_there, unmet_by_change
from srm_dicom.transfer.davdestination import onto_itself, own_destination
from srm_dicom.transfer.davmessage import ABSENT, Answer, Handlers, Request, done, told
from srm_dicom.transfer.files import NewFile, ServedFiles, WrittenFiles
from srm_dicom.web.problems import Problem
from srm_dicom.wire.dav.conditions import entity_tag
from srm_dicom.wire.dav.digest import RFC3230, Algorithm, told_of
from srm_dicom.wire.dav.methods import METHODS

_PIECE_BYTES = 256 * 1024
_NAMES = {Algorithm.MD5: "md5", Algorithm.SHA256: "sha256"}


class Writes:
    """The handlers of the methods that change something.

    Args:
        files: to look names up.
        writing: decides, audits and takes the bytes.
    """

    def __init__(self, files: ServedFiles, writing: WrittenFiles) -> None:
        self._files = files
        self._writing = writing
        self.handlers: Handlers = {
            "PUT": self.put,
            "MKCOL": self.mkcol,
            "DELETE": self.delete,
            "MOVE": self.move,
        }

    @requires(METHODS["PUT"].right)
    def put(self, request: Request) -> Answer:
        """Take a file in.

        Raises:
            MdmError: see `files.WrittenFiles.create`.
            InvalidRequest: the body is not what the request says it is; the file is as it was before.
        """
        if request.header("Content-Range") is not None:  # RFC 9110, 14.5
            raise InvalidRequest("a file is written as a whole")
        if refusal := unmet_by_change(self._files, request):
            return refusal
        sums = _Sums(told_of(request.header))
        announced = request.environ.get("CONTENT_LENGTH")
        expected = int(announced) if announced else None
        try:
            file = self._writing.create(
                request.principal, request.path, expected_bytes=expected, resumable=False
            )
        except IsADirectory:
            return told(Problem(HTTPStatus.METHOD_NOT_ALLOWED, "this is a directory"))
        with file:
            if refusal := unmet_by_change(
                self._files, request
            ):  # nobody else can write the name from here on
                return refusal
            size_bytes = _pour(request, file, sums)
            sums.check()
            file.finish()
        return done(
            HTTPStatus.OK if file.replaces else HTTPStatus.CREATED,
            ("ETag", entity_tag(sums.adler32, size_bytes) or ""),
            ("Digest", RFC3230.value(Algorithm.ADLER32, bytes.fromhex(sums.adler32))),
        )

    @requires(METHODS["MKCOL"].right)
    def mkcol(self, request: Request) -> Answer:
        """Make a directory (RFC 4918, 9.3.1).

        Raises:
            MdmError: see `files.WrittenFiles.mkdir`.
        """
        if request.body.read(1):
            return told(Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a directory is made without a body"))
        if is_there(self._files, request.principal, request.path):  # whether or not the caller might make it
            return told(Problem(HTTPStatus.METHOD_NOT_ALLOWED, "the name is taken"))
        try:
            self._writing.mkdir(request.principal, request.path)
        except NotFound:
            return told(Problem(HTTPStatus.CONFLICT, "the directory above is not there"))
        return done(HTTPStatus.CREATED)

    @requires(METHODS["DELETE"].right)
    def delete(self, request: Request) -> Answer:
        """Remove a file, what is being written to its name, or a directory that is empty.

        Raises:
            MdmError: see `files.WrittenFiles.remove`.
        """
        if refusal := unmet_by_change(self._files, request):
            return refusal
        try:
            directory = self._files.stat(request.principal, request.path).is_directory
        except NotFound:  # what is only being written nobody sees
            return self._delete_unseen(request)
        self._writing.remove(request.principal, request.path, directory=directory)
        return done(HTTPStatus.NO_CONTENT)

    def _delete_unseen(self, request: Request) -> Answer:
        try:
            self._writing.remove(request.principal, request.path, directory=False)
        except IsADirectory as error:
            raise NotFound(ABSENT) from error
        return done(HTTPStatus.NO_CONTENT)

    @requires(METHODS["MOVE"].right)
    def move(self, request: Request) -> Answer:
        """Give a name to a file or a directory; a file takes the place of another unless that is forbidden.

        Raises:
            InvalidRequest: the request does not say which name.
            MdmError: see `files.WrittenFiles.rename`.
        """
        target = own_destination(request)
        if target is None:
            return told(Problem(HTTPStatus.BAD_GATEWAY, "the new name is another server's"))
        if target == request.path:
            return onto_itself(self._files, request)
        overwrite = request.header("Overwrite") != "F"
        if refusal := unmet_by_change(self._files, request):
            return refusal
        try:
            replaced = self._writing.rename(request.principal, request.path, target, overwrite=overwrite)
        except AlreadyExists as error:
            status = HTTPStatus.CONFLICT if overwrite else HTTPStatus.PRECONDITION_FAILED
            return told(replace(Problem.of(error), status=status))
        return done(HTTPStatus.NO_CONTENT if replaced else HTTPStatus.CREATED)


class _Sums:
    """The sums of a body while it comes in: adler32, and what else its sender tells."""

    def __init__(self, announced: Collection[tuple[Algorithm, bytes]]) -> None:
        self._announced = announced
        self._adler32 = 1
        self._hashes = {one: hashlib.new(_NAMES[one]) for one, _ in announced if one in _NAMES}

    @property
    def adler32(self) -> str:
        return f"{self._adler32:08x}"

    def update(self, piece: memoryview) -> None:
        self._adler32 = zlib_ng.adler32(piece, self._adler32)
        for one in self._hashes.values():
            one.update(piece)

    def check(self) -> None:
        """Compare.

        Raises:
            InvalidRequest: the sender says something else.
        """
        found = {algorithm: one.digest() for algorithm, one in self._hashes.items()}
        found[Algorithm.ADLER32] = bytes.fromhex(self.adler32)
        for algorithm, digest in self._announced:
            if found[algorithm] != digest:
                raise InvalidRequest(
                    f"the file has another {algorithm.value} than its sender says", advice="Send it again."
                )


def _pour(request: Request, file: NewFile, sums: _Sums) -> int:
    """Read the body into a file; returns how many bytes it has."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    offset = 0
    while count := request.body.readinto(buffer):  # type: ignore[attr-defined]
        piece = buffer[:count]
        file.write(offset, piece)
        sums.update(piece)
        offset += count
    return offset
