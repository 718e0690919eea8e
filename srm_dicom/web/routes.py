"""Several WSGI applications on one port, told apart by the beginning of the path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def routed(default: WSGIApplication, below: Mapping[str, WSGIApplication]) -> WSGIApplication:
    """Return an application that hands each request to the one at or above its path, else to `default`.

    Args:
        default: takes what no other takes.
        below: applications by absolute path, without a slash at the end.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        found = (one for prefix, one in below.items() if path == prefix or path.startswith(prefix + "/"))
        return next(found, default)(environ, start_response)

    return app
