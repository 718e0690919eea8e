"""Third-party copies over HTTP (the WLCG's HTTP-TPC): what a COPY asks for, and the stream that answers it.

One side of the copy is this server and the other is named by a header: `Source` is pulled, `Destination` is
pushed to. `TransferHeader...` are headers for the other side. The answer is told while the copy
runs: performance markers, and a last line that begins with ``success`` or ``failure``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from srm_dicom.errors import InvalidRequest, NotSupported

CONTENT_TYPE = "text/perf-marker-stream"
MAX_HEADERS = 32

_TRANSFER = "HTTP_TRANSFERHEADER"
_FRAMING = frozenset(
    {
        *("connection", "content-length", "content-range", "expect", "host", "keep-alive", "range"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""What only a client itself may say."""

_PASSABLE = re.compile(r"[\t -~]*")
"""Values that every server takes (RFC 9110, 5.5)."""


class Credential(Enum):
    """What is shown to the other side."""

    DELEGATED = "the caller's delegated certificate"
    NONE = "nothing but the transfer headers"


@dataclass(frozen=True, slots=True)
class Copy:
    """What a COPY asks for.

    Attributes:
        url: of the other side.
        pull: from there to here, or from here to there.
        headers: for the other side.
        credential: what is shown to it.
        overwrite: whether what is here may be replaced (RFC 4918, 10.6).
        checksum_needed: whether a copy counts only if the other side told the same checksum.
        shows_nothing: whether neither a credential nor headers for the other side are named.
    """

    url: str
    pull: bool
    headers: tuple[tuple[str, str], ...]
    credential: Credential
    overwrite: bool
    checksum_needed: bool
    shows_nothing: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, object]) -> Copy:
        """Read the headers of a request, as a WSGI environment has them.

        Raises:
            InvalidRequest: not one other side, or headers that cannot be passed on.
            NotSupported: another kind of credential.
        """
        source, destination = (_value(environ, name) for name in ("SOURCE", "DESTINATION"))
        if (source is None) is (destination is None):
            raise InvalidRequest("a COPY has a Source or a Destination")
        headers, kind = _transfer_headers(environ), _value(environ, "CREDENTIAL")
        return cls(
            url=source or destination or "",
            pull=source is not None,
            headers=headers,
            credential=_credential(kind, headers),
            overwrite=(_value(environ, "OVERWRITE") or "T").upper() != "F",
            checksum_needed=(_value(environ, "REQUIRECHECKSUMVERIFICATION") or "").lower() == "true",
            shows_nothing=kind is None and not headers,
        )


def marker(now: datetime, moved_bytes: int, peer: tuple[str, int] | None) -> bytes:
    """Return a performance marker: a copy is one stripe, over one connection."""
    lines = [
        "Perf Marker",
        f"    Timestamp: {int(now.timestamp())}",
        "    Stripe Index: 0",
        f"    Stripe Bytes Transferred: {moved_bytes}",
        "    Total Stripe Count: 1",
    ]
    if peer is not None:
        host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
        lines.append(f"    RemoteConnections: tcp:{host}:{peer[1]}")
    return "\n".join([*lines, "End", ""]).encode("ascii")


def success() -> bytes:
    """Return the last line of a copy that is done."""
    return b"success: Created\n"


def failure(reason: str) -> bytes:
    """Return the last line of a copy that is not done."""
    return f"failure: {' '.join(reason.split())}\n".encode("utf-8", "replace")


def _value(environ: Mapping[str, object], name: str) -> str | None:
    value = environ.get(f"HTTP_{name}")
    return str(value).strip() if value is not None else None


def _transfer_headers(environ: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    found = []
    for key, value in environ.items():
        name = key.removeprefix(_TRANSFER).replace("_", "-").title()
        if not key.startswith(_TRANSFER) or not name:
            continue
        if name.lower() in _FRAMING:
            raise InvalidRequest(f"{name} is not for the other side of a copy")
        if not _PASSABLE.fullmatch(str(value)):
            raise InvalidRequest(f"{name} has characters that no header may have")
        found.append((name, str(value)))
    if len(found) > MAX_HEADERS:
        raise InvalidRequest(f"at most {MAX_HEADERS} headers are passed on")
    return tuple(found)


def _credential(kind: str | None, headers: tuple[tuple[str, str], ...]) -> Credential:
    token = any(name == "Authorization" for name, _ in headers)
    match (kind or "").lower():
        case "":
            return Credential.NONE if token else Credential.DELEGATED
        case "none":
            return Credential.NONE
        case "gridsite":
            return Credential.DELEGATED
    raise NotSupported("a copy shows a delegated certificate (Credential: gridsite) or nothing (none)")
