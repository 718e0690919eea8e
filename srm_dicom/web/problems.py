"""The HTTP edge of the error tree: one status for each leaf, told as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from srm_dicom import errors

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

STATUS: Mapping[type[errors.MdmError], HTTPStatus] = {
    errors.NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    errors.NotAuthorised: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.AlreadyExists: HTTPStatus.CONFLICT,
    errors.NotADirectory: HTTPStatus.CONFLICT,
    errors.IsADirectory: HTTPStatus.CONFLICT,
    errors.NotEmpty: HTTPStatus.CONFLICT,
    errors.Busy: HTTPStatus.LOCKED,
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.NotSupported: HTTPStatus.NOT_IMPLEMENTED,
    errors.RequestUnknown: HTTPStatus.NOT_FOUND,
    errors.Aborted: HTTPStatus.GONE,
    errors.RequestExpired: HTTPStatus.GONE,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BudgetExhausted: HTTPStatus.TOO_MANY_REQUESTS,
    errors.SpaceExhausted: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.SpaceExpired: HTTPStatus.GONE,
    errors.ConfigError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NoSpace: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IntegrityError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.CatalogueUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SourceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SourceSlow: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SourceRefused: HTTPStatus.BAD_GATEWAY,
    errors.NotDelivered: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ObjectRefused: HTTPStatus.FORBIDDEN,
    errors.KeyServerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.KeyQuorumMissing: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.KeyShareInvalid: HTTPStatus.BAD_GATEWAY,
}

RETRY_AFTER_S = "30"
"""What is overloaded by its own callers is not so for long."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal that is ready to be sent."""

    status: HTTPStatus
    detail: str
    advice: str = ""
    error: str = ""

    @classmethod
    def of(cls, error: errors.MdmError) -> Problem:
        """Translate a leaf of the error tree."""
        return cls(STATUS[type(error)], error.message, error.advice, type(error).__name__)

    def body(self) -> bytes:
        """Return the problem as JSON."""
        fields = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "advice": self.advice,
            "error": self.error,
        }
        return json.dumps({key: value for key, value in fields.items() if value}).encode()

    def headers(self, body: bytes) -> list[tuple[str, str]]:
        """Return the headers of an answer with that body."""
        headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        if self.error == errors.Overloaded.__name__:
            headers.append(("Retry-After", RETRY_AFTER_S))
        return headers

    def answer(self, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a WSGI call with this problem."""
        body = self.body()
        headers = self.headers(body)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        start_response(f"{self.status.value} {self.status.phrase}", headers)
        return [body]


_BY_NAME = {leaf.__name__: leaf for leaf in STATUS}
_MOST_CHARS = 500


def error_of(status: int, body: bytes) -> errors.MdmError:
    """Read a refusal back into the error tree: our own by its name, another server's by its status."""
    try:
        fields = json.loads(body)
        leaf = _BY_NAME[fields["error"]]
        return leaf(str(fields["detail"])[:_MOST_CHARS], advice=str(fields.get("advice", ""))[:_MOST_CHARS])
    except (ValueError, KeyError, TypeError):
        fallback = (
            errors.InvalidRequest if status < HTTPStatus.INTERNAL_SERVER_ERROR else errors.InternalError
        )
        leaf = next((leaf for leaf, known in STATUS.items() if known == status), fallback)
        return leaf(f"the server answered {status}")
