"""``Authorization: Bearer`` on the doors that take tokens; no other header ever says who is calling.

Beside a client certificate a token narrows what its owner may do and adds nothing. Without a certificate the
token says who is calling, and each request has to bring one. Each request is verified: a connection
may carry those of several users.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import h11

from srm_dicom.audit.doors import DoorLog
from srm_dicom.errors import NotAuthenticated, Overloaded
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.tokens import TokenVerifier
from srm_dicom.turns import Place
from srm_dicom.web.environ import Caller

NAMELESS = Principal("", (), limited=True, expires=datetime.max.replace(tzinfo=UTC), scopes=())
"""Who has shown no certificate and not yet a token."""

_SCHEME = "bearer "


class Bearers:
    """Finds the caller of each request of one connection.

    Args:
        tokens: None takes no tokens: the caller is who came through the handshake.
        gate: has a word about bearers too: bans and admission.
        visitors: is told of each new bearer and of each that is refused.
        place: of the connection among those of its caller.
    """

    def __init__(self, tokens: TokenVerifier | None, gate: Gate, visitors: DoorLog, place: Place) -> None:
        self._tokens = tokens
        self._gate = gate
        self._visitors = visitors
        self._place = place
        self._known: Principal | None = None

    def caller_of(self, request: h11.Request, caller: Caller) -> Caller:
        """Return the caller of a request.

        Raises:
            NotAuthenticated: the token is not good, or there is neither token nor certificate.
            Overloaded: the caller has too many connections.
        """
        found = self._found(request, caller)
        if not self._place.take(found.principal.dn):
            raise Overloaded("you have too many connections", advice="Close some, or try again later.")
        return found

    def _found(self, request: h11.Request, caller: Caller) -> Caller:
        if self._tokens is None:
            return caller
        values = [value for name, value in request.headers if name == b"authorization"]
        if not values:
            if caller.principal is NAMELESS:
                raise NotAuthenticated("there is neither a certificate nor a token")
            return caller
        try:
            principal = self._narrowed(caller.principal, self._bearer(values))
            self._gate.recheck(principal)
        except NotAuthenticated as error:
            self._visitors.refused(error.message)
            raise
        if principal != self._known:
            self._visitors.entered(principal)
            self._known = principal
        return replace(caller, principal=principal)

    def _bearer(self, values: list[bytes]) -> Principal:
        text = values[0].decode("latin-1")
        if self._tokens is None or len(values) != 1 or not text.lower().startswith(_SCHEME):
            raise NotAuthenticated("one bearer token is taken for authorization")
        return self._tokens.principal(text[len(_SCHEME) :].strip())

    @staticmethod
    def _narrowed(owner: Principal, bearer: Principal) -> Principal:
        if owner is NAMELESS:
            return bearer
        expires = min(owner.expires, bearer.expires)
        return replace(owner, limited=True, expires=expires, scopes=bearer.scopes)
