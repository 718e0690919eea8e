"""Names that only the holder of a project's key can compute: UIDs, pseudonyms, date shifts, GUIDs.

Nothing is stored: the same key and the same original give the same name over files, series, nodes
and restarts, and over profile versions; two projects share nothing. A patient is (issuer, id).
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from struct import Struct

from srm_dicom.crypto.derive import derive

LONGEST_SHIFT_DAYS = 3652
_LENGTH = Struct(">L")
# Version (8) and variant of RFC 9562, and the bits of a UUID that are free.
_UUID_8 = 0x8 << 76 | 0x2 << 62
_FREE = (1 << 128) - 1 & ~(0xF << 76 | 0x3 << 62)
# What a key is combined with for the two hashes of an HMAC (RFC 2104).
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


# The interpreter's own SHA-256, where it has one: of a few bytes it takes a third of the time of a library's.
_sha256 = getattr(hashlib, "__get_builtin_constructor", lambda name: getattr(hashlib, name))("sha256")


class ProjectKey:
    """Everything that derives from the key of one project."""

    def __init__(self, project_key: bytes) -> None:
        """Take the project's key, at least 32 uniformly random bytes."""
        # Both hashes are copied for each value: the one-shot function of `hmac` lets go of the interpreter,
        # and at a busy stager the way back takes longer than the rest of an object.
        self._macs = {}
        for purpose in ("uid", "patient", "shift", "guid", "study", "series", "instance"):
            key = derive(project_key, "deidentify", purpose).ljust(_sha256().block_size, b"\0")
            self._macs[purpose] = _sha256(key.translate(_INNER)), _sha256(key.translate(_OUTER))

    def uid(self, original: bytes) -> bytes:
        """Return the UID that stands for another: ``2.25.`` and a UUID (PS3.5 B.2)."""
        return b"2.25.%d" % _uuid(self._mac("uid", _LENGTH.pack(len(original)) + original))

    def pseudonym(self, patient_id: str, issuer: str) -> str:
        """Return the patient's name in this project: 16 characters of base32.

        An archive that is asked and an object that is sent may encode one id differently: the text counts.
        """
        return self.short("patient", bare(issuer), bare(patient_id))

    def shift_days(self, patient_id: str, issuer: str) -> int:
        """Return how many days a patient's dates go back, from 1 to ten years."""
        digest = self._digest("shift", bare(issuer), bare(patient_id))
        return 1 + int.from_bytes(digest[:8], "big") % LONGEST_SHIFT_DAYS

    def guid(self, *parts: bytes) -> int:
        """Return the 128 bits of an RFC 9562 version 8 UUID."""
        return _uuid(self._digest("guid", *parts))

    def short(self, purpose: str, *parts: bytes) -> str:
        """Return 80 bits of a keyed name as lower-case base32."""
        return b32encode(self._digest(purpose, *parts)[:10]).decode().lower()

    def _digest(self, purpose: str, *parts: bytes) -> bytes:
        return self._mac(purpose, b"".join([_LENGTH.pack(len(part)) + part for part in parts]))

    def _mac(self, purpose: str, message: bytes) -> bytes:
        inner, outer = self._macs[purpose]
        inner, outer = inner.copy(), outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        digest: bytes = outer.digest()
        return digest


def bare(text: str) -> bytes:
    """Return what a text is derived from: without the padding that a value may have (PS3.5 6.2)."""
    return text.strip(" \0").encode("utf-8")


def _uuid(digest: bytes) -> int:
    """Return 128 bits of a digest, as far as they are free, as a UUID."""
    return int.from_bytes(digest[:16], "big") & _FREE | _UUID_8
