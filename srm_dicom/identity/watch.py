"""Asking the gate again during a session: a revoked or banned caller does not stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal

_NEVER = datetime.max.replace(tzinfo=UTC)
LOOK_EVERY_S = 15.0
"""How long a session waits at most before it asks again; with the pace of the trust directory and of its
lists this keeps the promise that a revocation is effective within a minute."""


class Watch:
    """Asks for one session, not more often than `LOOK_EVERY_S` however often it is called.

    Nobody is asked about somebody without a name, who may do nothing anyway.
    """

    def __init__(self, gate: Gate, principal: Principal, clock: Clock) -> None:
        self._gate = gate
        self._principal = principal
        self._clock = clock
        self._bearer: Principal | None = None
        self._next_s = clock.monotonic_s() + LOOK_EVERY_S

    def also(self, bearer: Principal) -> None:
        """Ask about the bearer of a token too, whose end is no end of what the token has begun."""
        self._bearer = replace(bearer, expires=_NEVER) if bearer.dn != self._principal.dn else None

    def __call__(self) -> None:
        """Ask if it is time to.

        Raises:
            NotAuthenticated: the session has to end.
        """
        if self._clock.monotonic_s() >= self._next_s:
            self.now()

    def now(self) -> None:
        """Ask.

        Raises:
            NotAuthenticated: the session has to end.
        """
        if self._clock.now() >= self._principal.expires:
            raise NotAuthenticated("the credential of this session has expired")
        if self._principal.dn:
            self._gate.recheck(self._principal)
        if self._bearer is not None:
            self._gate.recheck(self._bearer)
        self._next_s = self._clock.monotonic_s() + LOOK_EVERY_S
