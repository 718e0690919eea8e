"""Rule F: who is at the other end of a data connection.

The peer shows a proxy of the user who logged in on the control connection. Its end entity has been
verified there, with CRLs and policies; so here it suffices, and is required, that an unbroken chain of
valid proxies leads from the peer's leaf to *that very certificate*, byte for byte. Names alone prove
nothing: anybody can write a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.chain import MALFORMED, check_proxy_name, is_limited, proxy_info

MAX_DEPTH = 10


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A chain that was good at `since` and, as nothing in it can change, is so until it expires."""

    chain: tuple[bytes, ...]
    end_entity: bytes
    since: datetime
    until: datetime

    def holds(self, chain: tuple[bytes, ...], end_entity: bytes, now: datetime) -> bool:
        """Tell whether it is this chain, and its time."""
        return (self.chain, self.end_entity) == (chain, end_entity) and self.since <= now <= self.until


class SameUser:
    """Verifies the peers of one session, and remembers the last chain: clients show it again and again.

    May be asked by several threads at once.
    """

    def __init__(self) -> None:
        self._last: _Accepted | None = None

    def verify(self, chain: Sequence[bytes], end_entity: bytes, now: datetime) -> None:
        """Do what `verify_same_user` does.

        Raises:
            NotAuthenticated: no such chain.
        """
        shown = tuple(chain)
        if self._last is not None and self._last.holds(shown, end_entity, now):
            return
        until = verify_same_user(shown, end_entity, now)
        self._last = _Accepted(shown, end_entity, now, until)


def verify_same_user(chain: Sequence[bytes], end_entity: bytes, now: datetime) -> datetime:
    """Accept a data peer's chain only if it ends in the control connection's end entity.

    TLS has proven that the peer holds the leaf's key; this proves whose leaf it is.

    Args:
        chain: DER certificates as the peer sent them, the leaf first.
        end_entity: DER of the end-entity certificate verified on the control connection.
        now: for the dates of the proxies.

    Returns:
        The last moment at which every certificate of the chain is valid.

    Raises:
        NotAuthenticated: no such chain.
    """
    leaf_to_end = _until(chain, end_entity)
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in leaf_to_end]
        for depth, (proxy, issuer) in enumerate(pairwise(certificates)):
            _verify_proxy(proxy, issuer, depth, now)
        return min(certificate.not_valid_after_utc for certificate in certificates)
    except (*MALFORMED, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise NotAuthenticated("the data connection's certificate chain is not valid") from error


def _until(chain: Sequence[bytes], end_entity: bytes) -> Sequence[bytes]:
    head = list(chain[: MAX_DEPTH + 1])
    if end_entity not in head:
        raise NotAuthenticated("the data connection is not from the user who logged in")
    return head[: head.index(end_entity) + 1]


def _verify_proxy(proxy: x509.Certificate, issuer: x509.Certificate, depth: int, now: datetime) -> None:
    """Check one link; `depth` proxies stand below this one (RFC 3820, 4.1)."""
    proxy.verify_directly_issued_by(issuer)
    check_proxy_name(proxy, issuer)
    if not proxy.not_valid_before_utc <= now <= proxy.not_valid_after_utc:
        raise NotAuthenticated("a proxy of the data connection is not valid now")
    info = proxy_info(proxy)
    if info is None:
        raise NotAuthenticated("a certificate of the data connection is not a proxy")
    is_limited(proxy, info)
    if info.path_length is not None and depth > info.path_length:
        raise NotAuthenticated("a proxy of the data connection is deeper than its issuer allows")
