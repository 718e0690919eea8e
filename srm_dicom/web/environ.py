"""From a parsed request to a WSGI environment (PEP 3333), without I/O.

Who is calling comes from our own TLS layer (and from `bearer`) alone: ``srm_dicom.principal`` and
``srm_dicom.peer``. Headers by which an identity or an origin is announced are dropped, whoever sent them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import h11

from srm_dicom.errors import InvalidRequest
from srm_dicom.identity.delegation import DelegatedCredential
from srm_dicom.identity.principal import Principal
from srm_dicom.wire.httpg import origin_form

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PRINCIPAL = "srm_dicom.principal"
PEER = "srm_dicom.peer"
DELEGATED = "srm_dicom.delegated"
CHAIN = "srm_dicom.chain"

_NEVER_PASSED = ("x-", "ssl-", "remote-", "forwarded", "proxy", "authorization")
_OWN_VARIABLE = frozenset({"content-type", "content-length"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is on the line.

    Attributes:
        principal: the verified identity.
        peer: network address, without the port.
        delegated: the credential that the caller delegated for this session, if any.
        chain: the certificates of the session, verified, DER, from the leaf to the root; empty without.
    """

    principal: Principal
    peer: str
    delegated: DelegatedCredential | None = None
    chain: tuple[bytes, ...] = ()


def environ(
    request: h11.Request, body: IO[bytes], caller: Caller, address: tuple[str, int]
) -> WSGIEnvironment:
    """Build the environment of one request that arrived at `address` (host, port).

    Raises:
        InvalidRequest: the target or the framing of the request is not acceptable.
    """
    _check_framing(request)
    path, _, query = origin_form(request.target).partition(b"?")
    variables: WSGIEnvironment = {
        "REQUEST_METHOD": request.method.decode("ascii"),
        "SCRIPT_NAME": "",
        "PATH_INFO": _decoded(path),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": address[0],
        "SERVER_PORT": str(address[1]),
        "SERVER_PROTOCOL": "HTTP/" + request.http_version.decode("ascii"),
        "REMOTE_ADDR": caller.peer,
        "HTTPS": "on",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        PRINCIPAL: caller.principal,
        PEER: caller.peer,
        DELEGATED: caller.delegated,
        CHAIN: caller.chain,
    }
    variables.update(_headers((name.decode("ascii"), value) for name, value in request.headers))
    return variables


def _check_framing(request: h11.Request) -> None:
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        raise InvalidRequest("the length of the request body is ambiguous")  # RFC 9112 section 6.1: smuggling
    if request.method == b"CONNECT":
        raise InvalidRequest("this server is no proxy")


def _decoded(path: bytes) -> str:
    decoded = unquote_to_bytes(path)
    if b"\0" in decoded:
        raise InvalidRequest("the request target has a NUL")
    return decoded.decode("latin-1")


def _headers(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in headers:
        if "_" in name or name.startswith(_NEVER_PASSED):
            continue
        key = name.upper().replace("-", "_")
        if name not in _OWN_VARIABLE:
            key = "HTTP_" + key
        text = value.decode("latin-1")
        variables[key] = f"{variables[key]},{text}" if key in variables else text
    return variables
