"""Checksums in headers: ``Want-Digest`` and ``Digest`` (RFC 3230), and their successors (RFC 9530).

A sender tells the sums of its body by the same, by ``Content-Digest`` or by the older ``Content-MD5``.
Grid clients ask with the first pair and in capitals (``Want-Digest: ADLER32``); adler32 is hexadecimal
there and the others base64. Of several wanted algorithms the one with the highest weight is told.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

_MAX_MEMBERS = 16
_ADLER32_DIGITS = 8


class Algorithm(Enum):
    """What a file can be summed with; the value is the name of RFC 3230."""

    ADLER32 = "adler32"
    MD5 = "md5"
    SHA256 = "sha-256"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of the two pairs of headers."""

    wish: str
    answer: str
    names: Mapping[str, Algorithm]
    structured: bool

    def wanted(self, header: str) -> Algorithm | None:
        """Return the algorithm that a caller likes best of those that we have; None if there is none."""
        members = [_weighted(member, self.structured) for member in header.split(",", _MAX_MEMBERS)]
        known = [(weight, self.names[name]) for name, weight in members if name in self.names and weight > 0]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def value(self, algorithm: Algorithm, digest: bytes) -> str:
        """Return the answering header's value."""
        name = next(name for name, known in self.names.items() if known is algorithm)
        encoded = base64.b64encode(digest).decode("ascii")
        if self.structured:
            return f"{name}=:{encoded}:"
        return f"{name}={digest.hex() if algorithm is Algorithm.ADLER32 else encoded}"

    def told(self, header: str) -> dict[Algorithm, bytes]:
        """Return the sums that a sender says its body has; what cannot be read is as if it were not there."""
        found = {}
        for member in header.split(",", _MAX_MEMBERS):
            name, _, text = member.strip().partition("=")
            algorithm = self.names.get(name.strip().lower())
            digest = _decoded(algorithm, text.strip(":") if self.structured else text) if algorithm else None
            if algorithm and digest is not None:
                found[algorithm] = digest
        return found


RFC3230 = Dialect("Want-Digest", "Digest", {one.value: one for one in Algorithm}, structured=False)
RFC9530 = Dialect(
    "Want-Repr-Digest",
    "Repr-Digest",
    {"adler": Algorithm.ADLER32, "md5": Algorithm.MD5, "sha-256": Algorithm.SHA256},
    structured=True,
)
DIALECTS = (RFC3230, RFC9530)


def told_of(header: Callable[[str], str | None]) -> set[tuple[Algorithm, bytes]]:
    """Return all sums that a sender tells of its body; `header` looks a header of the request up.

    No content coding is taken, so that the content (``Content-Digest``) is the file itself (``Repr-Digest``).
    """
    found = {
        sum_
        for name, dialect in (*((one.answer, one) for one in DIALECTS), ("Content-Digest", RFC9530))
        for sum_ in dialect.told(header(name) or "").items()
    }
    md5 = _decoded(Algorithm.MD5, header("Content-MD5") or "")
    return found | {(Algorithm.MD5, md5)} if md5 else found


def _decoded(algorithm: Algorithm, text: str) -> bytes | None:
    """Read a sum: of adler32 in RFC 3230 eight hexadecimal digits or fewer, of everything else base64."""
    try:
        if algorithm is Algorithm.ADLER32 and len(text) <= _ADLER32_DIGITS:
            try:
                return bytes.fromhex(text.zfill(_ADLER32_DIGITS))
            except ValueError:
                return base64.b64decode(text, validate=True)
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _weighted(member: str, structured: bool) -> tuple[str, float]:
    """Read ``md5;q=0.3`` (RFC 3230) or ``sha-256=10`` (RFC 9530); without a weight it is 1."""
    name, _, weight = member.partition("=" if structured else ";")
    text = weight.strip() if structured else weight.strip().removeprefix("q=")
    try:
        return name.strip().lower(), float(text) if text else 1.0
    except ValueError:
        return name.strip().lower(), 0.0
