"""COPY of a file to another name of this site (RFC 4918, 9.8), as rclone and mounted directories ask for it.

The bytes take the way of any others: who may read one name and write the other could fetch and put them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus

from zlib_ng import zlib_ng

from srm_dicom.errors import IntegrityError, NotSupported, Overloaded
from srm_dicom.ids import SitePath
from srm_dicom.rights.declare import requires
from srm_dicom.transfer.davconditions import THERE, is_there, unmet_by_change
from srm_dicom.transfer.davdestination import onto_itself, own_destination
from srm_dicom.transfer.davmessage import Answer, Handlers, Request, done, told
from srm_dicom.transfer.davopening import Opening
from srm_dicom.transfer.files import NewFile, OpenedFile, ServedFiles, WrittenFiles, read_bytes
from srm_dicom.turns import Turns
from srm_dicom.wire.dav.methods import METHODS

AT_ONCE = 20
"""Copies that run at the same time; more are told to come later."""

_PIECE_BYTES = 256 * 1024


class CopiesHere:
    """The handler of COPY where nothing is copied to or from other servers."""

    def __init__(self, files: ServedFiles, writing: WrittenFiles, opening: Opening) -> None:
        self._files = files
        self._writing = writing
        self._opening = opening
        self._turns = Turns(AT_ONCE)
        self.handlers: Handlers = {"COPY": self.copy}

    @requires(METHODS["COPY"].right)
    def copy(self, request: Request) -> Answer:
        """Copy a file to another name.

        Raises:
            NotSupported: another server has a part in it.
            MdmError: as for `to`.
        """
        if request.header("Source") is not None or (target := own_destination(request)) is None:
            raise NotSupported("this site copies to and from no other servers")
        return self.to(request, target)

    def to(self, request: Request, target: SitePath) -> Answer:
        """Copy the file that a request names.

        Raises:
            MdmError: see `files.ServedFiles.open` and `files.WrittenFiles.create`.
            NotSupported: images are handed in there.
            Overloaded: enough copies are running.
        """
        principal = request.principal
        if target == request.path:
            return onto_itself(self._files, request)
        if refusal := unmet_by_change(self._files, request):
            return refusal
        if self._taken(request, target):
            return told(THERE)
        if self._writing.private_only(principal, target):
            raise NotSupported("images are uploaded to this directory, not copied", advice="Use a put.")
        found = self._opening.open(request)
        if isinstance(found, Answer):
            return found
        with ExitStack() as stack:
            file = stack.enter_context(found)
            if not self._turns.take(principal.dn):
                raise Overloaded("enough copies are running", advice="Try again in a minute.")
            stack.callback(self._turns.release, principal.dn)
            size_bytes = file.size_bytes
            new = stack.enter_context(
                self._writing.create(principal, target, expected_bytes=size_bytes, resumable=False)
            )
            if self._taken(request, target):  # meanwhile; nobody else can write the name from here on
                return told(THERE)
            file.charge(size_bytes)
            pour(file, new)
            new.finish()
        return done(HTTPStatus.NO_CONTENT if new.replaces else HTTPStatus.CREATED)

    def _taken(self, request: Request, target: SitePath) -> bool:
        """Tell whether there is a file that may not be replaced."""
        return request.header("Overwrite") == "F" and is_there(self._files, request.principal, target)


def pour(file: OpenedFile, new: NewFile, told: Callable[[int], None] = lambda _: None) -> None:
    """Write what a file has into another; `told` hears how many bytes were.

    Raises:
        IntegrityError: they do not have the file's checksum.
    """
    offset, adler32 = 0, 1
    for piece in read_bytes(file, 0, file.size_bytes, _PIECE_BYTES):
        new.write(offset, memoryview(piece))
        told(len(piece))
        offset, adler32 = offset + len(piece), zlib_ng.adler32(piece, adler32)
    if file.adler32 not in (None, f"{adler32:08x}"):
        raise IntegrityError("a staged file has not its checksum")
