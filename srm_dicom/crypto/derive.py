"""Keys from keys: one HKDF call with labels, so that no two purposes ever share a key.

The four lines of RFC 5869 are written out: every file that is sealed needs three keys, and the objects that
the library makes around each cost ten times the hash. A test holds them against the library.
"""

from __future__ import annotations

import hmac

KEY_BYTES = 32
_BLOCK_BYTES = 32


def derive(master: bytes, *labels: str | bytes, length: int = KEY_BYTES) -> bytes:
    """Return the key that `master` has for a purpose (RFC 5869, HKDF-Expand with SHA-256).

    Args:
        master: a uniformly random key of at least 32 bytes.
        labels: what the key is for; ``("a", "bc")`` and ``("ab", "c")`` are different purposes.
        length: bytes wanted.
    """
    if len(master) < KEY_BYTES:
        raise ValueError(f"a master key has at least {KEY_BYTES} bytes")
    info = _info(labels)
    made = block = b""
    for number in range(1, -(-length // _BLOCK_BYTES) + 1):
        block = hmac.new(master, block + info + bytes([number]), "sha256").digest()
        made += block
    return made[:length]


def _info(labels: tuple[str | bytes, ...]) -> bytes:
    encoded = (label.encode() if isinstance(label, str) else label for label in labels)
    return b"srm-dicom" + b"".join(len(label).to_bytes(4, "big") + label for label in encoded)
