"""The one answer of this package: a `Principal`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential has been verified.

    Attributes:
        dn: subject of the end-entity certificate in the canonical slash form
            (``/DC=org/CN=Alice``); never the name of a proxy.
        fqans: VOMS attributes in the order of the credential, the primary one first, without
            ``/Role=NULL`` and ``/Capability=NULL``.
        limited: the chain has a limited proxy; such a caller may read and never administer.
        expires: the earliest end of validity in the chain; sessions end with it.
    """

    dn: str
    fqans: tuple[str, ...]
    limited: bool
    expires: datetime
