"""httpg without I/O: what tells it from https on one port, and the request targets of grid clients.

httpg is HTTP/1.1 inside TLS after one flag of Globus GSI: ``0`` asks for nothing, ``D`` offers to delegate
(the server sends a DER certificate request, the client answers with one DER certificate, then HTTP begins).
The flag is one TLS record of its own, which is how ``D`` differs from the first letter of ``DELETE``.
"""

from __future__ import annotations

import re
from enum import Enum

from srm_dicom.errors import InvalidRequest

NO_DELEGATION = b"0"
DELEGATION = b"D"

_ABSOLUTE_FORM = re.compile(rb"(?:https?|httpg)://[^/?#]+", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Opening(Enum):
    """How a client begins once TLS is up."""

    HTTPS = "https"
    HTTPG = "httpg"
    HTTPG_DELEGATING = "httpg with delegation"


def opening(record: bytes) -> tuple[Opening, bytes]:
    """Tell the opening from the first TLS record, and return the bytes of HTTP that it already holds."""
    if record == DELEGATION:
        return Opening.HTTPG_DELEGATING, b""
    if record.startswith(NO_DELEGATION):
        return Opening.HTTPG, record[1:]
    return Opening.HTTPS, record


def origin_form(target: bytes) -> bytes:
    """Bring a request target to ``/path?query`` (RFC 9112 section 3.2).

    ARC sends the absolute form (``httpg://host:port/srm/managerv2``), others the origin form; ``*`` stays.

    Raises:
        InvalidRequest: the authority form, a foreign scheme, or an invalid percent escape.
    """
    if target == b"*":
        return target
    absolute = _ABSOLUTE_FORM.match(target)
    rest = target[absolute.end() :] if absolute else target
    if absolute and not rest.startswith(b"/"):
        rest = b"/" + rest
    if not rest.startswith(b"/"):
        raise InvalidRequest("the request target is neither a path nor a URL of this server")
    if _BAD_ESCAPE.search(rest):
        raise InvalidRequest("the request target has an invalid percent escape")
    return rest


def der_size(data: bytes) -> int | None:
    """Return the size in bytes of the DER value that `data` begins with; None while it cannot be told.

    Delegation has no framing but that of DER itself (X.690 section 8.1.3, definite form).

    Raises:
        InvalidRequest: not a SEQUENCE of definite length, or one of more than 64 KiB.
    """
    if data[:1] not in (b"", b"\x30"):
        raise InvalidRequest("a DER sequence was expected")
    if len(data) < 2:
        return None
    short = data[1]
    if short < 0x80:
        return 2 + short
    octets = short & 0x7F
    if octets not in (1, 2):
        raise InvalidRequest("a DER sequence of at most 64 KiB was expected")
    if len(data) < 2 + octets:
        return None
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
