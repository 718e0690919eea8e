"""Credentials that callers have delegated over https, and GridSite's service by which they do it.

They are in the memory of this process and nowhere else: what was delegated is gone after a restart, and
whoever needs it is told to delegate again. One that was delegated with some groups does not serve the
same person's requests with others, nor any that a token has narrowed: those could do by it what they may not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from srm_dicom.clock import Clock
from srm_dicom.errors import (
    InvalidRequest,
    MdmError,
    NotAuthenticated,
    NotSupported,
    Overloaded,
    RequestExpired,
)
from srm_dicom.identity.delegation import (
    GONE,
    MAX_CERTIFICATE_BYTES,
    DelegatedCredential,
    DelegationAcceptor,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import Scope
from srm_dicom.ids import new_token
from srm_dicom.soap.envelope import body_entry
from srm_dicom.soap.faults import fault
from srm_dicom.web.environ import CHAIN, PRINCIPAL
from srm_dicom.web.problems import Problem
from srm_dicom.wire.gridsite import CONTENT_TYPE, INTERFACE_VERSION, Call

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/.gridsite-delegation"
MAX_MESSAGE_BYTES = 2 * MAX_CERTIFICATE_BYTES
_ANSWERED_WITHIN_S = 600.0
"""Clients sign at once; what was begun by one that has died must not take its owner's places for ever."""

_Owner = tuple[str, tuple[str, ...], bool, tuple[Scope, ...] | None]
_Key = tuple[_Owner, str]


@dataclass(frozen=True, slots=True)
class DelegationBounds:
    """How much is kept.

    Attributes:
        at_once: credentials and begun delegations of everybody together.
        of_one: of one caller.
    """

    at_once: int = 2000
    of_one: int = 8


class Delegations:
    """What is held for whom. For any number of threads."""

    def __init__(self, clock: Clock, bounds: DelegationBounds | None = None) -> None:
        self._clock = clock
        self._bounds = bounds or DelegationBounds()
        self._lock = threading.Lock()
        self._begun: dict[_Key, tuple[DelegationAcceptor, float]] = {}
        self._held: dict[_Key, DelegatedCredential] = {}

    def begin(self, principal: Principal, name: str, chain: tuple[bytes, ...]) -> bytes:
        """Begin a delegation; returns the certificate request, DER.

        Args:
            principal: who delegates.
            name: what the caller calls it; of the same name, the new one replaces the old.
            chain: of the caller's session, verified; empty without a certificate.

        Raises:
            NotSupported: a token cannot be delegated, and whom one narrows delegates nothing.
            Overloaded: too many are kept.
        """
        if not chain or principal.scopes is not None:
            raise NotSupported("a token cannot be delegated", advice="Hand it on with TransferHeader.")
        acceptor = DelegationAcceptor(chain)
        key = (_owner(principal), name)
        with self._lock:
            self._forget_what_is_over()
            keys = {*self._begun, *self._held}
            if key not in keys:
                mine = sum(owner == key[0] for owner, _ in keys)
                if mine >= self._bounds.of_one or len(keys) >= self._bounds.at_once:
                    raise Overloaded("too many delegated credentials are kept", advice="Destroy some.")
            self._begun[key] = acceptor, self._clock.monotonic_s() + _ANSWERED_WITHIN_S
        return acceptor.request()

    def end(self, principal: Principal, name: str, der: bytes) -> None:
        """Take the certificate that answers the request.

        Raises:
            RequestExpired: no delegation of this name was begun, or too long ago.
            NotAuthenticated: see `identity.delegation.DelegationAcceptor.accept`.
        """
        key = (_owner(principal), name)
        with self._lock:
            self._forget_what_is_over()
            begun = self._begun.pop(key, None)
        if begun is None:
            raise RequestExpired(GONE)
        credential = begun[0].accept(der, self._clock.now())
        with self._lock:
            self._held[key] = credential

    def find(self, principal: Principal, name: str) -> DelegatedCredential:
        """Return what a caller has delegated under a name.

        Raises:
            RequestExpired: it is over, or this process has not seen it.
        """
        with self._lock:
            self._forget_what_is_over()
            found = self._held.get((_owner(principal), name))
        if found is None:
            raise RequestExpired(GONE)
        return found

    def best(self, principal: Principal) -> DelegatedCredential | None:
        """Return what lives longest of all that a caller has delegated; None if there is nothing."""
        owner = _owner(principal)
        with self._lock:
            self._forget_what_is_over()
            mine = [credential for (who, _), credential in self._held.items() if who == owner]
        return max(mine, key=lambda credential: credential.expires, default=None)

    def drop(self, principal: Principal, name: str) -> None:
        """Forget a credential, and a delegation that was begun.

        Raises:
            RequestExpired: there is neither.
        """
        key = (_owner(principal), name)
        with self._lock:
            begun, held = self._begun.pop(key, None), self._held.pop(key, None)
        if begun is None and held is None:
            raise RequestExpired(GONE)

    def _forget_what_is_over(self) -> None:
        now = self._clock.now()
        for key in [key for key, credential in self._held.items() if credential.expires <= now]:
            del self._held[key]
        now_s = self._clock.monotonic_s()
        for key in [key for key, (_, until_s) in self._begun.items() if until_s <= now_s]:
            del self._begun[key]


