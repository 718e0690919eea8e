"""Small things sealed under a key of our own: plugin references, journal lines.

A box is AES-256-SIV (RFC 5297): the same content in the same context gives the same box, a context
other than the one it was made in does not open it, and nobody has to look after nonces. Equal boxes
tell that their contents are equal; give a journal line its number as context where that matters.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from srm_dicom.crypto.derive import derive
from srm_dicom.errors import IntegrityError

OVERHEAD_BYTES = 16


def seal_box(key: bytes, context: str, plain: bytes) -> bytes:
    """Return `plain` sealed for a context, 16 bytes longer."""
    return _cipher(key).encrypt(plain, [context.encode()])


def open_box(key: bytes, context: str, box: bytes) -> bytes:
    """Return the content of a box.

    Raises:
        IntegrityError: another key, another context, or a damaged box.
    """
    try:
        return _cipher(key).decrypt(box, [context.encode()])
    except (InvalidTag, ValueError) as error:
        raise IntegrityError("a sealed record does not open with this key and context") from error


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESSIV:
    return AESSIV(derive(key, "box", length=64))
