"""Where MOVE and COPY go: the Destination header (RFC 4918, 10.3), on this server or on another."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import SplitResult, unquote, urlsplit

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.transfer.davmessage import Answer, Request, told
from srm_dicom.transfer.files import ServedFiles
from srm_dicom.web.problems import Problem

_CLEAR_PORTS = {"http": 80, "dav": 80}
_TLS_PORT = 443


def own_destination(request: Request) -> SitePath | None:
    """Return the name here that a request goes to; None if it is another server's.

    Raises:
        InvalidRequest: there is none, or no name here can be so.
    """
    try:
        wanted = urlsplit(request.header("Destination") or "")
        elsewhere = wanted.netloc and _server(wanted) != _server(
            urlsplit(f"//{request.header('Host') or ''}")
        )
    except ValueError as error:
        raise InvalidRequest("the Destination is no URL") from error
    if elsewhere:
        return None
    if not wanted.path:
        raise InvalidRequest(f"{request.environ['REQUEST_METHOD']} needs a Destination")
    return parse_path(unquote(wanted.path))


def onto_itself(files: ServedFiles, request: Request) -> Answer:
    """Refuse to move or to copy a name onto itself, if it is there.

    Raises:
        NotFound, NotAuthorised: see `files.ServedFiles.stat`.
    """
    files.stat(request.principal, request.path)
    return told(Problem(HTTPStatus.FORBIDDEN, "this is the same name"))


def _server(url: SplitResult) -> tuple[str, int]:
    """Return host and port, in the one form that they can be compared in."""
    return (url.hostname or "").rstrip("."), url.port or _CLEAR_PORTS.get(url.scheme.lower(), _TLS_PORT)
