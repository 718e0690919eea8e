"""The one answer of this package: a `Principal`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from srm_dicom.identity.scopes import Scope, within

BREAK_GLASS = "break-glass"
"""Stands in the rule of every decision made for an emergency; the audit log sounds an alarm at it."""


@dataclass(frozen=True, slots=True)
class TokenName:
    """What a bearer whom the site maps to a DN is called by the issuer; a ban may say either."""

    name: str


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential has been verified.

    Attributes:
        dn: subject of the end-entity certificate in the canonical slash form
            (``/DC=org/CN=Alice``), never the name of a proxy; of a token's user the DN that the site maps
            it to, else ``token:<issuer>#<subject>``.
        fqans: VOMS attributes in the order of the credential, the primary one first, without
            ``/Role=NULL`` and ``/Capability=NULL``; of a token its groups.
        limited: the chain has a limited proxy, or this is a token; such a caller may read and never
            administer.
        expires: the earliest end of validity in the chain; sessions end with it.
        emergency: came with the site's role for emergencies, and not with a limited proxy: reads what no ACL
            grants (`rights.evaluate.decide`), and rings an alarm by it.
        scopes: what a token narrows its user's rights to; None narrows nothing. `rights.evaluate.decide`
            is the one place that holds it.
        evidence: what the gate keeps to ask again during the session, or the `TokenName` of who is mapped;
            opaque to everybody else.
    """

    dn: str
    fqans: tuple[str, ...]
    limited: bool
    expires: datetime
    emergency: bool = False
    scopes: tuple[Scope, ...] | None = None
    evidence: object = field(default=None, repr=False, compare=False)

    def in_scope(self, permission: str, path: str | None) -> bool:
        """Say whether the caller's token, if it came with one, leaves a permission on a path."""
        return self.scopes is None or within(self.scopes, permission, path)
