"""Logins and refusals of one door.

A login that cannot be written down does not happen. A refusal concerns somebody whom nobody has
verified, or who may go on being refused as fast as it asks, so anyone could fill the disk with them:
beyond a bound a minute they are only counted, and the next one that is kept says how many were not.
"""

from __future__ import annotations

import threading

import msgspec

from srm_dicom.audit.event import Action, Event, Outcome, printable
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError
from srm_dicom.identity.principal import Principal
from srm_dicom.telemetry import logger

log = logger("audit")

_WINDOW_S = 60.0


class DoorLog:
    """Writes down who came in and who did not.

    Args:
        audit: None keeps no record, for doors that stand outside a site.
        door: its name, such as ``srm``.
        clock: for the bound.
        refusals_per_minute: that are written in full.
    """

    def __init__(
        self, audit: AuditLog | None, door: str, clock: Clock, *, refusals_per_minute: int = 120
    ) -> None:
        self._audit = audit
        self._door = door
        self._clock = clock
        self._bound = refusals_per_minute
        self._lock = threading.Lock()
        self._since_s = clock.monotonic_s()
        self._kept = 0
        self._left_out = 0

    def entered(self, principal: Principal) -> None:
        """Record a login.

        Raises:
            InternalError, Overloaded: it cannot be recorded; the caller must not come in.
        """
        if self._audit is not None:
            rule = "limited proxy" if principal.limited else "credential accepted"
            self._audit.record(
                Event.by(principal, Action.LOGIN, Outcome.ALLOWED, operation=self._door, rule=rule)
            )

    def refused(self, reason: str, dn: str = "") -> None:
        """Record that somebody was not let in; never raises, for the answer is no anyway."""
        self.denied(
            Event(
                action=Action.REFUSAL,
                outcome=Outcome.DENIED,
                dn=dn,
                operation=self._door,
                rule=printable(reason),
            )
        )

    def denied(self, event: Event) -> None:
        """Record a refusal that costs nobody anything to cause, as `refused` does."""
        left_out = self._room()
        if self._audit is None or left_out is None:
            return
        if left_out:
            rule = f"{left_out} refusals before it were not kept; {event.rule}"
            event = msgspec.structs.replace(event, rule=printable(rule))
        try:
            self._audit.record(event)
        except MdmError as error:
            log.error(  # noqa: TRY400 - the reason is the whole story
                "refusal_not_recorded", error=type(error).__name__, reason=error.message
            )

    def _room(self) -> int | None:
        """Return how many refusals were left out since the last one, or None to leave this out too."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._since_s >= _WINDOW_S:
                self._since_s, self._kept = now_s, 0
            if self._kept >= self._bound:
                self._left_out += 1
                return None
            self._kept += 1
            left_out, self._left_out = self._left_out, 0
            return left_out
