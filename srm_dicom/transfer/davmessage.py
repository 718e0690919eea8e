"""What handlers of the HTTPS door are given, and what they give back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING

from srm_dicom.errors import InvalidRequest, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.problems import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ABSENT = "no such file or directory"
"""Of a name that is not there and of one that the caller may not learn of."""

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """What the door needs of a WSGI environment."""

    principal: Principal
    path: SitePath
    body: IO[bytes]
    environ: WSGIEnvironment

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Request:
        """Read an environment of `srm_dicom.web`.

        Raises:
            NotFound: the target is no name that could be here.
            InvalidRequest: the same, of what would make the name: which names are possible is no secret.
        """
        text = environ["PATH_INFO"]
        if text == "*" and environ["REQUEST_METHOD"] == "OPTIONS":  # RFC 9110, 9.3.7: the server as a whole
            text = "/"
        try:
            path = parse_path(text)
        except InvalidRequest as error:
            if _makes(environ):
                raise
            raise NotFound(ABSENT) from error
        return cls(environ[PRINCIPAL], path, environ["wsgi.input"], environ)

    def header(self, header: str) -> str | None:
        """Return the value of a header; None if the request has none of this name."""
        return self.environ.get("HTTP_" + header.upper().replace("-", "_"))


def _makes(environ: WSGIEnvironment) -> bool:
    """Tell whether a request makes the name that it is for; a COPY does when it has a Source."""
    method = environ["REQUEST_METHOD"]
    return method in ("PUT", "MKCOL") or (method == "COPY" and "HTTP_SOURCE" in environ)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response before it is started."""

    status: HTTPStatus
    headers: Headers
    body: Iterable[bytes] = ()


Handlers = Mapping[str, Callable[[Request], Answer]]
"""What answers a request, by its method."""


def done(status: HTTPStatus, *headers: tuple[str, str]) -> Answer:
    """Return an answer that has nothing more to say."""
    nothing = [] if status is HTTPStatus.NO_CONTENT else [("Content-Length", "0")]
    return Answer(status, [*headers, *nothing])


def told(problem: Problem) -> Answer:
    """Return a refusal."""
    body = problem.body()
    return Answer(problem.status, problem.headers(body), [body])