class DelegationService:
    """The WSGI application over `Delegations`."""

    def __init__(self, delegations: Delegations) -> None:
        self._delegations = delegations
        self.handlers: Mapping[str, Callable[[Call, Principal, tuple[bytes, ...]], _Value]] = {
            "getVersion": lambda *_: INTERFACE_VERSION,
            "getInterfaceVersion": lambda *_: INTERFACE_VERSION,
            "getServiceMetadata": lambda *_: "",
            "getProxyReq": self._begin,
            "renewProxyReq": self._begin,
            "getNewProxyReq": self._begin_new,
            "putProxy": self._end,
            "getTerminationTime": self._termination,
            "destroy": self._drop,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one call (PEP 3333)."""
        if environ["REQUEST_METHOD"] != "POST":
            return Problem(HTTPStatus.METHOD_NOT_ALLOWED, "SOAP calls are POSTs").answer(start_response)
        try:
            content = environ["wsgi.input"].read(MAX_MESSAGE_BYTES + 1)
            if len(content) > MAX_MESSAGE_BYTES:
                raise InvalidRequest(f"a message has at most {MAX_MESSAGE_BYTES} bytes")
            call = Call.read(body_entry(content))
            value = self.handlers[call.operation](call, environ[PRINCIPAL], environ[CHAIN])
            status, body = HTTPStatus.OK, call.answer(value)
        except MdmError as error:
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, fault(error)
        headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _begin(self, call: Call, principal: Principal, chain: tuple[bytes, ...]) -> _Value:
        return _pem(self._delegations.begin(principal, call.delegation_id, chain))

    def _begin_new(self, _call: Call, principal: Principal, chain: tuple[bytes, ...]) -> _Value:
        name = new_token()
        request = _pem(self._delegations.begin(principal, name, chain))
        return {"proxyRequest": request, "delegationID": name}

    def _end(self, call: Call, principal: Principal, _chain: tuple[bytes, ...]) -> _Value:
        try:
            first, *_ = x509.load_pem_x509_certificates(call.parameters.get("proxy", "").encode())
        except ValueError as error:
            raise NotAuthenticated("what was delegated is no certificate") from error
        self._delegations.end(principal, call.delegation_id, first.public_bytes(Encoding.DER))
        return None

    def _termination(self, call: Call, principal: Principal, _chain: tuple[bytes, ...]) -> _Value:
        expires = self._delegations.find(principal, call.delegation_id).expires
        return expires.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _drop(self, call: Call, principal: Principal, _chain: tuple[bytes, ...]) -> _Value:
        self._delegations.drop(principal, call.delegation_id)
        return None


_Value = str | Mapping[str, str] | None


def _owner(principal: Principal) -> _Owner:
    return principal.dn, principal.fqans, principal.limited, principal.scopes


def _pem(request: bytes) -> str:
    return x509.load_der_x509_csr(request).public_bytes(Encoding.PEM).decode("ascii")
