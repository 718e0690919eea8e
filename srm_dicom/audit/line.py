"""One line of an audit log, and how lines are chained. Pure.

A line is JSON: sequence number, hash of the line before, time, role, host, the event, and last its own
``hash``: SHA-256 over the line as it stands without that member. The first line's ``prev`` is zeros.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

import msgspec

from srm_dicom.audit.event import Event
from srm_dicom.errors import InternalError

GENESIS = "0" * 64
MAX_LINE_BYTES = 4 * 1024 * 1024
_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"}\Z')


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line without its own hash."""

    seq: int
    prev: str
    when: datetime
    role: str
    host: str
    event: Event


def encode(line: Line) -> tuple[bytes, str]:
    """Return the bytes of a line, newline included, and its hash."""
    body = msgspec.json.encode(line)
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"hash":"' + digest.encode() + b'"}\n', digest


def decode(raw: bytes) -> tuple[Line, str]:
    """Read one line without its newline and check it against its own hash.

    Raises:
        ValueError: not a line, or changed after it was written.
    """
    tail = _TAIL.search(raw)
    if tail is None:
        raise ValueError("the line has no hash")
    body = raw[: tail.start()] + b"}"
    digest = tail[1].decode()
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError("the line was changed after it was written")
    try:
        return msgspec.json.decode(body, type=Line), digest
    except (msgspec.DecodeError, UnicodeDecodeError, InternalError) as error:
        raise ValueError("the line is not an audit event") from error
