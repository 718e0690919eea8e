"""What a request of the HTTPS door demands of its name before anything is done (RFC 9110, 13)."""

from __future__ import annotations

from http import HTTPStatus

from srm_dicom.broker.areas import UPLOADS
from srm_dicom.errors import NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.transfer.davmessage import Answer, Headers, Request, told
from srm_dicom.transfer.files import ServedFiles
from srm_dicom.web.problems import Problem
from srm_dicom.wire.dav.conditions import entity_tag, fails_if_match, meets_if_none_match

_CHANGED = Problem(HTTPStatus.PRECONDITION_FAILED, "the file has other bytes by now")
THERE = Problem(HTTPStatus.PRECONDITION_FAILED, "there is a file of this name")


def unmet_by_reading(request: Request, tag: str | None) -> Answer | None:
    """Return the answer to a request for a file that is there, if its conditions are not met."""
    if fails_if_match(request.header("If-Match"), tag):
        return told(_CHANGED)
    if meets_if_none_match(request.header("If-None-Match"), tag):
        return Answer(HTTPStatus.NOT_MODIFIED, of_tag(tag))
    return None


def unmet_by_change(files: ServedFiles, request: Request, *, overwrite: bool = True) -> Answer | None:
    """Return the answer to a request that would change its name, if its conditions are not met.

    `overwrite` says whether what is there may be replaced (RFC 4918, 10.6).
    """
    if_match, if_none_match = request.header("If-Match"), request.header("If-None-Match")
    if if_match is None and if_none_match is None and overwrite:
        return None
    there, tag = _found(files, request.principal, request.path)
    if fails_if_match(if_match, tag, there=there):
        return told(_CHANGED)
    if (there and not overwrite) or meets_if_none_match(if_none_match, tag, there=there):
        return told(THERE)
    return None


def is_there(files: ServedFiles, principal: Principal, path: SitePath) -> bool:
    """Tell whether the caller may know that a name is taken."""
    return _found(files, principal, path)[0]


def of_tag(tag: str | None) -> Headers:
    """Return the headers of every answer about a file."""
    return [("Accept-Ranges", "bytes"), *([("ETag", tag)] if tag else [])]


def _found(files: ServedFiles, principal: Principal, path: SitePath) -> tuple[bool, str | None]:
    """Tell whether the name is taken, and the tag of its bytes where that is known."""
    if path.startswith(f"{UPLOADS}/"):
        return False, None  # an upload has no name yet, however much of it is here: ARC forbids overwriting
    try:
        info = files.stat(principal, path)
    except NotFound:
        return False, None
    except NotAuthorised:
        if principal.scopes is not None:
            raise  # what a token does not cover is neither there nor not there
        return True, None
    return True, entity_tag(info.adler32, info.size_bytes)
